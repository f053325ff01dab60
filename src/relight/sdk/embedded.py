"""A server of one's own, for one run: a process with its own folder, which leaves when this process does.

It holds the reading end of a pipe of which only this process has the other: when that ends, however it ends, it leaves.
Its folder is kept for a while, so that what happened can still be asked.
"""

from __future__ import annotations

import json
import os
import select
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from relight.clock import SystemClock, now_ms
from relight.protocol.errors import Unavailable
from relight.protocol.ids import new_id

if TYPE_CHECKING:
    import subprocess

KEPT_SECONDS = 7 * 24 * 3600.0
START_SECONDS = 30.0
LEAVE_SECONDS = 15.0
OLDEST_PYTHON = (3, 11)


class Embedded:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, lifeline: int, socket: str) -> None:
        self._process = process
        self._lifeline = lifeline
        self.folder = folder
        self.socket = socket

    def is_alive(self) -> bool:
        """Whether it still runs; it does not come back."""
        return self._process.poll() is None

    def close(self) -> None:
        """Let it leave, and wait until it has."""
        from subprocess import TimeoutExpired

        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        try:
            self._process.wait(LEAVE_SECONDS)
        except TimeoutExpired:
            self._process.kill()
            self._process.wait()


def start(runs: Path) -> Embedded:
    """Start one below `runs`.  Raises Unavailable saying why it did not start."""
    if sys.platform != "linux":
        raise Unavailable(
            f"cannot start a server: it needs Linux, and this is {sys.platform}; "
            "start `relight up` on a Linux machine, and log in to it with `relight login`"
        )
    if sys.version_info < OLDEST_PYTHON:
        raise Unavailable(
            f"cannot start a server: it needs Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]}, and this is "
            f"{sys.version_info.major}.{sys.version_info.minor}; start `relight up` with a newer one, and run this again"
        )
    _prune(runs)
    folder = runs / new_id("run", now_ms())
    folder.mkdir(mode=0o700, parents=True)
    return _launch(folder)


def reopen(folder: Path) -> Embedded:
    """A server for the folder of a run that has ended: it answers what is asked, and runs nothing."""
    return _launch(folder, "--no-agent")


def _launch(folder: Path, *options: str) -> Embedded:
    import subprocess  # 10 ms that a worker need not pay for `import relight`

    ready, ready_child = os.pipe()
    parent, lifeline = os.pipe()
    try:
        with (folder / "server.out").open("ab") as output:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "relight", "up", "--embedded", "--data-dir", str(folder)),
                    *("--ready-fd", str(ready_child), "--parent-fd", str(parent)),
                    *("--library-dir", str(folder.parent.parent / "library")),  # the next run needs it as it is
                    *options,
                ],
                pass_fds=(ready_child, parent),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for this process, which then says what becomes of its calls
            )
        os.close(ready_child)
        ready_child = -1
        return Embedded(process, folder, lifeline, _wait_ready(process, folder, ready))
    except BaseException:
        os.close(lifeline)
        raise
    finally:
        for descriptor in (ready, ready_child, parent):
            if descriptor >= 0:
                os.close(descriptor)


def _wait_ready(process: subprocess.Popen[bytes], folder: Path, ready: int) -> str:
    """Its socket, once it says so."""
    said = b""
    deadline = SystemClock().monotonic() + START_SECONDS
    while not said.endswith(b"\n"):
        left = deadline - SystemClock().monotonic()
        if left <= 0 or not select.select([ready], [], [], left)[0]:
            process.kill()
            raise Unavailable(
                f"cannot start a server: it was not ready in {START_SECONDS:g} s; see {folder}/server.out"
            )
        part = os.read(ready, 4096)
        if not part:
            break
        said += part
    answer = json.loads(said) if said.endswith(b"\n") else {}
    if "socket" in answer:
        return str(answer["socket"])
    code = process.wait(LEAVE_SECONDS)
    why = answer.get("error") or f"it left with code {code}: {_last_line(folder / 'server.out')}"
    raise Unavailable(f"cannot start a server: {why}; see {folder}/server.out")


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"


def _prune(runs: Path) -> None:
    """Forget what is older than `KEPT_SECONDS`."""
    if not runs.is_dir():
        return
    import shutil  # 8 ms that a worker need not pay for `import relight`

    oldest = SystemClock().now() - KEPT_SECONDS
    for folder in runs.iterdir():
        with suppress(FileNotFoundError):  # another may be forgetting it at this moment
            if folder.is_dir() and folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)
