"""The rooms of relight, lowest first, and what each may import.  A new line here is a design decision.

Nothing is imported or run: what a file imports is read from its syntax tree, and lazy and typing-only imports count.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = "relight"
ROOT = Path(__file__).parent.parent / "src" / PACKAGE
FILES = sorted(path for path in ROOT.rglob("*.py") if "_vendor" not in path.relative_to(ROOT).parts)

# Modules beside the rooms: what each may import, and who may import it (None: anyone).
LEAVES: dict[str, tuple[set[str], set[str] | None]] = {
    "clock": (set(), None),
    "backoff": (set(), None),
    "log": (set(), None),
    "forge": (set(), {"control", "server"}),  # git, and HTTP to where source code is kept; control.sources is handed it
    "transport": ({"protocol"}, {"links", "agent", "server"}),  # carries protocol.streams; server.py builds it
}

MAY_IMPORT: dict[str, set[str]] = {
    "protocol": set(),  # standard library only: the ground every machine stands on
    "sandbox": {"protocol"},  # knows nothing of apps, calls or the server
    "runtime": {"protocol", "sandbox"},  # runs inside the sandbox, on the user's Python
    "sdk": {"protocol"},  # starts an embedded server as a process, so it needs none of the server's code
    "blobs": {"protocol"},
    "store": {"protocol", "blobs"},
    "builder": {"protocol", "blobs", "sandbox"},
    "metering": {"protocol", "store"},
    "scheduler": {"protocol", "store"},
    "agent": {"protocol", "blobs", "sandbox", "builder"},  # told what it needs by its arguments: reads no settings
    "control": {"protocol", "blobs", "store", "scheduler", "metering"},
    "links": {"protocol", "control"},
    "gateway": {"protocol", "control"},
    "dialects": {"protocol", "control"},
    "dashboard": {"protocol", "control"},
    "planner": {"protocol", "scheduler", "metering"},
    "fleet": {"protocol", "agent"},
    "settings": {"protocol"},
    "server": {
        *("protocol", "settings", "blobs", "store", "scheduler", "metering"),
        *("control", "links", "gateway", "dialects", "dashboard", "fleet"),
    },
    "cli": {"protocol", "sdk", "settings", "server", "agent", "builder", "metering", "planner", "sandbox"},
    "testing": {"protocol", "sdk"},  # the pytest plugin
    "exception": {"protocol", "sdk"},
    "__init__": {"protocol", "sdk", "exception"},
    "__main__": {"cli"},
}

STANDARD_LIBRARY_ONLY = {"protocol", "sandbox", "runtime", "sdk", "exception", "__init__", "clock", "backoff"}

# Each dangerous thing has one door.
ONLY_IN = {
    "ctypes": ["sandbox/syscalls.py", "runtime/native.py", "runtime/gputest.py"],  # the last is a program of its own
    "sqlite3": ["store/"],
    "psycopg": ["store/"],
    "pickle": ["protocol/values.py"],
    "os.environ": ["settings.py", "sdk/environment.py", "runtime/"],
    "os.getenv": ["settings.py", "sdk/environment.py", "runtime/"],
    "time.monotonic": ["clock.py", "runtime/"],
    "time.time": ["clock.py", "runtime/"],
}


def room_of(path: Path) -> str:
    """The first part below the package: a folder, or a module's own name."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def imported(path: Path) -> tuple[tuple[int, str], ...]:
    """Every module or name a file imports, dotted and absolute, with its line."""
    here = [PACKAGE, *path.relative_to(ROOT).with_suffix("").parts]
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = here[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found += ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
    return tuple(found)


def imported_rooms(path: Path) -> Iterator[tuple[int, str, str]]:
    """What a file imports of ours: the line, the room, the full name."""
    for line, name in imported(path):
        if name.startswith(f"{PACKAGE}."):
            room = name.split(".")[1]
            is_room = room in MAY_IMPORT or room in LEAVES or (ROOT / room).exists() or (ROOT / f"{room}.py").exists()
            yield line, room if is_room else "__init__", name  # `from relight import App` takes a name of the package


def allowed_in(room: str) -> set[str]:
    """The rooms and leaves that a room may import, itself among them."""
    own = LEAVES[room][0] if room in LEAVES else MAY_IMPORT.get(room, set())
    leaves = {leaf for leaf, (_, importers) in LEAVES.items() if importers is None or room in importers}
    return own | {room} | (leaves if room not in LEAVES else set())


def test_every_file_is_in_a_room_of_the_table() -> None:
    unknown = {room_of(path) for path in FILES} - set(MAY_IMPORT) - set(LEAVES)

    assert not unknown, (
        f"{sorted(unknown)} stand in no line of the table: give each its line, and say what it may import"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_the_rooms_its_own_room_may(path: Path) -> None:
    room = room_of(path)

    strays = [f"line {line}: {name}" for line, other, name in imported_rooms(path) if other not in allowed_in(room)]

    assert not strays, f"{room} may import {sorted(allowed_in(room))}, but {path.name} has {'; '.join(strays)}"


@pytest.mark.parametrize("room", sorted(STANDARD_LIBRARY_ONLY))
def test_what_runs_on_the_users_python_needs_the_standard_library_alone(room: str) -> None:
    known = {*sys.stdlib_module_names, PACKAGE}

    strays = [
        f"{path.relative_to(ROOT)} line {line}: {name}"
        for path in FILES
        if room_of(path) == room
        for line, name in imported(path)
        if name.split(".")[0] not in known
    ]

    assert not strays, f"{room} may not need a package: {'; '.join(strays)}"


def test_only_the_two_ends_of_a_call_open_user_values() -> None:
    openers = {
        room_of(path) for path in FILES for _, name in imported(path) if name.startswith("relight.protocol.values")
    }

    assert openers <= {"protocol", "sdk", "runtime"}


def test_the_rooms_have_an_order() -> None:
    placed: set[str] = set()
    waiting = dict(MAY_IMPORT)

    while waiting:
        ready = {room for room, needs in waiting.items() if needs <= placed}
        assert ready, f"these rooms import one another in a circle: {sorted(waiting)}"
        placed |= ready
        waiting = {room: needs for room, needs in waiting.items() if room not in placed}


def test_no_module_imports_one_that_imports_it() -> None:
    names = {".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)): path for path in FILES}
    waiting = {
        name: {one for _, full in imported(path) for one in (full, full.rpartition(".")[0]) if one in names}
        for name, path in names.items()
    }

    while ready := {name for name, needs in waiting.items() if not needs & waiting.keys() - {name}}:
        waiting = {name: needs for name, needs in waiting.items() if name not in ready}

    assert not waiting, f"these import one another in a circle, or what does: {sorted(waiting)}"


@pytest.mark.parametrize("thing", ONLY_IN)
def test_a_dangerous_thing_has_one_door(thing: str) -> None:
    whole_name = re.compile(rf"(?<![\w.]){re.escape(thing)}(?!\w)")
    doors = tuple(ONLY_IN[thing])

    strays = [
        path.relative_to(ROOT).as_posix()
        for path in FILES
        if not path.relative_to(ROOT).as_posix().startswith(doors) and whole_name.search(code_of(path))
    ]

    assert not strays, f"{strays} use {thing}; go through {ONLY_IN[thing]}"


@cache
def code_of(path: Path) -> str:
    """The file's code and strings, one name per use: comments and docstrings drop out, `from x import y` reads x.y."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0].value.value = ""
    return ast.unparse(tree) + "\n" + "\n".join(name for _, name in imported(path))
