"""The way to a server: finds one, speaks to it from any thread, and asks again when it was away for a moment.

The one reader of the environment here.  A server is found in this order: `RELIGHT_URL` with `RELIGHT_TOKEN`; the local
socket in the data folder; for a run, one of its own.  A port is never probed.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from relight.clock import Clock, SystemClock
from relight.protocol.api import Await, CallViews, Deploy, Deployed, Submit
from relight.protocol.errors import Forbidden, Unavailable
from relight.protocol.manifest import Json
from relight.protocol.payload import INLINE_BYTES, Payload
from relight.sdk import requests
from relight.sdk.embedded import Embedded, start
from relight.sdk.http import Address, BadAnswer, Http, Unreachable, address_of
from relight.sdk.requests import Reply, Request

PATIENCE_SECONDS = 30.0
"""How long a server may be away before a request is given up."""

_DELAYS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0)

M = TypeVar("M")


class Transport(Protocol):
    """One HTTP connection of one thread."""

    def exchange(self, request: Request) -> Reply:
        """Send it and read the answer.  Raises Unreachable."""

    def lines(self, request: Request) -> Iterator[bytes]:
        """Send it and give the answer line by line, as it comes.  Raises Unreachable, and BadAnswer when refused."""

    def close(self) -> None:
        """Hang up."""

    def shut_down(self) -> None:
        """Wake whoever reads in another thread: nothing more comes."""


class Connection:
    """A server.  Each thread has its own HTTP connection; all may use this at once."""

    def __init__(
        self,
        address: Address,
        embedded: Embedded | None = None,
        clock: Clock | None = None,
        pause: Callable[[float], None] = time.sleep,
        open_http: Callable[[Address], Transport] = Http,
    ) -> None:
        self._open_http = open_http
        self.address = address
        self.embedded = embedded
        self._clock: Clock = clock or SystemClock()
        self._pause = pause
        self._local = threading.local()

    # -- what may be asked

    def submit(self, message: Submit) -> CallViews:
        """Keep these calls; when this returns, they are kept."""
        again = replace(message, is_again=True)
        return requests.read_views(self.exchange(requests.submit(message), requests.submit(again)))

    def wait(self, message: Await) -> CallViews:
        """Wait until one has ended, or as long as it says."""
        return requests.read_views(self.exchange(requests.wait(message)))

    def deploy(self, message: Deploy) -> Deployed:
        """Make this version what the environment leads to."""
        return requests.read_deployed(self.exchange(requests.deploy(message)))

    def cancel(self, call: str) -> None:
        """Cancel a call; one that has ended stays as it ended."""
        requests.check(self.exchange(requests.cancel(call)))

    def stop_run(self, run: str, *, cancel: bool) -> int:
        """End a run; how many of its calls had not ended."""
        answer = requests.read_json(self.exchange(requests.stop_run(run, cancel=cancel)))
        count = answer.get("unfinished", 0) if isinstance(answer, dict) else 0
        return count if isinstance(count, int) else 0

    def upload(self, data: bytes) -> str:
        """Keep these bytes, unless they are there; their digest."""
        from hashlib import sha256  # it loads OpenSSL, which a worker need not pay for `import relight`

        digest = sha256(data).hexdigest()
        if self.exchange(requests.has_blob(digest)).status >= 400:
            requests.check(self.exchange(requests.put_blob(digest, data)))
        return digest

    def download(self, digest: str) -> bytes:
        """The bytes with this digest.  Raises NotFound."""
        return requests.check(self.exchange(requests.get_blob(digest))).body

    def shrink(self, payload: Payload) -> Payload:
        """The payload fit for a message: a large value is kept as a blob first."""
        if payload.data is None or len(payload.data) <= INLINE_BYTES:
            return payload
        return replace(payload, data=None, blob=self.upload(payload.data))

    def fetch(self, payload: Payload) -> Payload:
        """The payload with its bytes."""
        return payload if payload.data is not None else replace(payload, data=self.download(payload.blob))

    def json(self, method: str, path: str, body: Json = None) -> Json:
        """Ask in JSON, answered in JSON."""
        return requests.read_json(self.exchange(requests.plain(method, path, body)))

    def frame(self, method: str, path: str, message: object, kind: type[M]) -> M:
        """Ask by a message of the codec, answered by one."""
        return requests.read_frame(self.exchange(requests.frame(method, path, message)), kind)

    def lines(self, path: str) -> Iterator[Json]:
        """A stream of JSON lines, on a connection of its own.  Raises Unavailable when it breaks off."""
        with self.stream(Request(method="GET", path=path)) as stream:
            yield from stream

    def stream(self, request: Request) -> Stream:
        """A stream that can be ended from another thread."""
        return Stream(self._open_http(self.address), request, str(self.address))

    def close(self) -> None:
        """Hang up this thread's connection, and let an embedded server leave."""
        self._http().close()
        if self.embedded is not None:
            self.embedded.close()

    # -- how

    def exchange(self, request: Request, again: Request | None = None) -> Reply:
        """Ask until there is an answer.  From the second time on `again` is asked instead: the first may have been heard.

        Raises Unavailable when the server is away for longer than PATIENCE_SECONDS, or cannot come back.
        """
        began = self._clock.monotonic()
        tries = 0
        while True:
            try:
                reply = self._http().exchange(request)
                if reply.status != 503:
                    return reply
                why = str(requests.error_from(reply))
            except Unreachable as error:
                why = str(error)
            request = again or request
            self._give_up_or_pause(why, began, tries)
            tries += 1

    def _give_up_or_pause(self, why: str, began: float, tries: int) -> None:
        if self.embedded is not None and not self.embedded.is_alive():
            raise Unavailable(
                f"cannot go on: the server of this run has ended; {self.embedded.folder}/server.out may say why"
            )
        if self._clock.monotonic() - began > PATIENCE_SECONDS:
            raise Unavailable(
                f"cannot reach the server at {self.address} for {PATIENCE_SECONDS:g} s: {why}; start it with `relight up`"
            )
        self._pause(_DELAYS[min(tries, len(_DELAYS) - 1)])

    def _http(self) -> Transport:
        http: Transport | None = getattr(self._local, "http", None)
        if http is None:
            http = self._local.http = self._open_http(self.address)
        return http


