"""A relight server of a measurement's own, and what is asked of it beside the SDK."""

from __future__ import annotations

import http.client
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from harness import HERE, environment

START_SECONDS = 30.0
LEAVE_SECONDS = 60.0
GONE_SECONDS = 60.0
POLL_SECONDS = 0.005
IDLE_SECONDS = 30.0
"""A connection that was not used for so long may be closed by the server at any moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """How the workers of a function were started on one level, as the server tells it: medians, from the order until
    each was ready."""

    app: str
    function: str
    level: str
    count: int
    failed: int
    p50_ms: float
    phases_ms: dict[str, float]
    why: dict[str, int]


class Server:
    """`relight up` on a folder of its own."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.folder = folder
        self.pid = pid
        self._url = str(json.loads((folder / "run" / "server.json").read_text())["url"])
        self._headers = {"Authorization": f"Bearer {(folder / 'token').read_text().strip()}"}
        self._asked_at = 0.0
        self._connection = http.client.HTTPConnection(urlsplit(self._url).netloc, timeout=300)

    def post(self, path: str, body: bytes) -> bytes:
        """The answer's body, over a connection that is kept.  Raises RuntimeError for any status but 200."""
        return self._ask("POST", path, body)

    def get(self, path: str, **query: str | float) -> Any:
        """What a path says."""
        return json.loads(self._ask("GET", f"{path}?{urlencode(query)}" if query else path, None))

    def workers(self, app: str = "") -> list[dict[str, Any]]:
        """The workers there are, of one app or of all."""
        return [one for one in self.get("/v1/workers")["workers"] if app in ("", one["app"])]

    def wait_gone(self, app: str = "") -> None:
        """Return when no worker is left, so that the next call finds none."""
        until = time.monotonic() + GONE_SECONDS
        while left := self.workers(app):
            if time.monotonic() > until:
                raise RuntimeError(f"cannot measure: {len(left)} workers are still there, such as {left[0]}")
            time.sleep(POLL_SECONDS)

    def started(self, since: float) -> list[Started]:
        """All starts from then on, in seconds since 1970."""
        said = self.get("/v1/starts/summary", since=since)
        return [_started(group, said["reasons"]) for group in said["groups"]]

    def group_folders(self, sandbox: str = "") -> list[Path]:
        """The control groups of this server's sandboxes, or of one; none on a machine without any."""
        parents = (self.folder / "agent" / "sandboxes" / "groups").read_text().split()
        return [Path(parent) / sandbox for parent in parents]

    def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
        if time.monotonic() - self._asked_at > IDLE_SECONDS:
            self._connection.close()  # the server may have done so, too; the next request opens it again
        self._asked_at = time.monotonic()
        self._connection.request(method, path, body, self._headers)
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"cannot measure: {method} {path} answered {answer.status}: {said[:500]!r}")
        return said


def _started(group: dict[str, Any], reasons: list[dict[str, Any]]) -> Started:
    key = [group[name] for name in ("app", "function", "level")]
    return Started(
        app=group["app"],
        function=group["function"],
        level=group["level"],
        count=group["count"],
        failed=group["failed"],
        p50_ms=group["p50"] * 1000,
        phases_ms={phase["name"]: phase["seconds"] * 1000 for phase in group["phases"]},
        why={
            one["why"]: one["count"] for one in reasons if [one[name] for name in ("app", "function", "level")] == key
        },
    )


@contextmanager
def server_on(folder: Path, settings: Mapping[str, str]) -> Iterator[Server]:
    """A server with its agent on the folder, which this process's SDK finds; `settings` are `RELIGHT_*` variables."""
    command = [sys.executable, "-m", "relight", "up", "--data-dir", str(folder), "--port", "0", "--node", "bench"]
    folder.mkdir()
    with (folder / "server.out").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=HERE,
            env={**environment(folder), **settings},
        )
    assert process.stdout is not None
    try:
        if not (select.select([process.stdout], [], [], START_SECONDS)[0] and process.stdout.readline()):
            raise RuntimeError(f"cannot measure: the server did not start:\n{(folder / 'server.out').read_text()}")
        os.environ["RELIGHT_DATA_DIR"] = str(folder)
        yield Server(folder, process.pid)
    finally:
        process.terminate()
        process.wait(LEAVE_SECONDS)
        process.stdout.close()
