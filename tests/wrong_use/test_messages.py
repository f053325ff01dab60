"""Every message that is written in relight's source, whether a wrong use leads to it or not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from relight.protocol.errors import ERRORS, RelightError
from wrong_use.harness import OWN

NAMES = {error.__name__ for error in ERRORS.values()} | {"RemoteError", "RelightError", "InvalidInput"}
HOLE = "\N{BULLET}"
"""What stands for a part that is made at run time."""

BETWEEN_MACHINES = (
    *("agent/", "links/", "sandbox/", "transport.py", "runtime/channel.py", "runtime/worker.py", "runtime/template.py"),
    *("runtime/concurrency.py", "runtime/base.py"),
    *("protocol/streams.py", "protocol/codec.py", "protocol/web.py"),
    *("control/nodes.py", "control/exchanges.py", "control/web.py"),
)
"""Where messages are of one program of ours about another: nobody can act on them but whoever mends it."""

NEXT = re.compile(rf"; |\?|{HOLE}$")
"""What to do is said after a semicolon, as a question, or by what the message ends with."""

BEGINNING = re.compile(rf"cannot |{HOLE}")


def messages() -> Iterator[tuple[str, str]]:
    """Each error of ours that is made with its message, and each failure: where, and its text with holes."""
    for path in sorted(Path(OWN).rglob("*.py")):
        if "_vendor" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (said := _message(node)) is not None:
                yield f"{path.relative_to(OWN)}:{node.lineno}", _text(said)


def _message(call: ast.Call) -> ast.expr | None:
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    if name in NAMES and call.args:
        return call.args[0]
    if name == "Failure":
        return next((keyword.value for keyword in call.keywords if keyword.arg == "message"), None)
    return None


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    return HOLE


def test_every_message_says_first_what_cannot_be_done() -> None:
    strays = [f"{where}: {text}" for where, text in messages() if not BEGINNING.match(text)]

    assert strays == []


def test_every_message_that_people_read_says_why_and_what_next() -> None:
    read = [(where, text) for where, text in messages() if not where.startswith(BETWEEN_MACHINES)]

    strays = [f"{where}: {text}" for where, text in read if not (re.search(rf": |^{HOLE}", text) and NEXT.search(text))]

    assert strays == []


def test_the_look_at_messages_finds_those_that_there_are() -> None:
    assert len(list(messages())) > 200
    assert issubclass(RelightError, Exception)
