"""Loads a user's file and deploys it, anew each time that it is told to: each time in a process of its own.

    command ─▶ this process, which has imported what the file needs of others ─fork▶ loads the file, deploys, says what became of it

Only the user's own modules are executed again; those that they import from elsewhere are imported here once, after the
first time.  This process has no thread, so that it may be forked.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from relight.cli import failures
from relight.cli.files import outline_of
from relight.clock import now_ms
from relight.protocol.errors import RelightError
from relight.protocol.ids import new_id
from relight.protocol.manifest import FunctionSpec, Json
from relight.sdk.bundle import source_of
from relight.sdk.connection import connect
from relight.sdk.files import apps_of, load

FAILED = 1
_UNTOLD = "its process was killed while it was loaded"


class Reloading:
    """`orders` holds a line for each load: the environments of the apps that are known, as JSON; `say` is told the outcome."""

    def __init__(self, path: Path, orders: TextIO, say: Callable[[Json], None]) -> None:
        self._path = path
        self._orders = orders
        self._say = say

    def run(self) -> int:
        """Load whenever told to; returns when nobody will any more."""
        for line in self._orders:
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(reader)
                code = self._load(json.loads(line), writer)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)  # what the user's modules want done at the end is for the worker
            os.close(writer)
            with os.fdopen(reader) as said:
                outcome = said.read()
            _, status = os.waitpid(pid, 0)
            told: dict[str, Json] = {"apps": [], "modules": [], "fault": _UNTOLD, **json.loads(outcome or "{}")}
            modules = told.pop("modules")
            assert isinstance(modules, list), "the child says so"
            self._say({**told, "code": os.waitstatus_to_exitcode(status)})
            _import(map(str, modules))
        return 0

    def _load(self, environments: dict[str, str], writer: int) -> int:
        """In the child."""
        before = frozenset(sys.modules)
        said: dict[str, Json] = {}
        try:
            outline = outline_of(self._path)
            with failures.of_user_code(self._path) as outcome:
                module = load(self._path, stops_at_run=outline.is_script)
            if outcome.has_failed:
                said = {"fault": outcome.told or f"it left with {outcome.code} while it was loaded"}
                return outcome.code
            connection = connect()
            apps: list[Json] = []
            for app in apps_of(module):
                environment = environments.get(app.name) or new_id("run", now_ms())
                deployed = app.deploy_at_once(connection, environment)
                names: list[Json] = [*_names(app.specs())]
                told: dict[str, Json] = {"version": deployed.version, "functions": names, "urls": dict(deployed.urls)}
                apps.append({"app": app.name, "environment": environment, **told})
            modules: list[Json] = [*_from_elsewhere(before, source_of(module.__name__, str(self._path)).folder)]
            said = {"apps": apps, "modules": modules}
        except RelightError as error:
            sys.stderr.write(f"relight: {error}\n")
            said = {"fault": str(error)}
            return FAILED
        finally:
            with os.fdopen(writer, "w") as outcomes:
                json.dump(said, outcomes)
        return 0


def _names(specs: Iterable[FunctionSpec]) -> Iterator[str]:
    for spec in specs:
        for method in spec.methods:
            yield f"{spec.name}.{method.name}" if method.name else spec.name


def _from_elsewhere(before: Collection[str], folder: Path) -> Iterator[str]:
    """The modules that were imported since, and are not the user's own."""
    installed = [Path(prefix) for prefix in {sys.prefix, sys.base_prefix}]
    for name, module in tuple(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name in before or not isinstance(file, str):
            continue
        path = Path(file).resolve()
        if not path.is_relative_to(folder) or any(path.is_relative_to(prefix) for prefix in installed):
            yield name


def _import(names: Iterable[str]) -> None:
    """Have these ready for the next time; one that cannot be imported by itself is not needed by itself."""
    for name in names:
        with suppress(Exception):
            importlib.import_module(name)


def main(arguments: Sequence[str]) -> int:
    """Serve the command that started this: FILE, and the descriptor of the pipe to answer on."""
    file, descriptor = arguments
    sys.dont_write_bytecode = True  # two saves in one second would be told apart by nothing
    with os.fdopen(int(descriptor), "w") as answers:
        os.set_inheritable(answers.fileno(), False)

        def say(outcome: Json) -> None:
            answers.write(json.dumps(outcome) + "\n")
            answers.flush()

        return Reloading(Path(file), sys.stdin, say).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
