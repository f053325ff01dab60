"""The command line for tests: in a folder of its own with an app in it, and beside a server of its own."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

APP = dedent(
    """
    import time
    import relight

    app = relight.App("shop")

    def deeper(x):
        raise ValueError(f"bad {x}")

    @app.function()
    def square(x: int, *, loudly: bool = False) -> int:
        print("squaring", x)
        return x * x

    @app.function()
    def fail(x: int = 1):
        return deeper(x)

    @app.function()
    def model():
        return {1, 2}

    @app.function()
    def sleep(seconds: int = 600):
        print("sleeping", flush=True)
        time.sleep(seconds)

    @app.function()
    def count(to: int = 3, seconds: float = 0.0):
        for number in range(to):
            print("counting", number)
            yield {"number": number}
            time.sleep(seconds)

    @app.cls()
    class Reader:
        @relight.enter()
        def load(self):
            self.n = 3

        @relight.method()
        def read(self, text: str) -> str:
            return text * self.n
    """
)
SCRIPT = dedent(
    """
    import sys
    import relight

    app = relight.App()

    @app.function()
    def greet(name: str) -> str:
        return f"hello {name}"

    with app.run():
        result = greet.remote(sys.argv[1])
    print(result)
    """
)


@dataclass(frozen=True)
class Cli:
    """The command line, in a folder of its own."""

    folder: Path
    data: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        """No variable of ours leads elsewhere."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RELIGHT_")}
        return {**kept, "RELIGHT_DATA_DIR": str(self.data), **self.variables}

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "relight", *words]
        return subprocess.run(
            command, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=60, check=False
        )

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """A command that goes on."""
        command = [sys.executable, "-m", "relight", *words]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def json(self, *words: str) -> Any:
        """What a command says with --json."""
        found = self(*words, "--json")
        assert found.returncode == 0, found.stderr
        return json.loads(found.stdout)


def read_line(process: subprocess.Popen[str]) -> str:
    """The next line of its output."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 30)[0], "it said nothing"
    return process.stdout.readline()


@contextmanager
def in_new_folders(folder: Path) -> Iterator[Cli]:
    """The command line with the files in `folder`, and its data in a folder of few letters, as a socket's path must be."""
    (folder / "shop.py").write_text(APP)
    (folder / "script.py").write_text(SCRIPT)
    with tempfile.TemporaryDirectory(prefix="rl-") as data:
        yield Cli(folder, Path(data))


@contextmanager
def beside_a_server(folder: Path) -> Iterator[Cli]:
    """The command line beside a server that has the app deployed."""
    with (
        in_new_folders(folder) as cli,
        cli.begin("up", "--port", "0", "--declare-gpu", "A100:1") as server,
    ):
        try:
            said = read_line(server)
            assert re.fullmatch(r"relight is up at http://127\.0\.0\.1:\d+\n", said), said
            deployed = cli("deploy", "shop.py")
            assert deployed.returncode == 0, deployed.stderr
            assert "relight call shop/square --x …" in deployed.stdout
            yield cli
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=30)
            assert server.returncode == 0
