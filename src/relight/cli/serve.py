"""`relight serve FILE`: the file's apps for as long as this command, deployed anew each time that a file is saved."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
from watchfiles import PythonFilter, watch

from relight.cli.files import split_target
from relight.protocol.errors import Unavailable
from relight.protocol.manifest import Json
from relight.sdk.bundle import is_nobodys, source_of
from relight.sdk.connection import Connection, connect
from relight.sdk.requests import quoted
from relight.sdk.run import running
from relight.sdk.session import Session

QUIET_MS = 20
"""A save is over when nothing has changed for so long: some editors write a file in several steps."""

MOST_MS = 200
LOOK_MS = 200


@click.command()
@click.argument("file")
def serve(*, file: str) -> int:
    """Serve the app in FILE until Ctrl-C, with each change as soon as it is saved; its URLs stay.

    What its functions write is shown here, and so is what is wrong with a file that does not load, which a page that is
    open shows, too: for all others the version before it goes on.

    \b
    Example:
      relight serve hello.py
    """
    path, _ = split_target(file)
    connection = connect()
    try:
        with ExitStack() as runs, _reloader(path) as reload:
            served = _Served(path, connection, runs, reload)
            for changes in _saves(path):
                if changes or not served.has_begun:
                    served.load()
    except KeyboardInterrupt:
        click.echo("relight: stopped serving", err=True)
    return 0


Reload = Callable[[dict[str, str]], dict[str, Json]]


@dataclass(slots=True)
class _Served:
    """What is served now: each app's run, by the app's name."""

    path: Path
    connection: Connection
    runs: ExitStack
    reload: Reload
    environments: dict[str, str] = field(default_factory=dict)
    has_begun: bool = False
    has_fault: bool = False

    def load(self) -> None:
        """Load and deploy what the file has become, and say so."""
        self.has_begun = True
        began = time.perf_counter()
        outcome = self.reload(self.environments)
        if outcome["code"]:
            self._tell_fault(str(outcome["fault"]))
            before = "; the version before it serves on" if self.environments else ""
            click.echo(
                f"relight: {self.path.name} does not load{before}; it is loaded again when a file is saved", err=True
            )
            return
        if self.has_fault:
            self._tell_fault("")
        took = time.perf_counter() - began
        apps = outcome["apps"]
        for app in apps if isinstance(apps, list) else ():
            if isinstance(app, dict):
                self._tell(app, took)

    def _tell(self, app: dict[str, Json], took: float) -> None:
        name, environment = str(app["app"]), str(app["environment"])
        if self.environments.get(name) == environment:
            click.echo(f"relight: reloaded {name} in {took * 1000:.0f} ms", err=True)
            return
        self.environments[name] = environment
        self.runs.enter_context(running(Session(self.connection, name, environment)))
        click.echo(f"relight: serving {name}, with each change as it is saved; Ctrl-C ends it", err=True)
        functions, urls = app["functions"], app["urls"]
        sites = urls if isinstance(urls, dict) else {}
        for function in functions if isinstance(functions, list) else ():
            path = f"/v1/apps/{quoted(name)}/functions/{quoted(str(function))}/call?environment={environment}"
            click.echo(f"  {function}  {sites.get(str(function), f'{self._url()}{path}')}", err=True)

    def _tell_fault(self, text: str) -> None:
        """Have open pages show what is wrong; "" for nothing."""
        self.has_fault = bool(text)
        for environment in self.environments.values():
            self.connection.json("POST", f"/v1/runs/{environment}/fault", {"text": text})

    def _url(self) -> str:
        address = self.connection.address
        if not address.path:
            return str(address)
        facts = json.loads(Path(address.path).with_name("server.json").read_text())
        return str(facts.get("url", ""))


def _saves(path: Path) -> Iterator[object]:
    """Something false soon, and now and then; something true each time that a Python file beside it, or below, was saved."""
    folder = source_of(path.stem, str(path)).folder
    return watch(
        folder if not is_nobodys(folder) else path.parent,
        recursive=not is_nobodys(folder),
        watch_filter=PythonFilter(),
        debounce=MOST_MS,
        step=QUIET_MS,
        rust_timeout=LOOK_MS,
        yield_on_timeout=True,
    )


@contextmanager
def _reloader(path: Path) -> Iterator[Reload]:
    """The process that loads the file (`reloading`), as a function: it is given the environments that are known."""
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "relight.cli.reloading", str(path), str(writer)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[writer], text=True, start_new_session=True)
    os.close(writer)
    with os.fdopen(reader) as answers:

        def reload(environments: dict[str, str]) -> dict[str, Json]:
            assert process.stdin is not None
            process.stdin.write(json.dumps(environments) + "\n")
            process.stdin.flush()
            answer = answers.readline()
            if not answer:
                raise Unavailable(
                    f"cannot load {path}: the process that loads it has ended with {process.wait()}; serve it again"
                )
            outcome: dict[str, Json] = json.loads(answer)
            return outcome

        try:
            yield reload
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # and what it has forked: a file may take for ever to load
            process.communicate()
