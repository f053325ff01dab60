"""One server for all wrong uses, with an app deployed, and a folder for each."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from servers import Server
from wrong_use.harness import OWN, Place

SHOP = """
from typing import Annotated, Literal

import relight

app = relight.App("shop")


@app.function()
def square(x: int) -> int:
    return x * x


@app.function()
def model():
    return {1, 2}


@app.function()
def count(to: int):
    yield from range(to)


@app.function()
def measure(page: relight.File) -> int:
    return page.size


@app.function()
def resize(width: Annotated[int, relight.Input(ge=1, le=100)], mode: Literal["fit", "fill"] = "fit") -> str:
    return f"{mode} {width}"


@app.cls()
class Reader:
    size: int = relight.parameter(default=1)

    @relight.method()
    def read(self, text: str) -> str:
        return text * self.size
"""


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="rl-") as folder:
        started = Server(Path(folder) / "data")
        started.start()
        try:
            (Path(folder) / "shop.py").write_text(SHOP)
            relight(started, "deploy", f"{folder}/shop.py")
            yield started
        finally:
            started.stop()


@pytest.fixture(scope="session")
def tokens(server: Server) -> dict[str, str]:
    """A token that may only call, one that may only call another app, and one whose time is over."""
    made = {
        "caller": relight(server, "token", "create", "--name", "caller", "--scope", "call"),
        "foreign": relight(server, "token", "create", "--name", "foreign", "--scope", "call", "--app", "library"),
        "expired": relight(server, "token", "create", "--name", "expired", "--scope", "call", "--expires", "1s"),
    }
    return {name: secret.strip() for name, secret in made.items()}


class _Somebody(BaseHTTPRequestHandler):
    """A web server that is not relight."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._answer()

    def _answer(self) -> None:
        body = b"<html>no such page</html>"
        self.send_response(404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="session")
def other() -> Iterator[int]:
    """The port of a web server that is not relight."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Somebody) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def place(server: Server, tokens: dict[str, str], other: int, tmp_path: Path) -> Iterator[Place]:
    with socket.socket() as taken, socket.socket() as free:
        for one in (taken, free):
            one.bind(("127.0.0.1", 0))
        taken.listen()  # nobody listens on the other, and nobody can take it meanwhile
        words = {
            **tokens,
            "folder": str(tmp_path),
            "data": str(server.folder),
            "url": server.url,
            "token": server.token,
            "taken": str(taken.getsockname()[1]),
            "free": str(free.getsockname()[1]),
            "other": str(other),
        }
        yield Place(folder=tmp_path, words=words)


def relight(server: Server, *words: str) -> str:
    """What a command says."""
    done = subprocess.run(
        [sys.executable, "-m", "relight", *words],
        env={"RELIGHT_DATA_DIR": str(server.folder), "PATH": "", "PYTHONPATH": str(Path(OWN).parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout
