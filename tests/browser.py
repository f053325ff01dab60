"""A headless Chromium as a person at a page would use it, driven by its own protocol (DevTools) over two pipes.

Commands and events are JSON with a NUL behind each.  Nothing here looks at a clock but to give up: a page is waited for by a promise
that is made in it.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ANSWER_SECONDS = 60.0

_PIPES = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null'  # where it reads commands, and where it tells events
_OPTIONS = ("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-dev-shm-usage", "--disable-gpu")
_TROUBLES = ("Runtime.exceptionThrown", "Log.entryAdded")


def find_browser() -> str | None:
    """The program, if the machine has one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._unread = b""
        self._count = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self._do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._do(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Go there; returns once it is loaded.  Raises AssertionError where nobody answers."""
        self.events.clear()
        failed = self._do("Page.navigate", url=url).get("errorText")
        assert not failed, f"{url}: {failed}"
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._hear())

    def run(self, script: str) -> Any:
        """What an expression comes to in the page, once it does if it is a promise.  Raises AssertionError for what it throws."""
        said = self._do("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def fill(self, selector: str, text: str) -> None:
        """Type into a field."""
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self._do("Input.insertText", text=text)

    def press(self, selector: str) -> None:
        """Click on the middle of what is there."""
        place = self.run(
            f"(one => {{ one.scrollIntoView(); const {{ x, y, width, height }} = one.getBoundingClientRect();"
            f" return {{ x: x + width / 2, y: y + height / 2 }} }})(document.querySelector({json.dumps(selector)}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._do("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def wait(self, condition: str) -> Any:
        """What an expression comes to as soon as that is true; it is looked at whenever the page changes."""
        return self.run(
            "new Promise(done => { const look = () => { const seen = (" + condition + ");"
            " if (seen) { watch.disconnect(); done(seen) } }; const watch = new MutationObserver(look);"
            " watch.observe(document, { subtree: true, childList: true, characterData: true, attributes: true }); look() })"
        )

    def picture(self, file: Path) -> None:
        """What it looks like, as PNG."""
        import base64

        file.write_bytes(base64.b64decode(self._do("Page.captureScreenshot")["data"]))

    @property
    def troubles(self) -> list[str]:
        """What went wrong in the page since it was opened: exceptions, what its policy forbids, what could not be loaded."""
        self.run("1")  # whatever was told before this answer has been heard
        said = [json.dumps(event["params"]) for event in self.events if event["method"] in _TROUBLES]
        return [one for one in said if "/favicon.ico" not in one]  # which it asks for by itself

    def _do(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        command = {"id": self._count, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\0")
        self._process.stdin.flush()
        while (heard := self._hear()).get("id") != self._count:
            self.events.append(heard)
        assert "error" not in heard, f"{method}: {heard['error']}"
        result: dict[str, Any] = heard["result"]
        return result

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        until = time.monotonic() + ANSWER_SECONDS
        while b"\0" not in self._unread:
            left = max(0.0, until - time.monotonic())
            assert select.select([self._process.stdout], [], [], left)[0], (
                f"the browser was silent for {ANSWER_SECONDS} s"
            )
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            assert data, "the browser has ended"
            self._unread += data
        first, _, self._unread = self._unread.partition(b"\0")
        heard: dict[str, Any] = json.loads(first)
        return heard


@contextmanager
def browsing(program: str, folder: Path) -> Iterator[Page]:
    """A browser with one tab; what it keeps is in `folder`, and its own words in `folder/browser.log`."""
    options = [*_OPTIONS, f"--user-data-dir={folder / 'profile'}"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # it has none for root
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _PIPES, "sh", program, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "HOME": str(folder)},
        )
    try:
        yield Page(process)
    finally:
        process.terminate()
        process.communicate(timeout=30)
