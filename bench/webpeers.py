"""Who serves beside relight: processes that listen on a port, one worker each."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import HERE, environment

START_SECONDS = 90.0

_LITSERVE = """
import sys, litserve

class Noop(litserve.LitAPI):
    def setup(self, device): pass
    def decode_request(self, request): return request
    def predict(self, x): return {"ok": True}
    def encode_response(self, output): return output

if __name__ == "__main__":
    litserve.LitServer(Noop(), accelerator="cpu").run(port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False, log_level="warning")
"""
_RAY = """
import sys, time, ray
from ray import serve

@serve.deployment(num_replicas=1, max_ongoing_requests=100)
class Noop:
    async def __call__(self, request): return {"ok": True}

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
serve.run(Noop.bind())
while True: time.sleep(60)
"""
PROGRAMS = {"litserve": ("litserve", _LITSERVE, "/predict"), "ray": ("ray.serve", _RAY, "/")}


def missing(peer: str) -> str:
    """Why a peer cannot be measured, "" when it can."""
    package = PROGRAMS[peer][0].partition(".")[0]
    return "" if importlib.util.find_spec(package) else f"{package} is not installed"


@contextmanager
def uvicorn(folder: Path) -> Iterator[str]:
    """The site on uvicorn, with one worker; its URL."""
    port = _free_port()
    words = ["-m", "uvicorn", "website:site", "--port", str(port), "--log-level", "warning", "--no-access-log"]
    with _running(words, folder, f"http://127.0.0.1:{port}/", None):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def program(peer: str, folder: Path) -> Iterator[str]:
    """A peer that does nothing; the URL of that."""
    _, text, path = PROGRAMS[peer]
    port = _free_port()
    folder.mkdir(exist_ok=True)
    script = folder / f"{peer}_noop.py"
    script.write_text(text)
    url = f"http://127.0.0.1:{port}{path}"
    with _running([str(script), str(port)], folder, url, b"{}" if peer == "litserve" else None):
        yield url


@contextmanager
def _running(words: list[str], folder: Path, url: str, body: bytes | None) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    with (folder / "peer.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *words],
            stdout=log,
            stderr=log,
            cwd=HERE,
            env=environment(folder),
            start_new_session=True,
        )
    try:
        _wait_answer(url, body, process, folder)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_answer(url: str, body: bytes | None, process: subprocess.Popen[bytes], folder: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while why := _why_silent(url, body):
        if time.monotonic() > until or process.poll() is not None:
            words = (folder / "peer.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"cannot measure {url}: it does not answer ({why}); it said:\n{words}")
        time.sleep(0.1)


def _why_silent(url: str, body: bytes | None) -> str:
    try:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"} if body else {})
        urllib.request.urlopen(request, timeout=5).close()
    except OSError as error:
        return str(error)
    return ""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])