class Stream:
    """JSON lines as they come; a context, and an iterator."""

    def __init__(self, http: Transport, request: Request, where: str) -> None:
        self._http = http
        self._lines = http.lines(request)
        self._where = where

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()

    def __iter__(self) -> Iterator[Json]:
        try:
            yield from requests.read_lines(self._lines)
        except BadAnswer as error:
            raise requests.error_from(error.reply) from error
        except Unreachable as error:
            raise Unavailable(f"cannot go on listening to {self._where}: {error}; ask again") from error

    def stop(self) -> None:
        """End it, from any thread."""
        self._http.shut_down()


def connect(*, embed: bool = False) -> Connection:
    """A server that is there; with `embed` one of our own when there is none.

    Raises Unavailable when there is none, Forbidden when the socket found belongs to somebody else.
    """
    if url := os.environ.get("RELIGHT_URL", ""):
        return Connection(address_of(url, os.environ.get("RELIGHT_TOKEN", "")))
    folder = data_folder()
    address = Address(path=str(folder / "run" / "relight.sock"))
    if _is_served(address):
        return Connection(address)
    if embed:
        server = start(folder / "runs")
        return Connection(Address(path=server.socket), server)
    raise Unavailable(
        f"cannot find a server: nobody listens at {address.path}; start one with `relight up`, "
        "or set RELIGHT_URL and RELIGHT_TOKEN"
    )


def data_folder() -> Path:
    """Where the local server keeps its things."""
    given = os.environ.get("RELIGHT_DATA_DIR", "")
    return Path(given).expanduser().absolute() if given else Path.home() / ".relight"


def _is_served(address: Address) -> bool:
    """Whether somebody we may trust answers there: this user's server, or root's."""
    try:
        found = os.stat(address.path)
    except OSError:
        return False
    if not stat.S_ISSOCK(found.st_mode):
        return False
    if found.st_uid not in (os.getuid(), 0):
        raise Forbidden(
            f"cannot use the server at {address.path}: it belongs to user {found.st_uid}, and this is {os.getuid()}; "
            "set RELIGHT_DATA_DIR to a folder of your own"
        )
    http = Http(address)
    try:
        return http.exchange(requests.health()).status < 500
    except Unreachable:
        return False
    finally:
        http.close()
