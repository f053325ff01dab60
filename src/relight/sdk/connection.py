"""The way to a server: finds one, speaks to it from any thread, and asks again when it was away for a moment.

A server is found in this order: `RELIGHT_URL` with `RELIGHT_TOKEN`; the profile in use; the local socket in the data
folder; for a run, one of its own.  A port is never probed.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from relight.clock import Clock, SystemClock
from relight.protocol.api import Await, CallViews, Deploy, Deployed, Submit
from relight.protocol.errors import Forbidden, Unavailable
from relight.protocol.manifest import Json
from relight.protocol.payload import Payload
from relight.sdk import environment, requests
from relight.sdk.embedded import Embedded, start
from relight.sdk.frames import is_told
from relight.sdk.http import Address, BadAnswer, Http, Unreachable, address_of
from relight.sdk.requests import Reply, Request
from relight.sdk.steps import NO_REPLY, Contact, Pause, Server, Step, Steps, after

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from relight.sdk.aio import OpenLine, Pool
    from relight.sdk.profiles import Profile

T = TypeVar("T")
M = TypeVar("M")


class Transport(Protocol):
    """One HTTP connection of one thread."""

    def exchange(self, request: Request) -> Reply:
        """Send it and read the answer.  Raises Unreachable."""

    def send(self, request: Request) -> None:
        """Send it; `receive` must follow.  Raises Unreachable."""

    def receive(self) -> Reply:
        """The answer to what was sent.  Raises Unreachable."""

    def lines(self, request: Request) -> Iterator[bytes]:
        """Send it and give the answer line by line, as it comes.  Raises Unreachable, and BadAnswer when refused."""

    def close(self) -> None:
        """Hang up."""

    def shut_down(self) -> None:
        """Wake whoever reads in another thread: nothing more comes."""


class Connection:
    """A server, spoken to by blocking.  Each thread has its own HTTP connection; all may use this at once."""

    def __init__(
        self,
        address: Address,
        embedded: Embedded | None = None,
        clock: Clock | None = None,
        pause: Callable[[float], None] = time.sleep,
        open_http: Callable[[Address], Transport] = Http,
        open_line: OpenLine | None = None,
    ) -> None:
        self._open_http = open_http
        self._open_line = open_line
        self.address = address
        self.embedded = embedded
        is_local = bool(address.path)  # found by its socket, or started here
        self.server = Server(
            where=str(address), clock=clock or SystemClock(), check=self._check, contact=Contact(is_made=is_local)
        )
        self._pause = pause
        self._local = threading.local()
        self._pools: dict[AbstractEventLoop, Pool] = {}

    def do(self, steps: Steps[T]) -> T:
        """Take the steps, here and now; what comes of them."""
        http = self._http()
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    self._pause(step.seconds)
                    step = steps.send(NO_REPLY)
                    continue
                try:
                    reply = http.exchange(step)
                except Unreachable as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result
        except Exception as error:
            if is_told(error) and not environment.is_debugging():
                raise error.with_traceback(None)  # noqa: B904 - the same error, which says it all without the way here
            raise

    def begin(self, steps: Steps[T]) -> Begun[T]:
        """Take the first step as far as it goes without waiting, on a connection beside this thread's own."""
        http: Transport | None = getattr(self._local, "second", None)
        if http is None:
            http = self._local.second = self._open_http(self.address)
        return Begun(self, http, steps)

    def pool(self) -> Pool:
        """The way there of the event loop that runs now.  Raises RuntimeError when none does."""
        from asyncio import get_running_loop  # 30 ms that a caller without a loop need not pay

        from relight.sdk.aio import Pool

        loop = get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            for ended in [one for one in self._pools if one.is_closed()]:
                del self._pools[ended]
            pool = self._pools[loop] = Pool(self.address, self.server.clock.sleep, self._open_line)
        return pool

    # -- what may be asked

    def submit(self, message: Submit) -> CallViews:
        """Keep these calls; when this returns, they are kept."""
        return self.do(self.server.submit(message))

    def wait(self, message: Await) -> CallViews:
        """Wait until one has ended, or as long as it says."""
        return self.do(self.server.wait(message))

    def deploy(self, message: Deploy) -> Deployed:
        """Make this version what the environment leads to."""
        return self.do(self.server.deploy(message))

    def plan(self, message: Deploy) -> Json:
        """What a deploy would change."""
        return self.do(self.server.plan(message))

    def cancel(self, call: str) -> None:
        """Cancel a call; one that has ended stays as it ended."""
        self.do(self.server.cancel(call))

    def stop_run(self, run: str, *, cancel: bool) -> int:
        """End a run; how many of its calls had not ended."""
        return self.do(self.server.stop_run(run, cancel=cancel))

    def upload(self, data: bytes) -> str:
        """Keep these bytes, unless they are there; their digest."""
        return self.do(self.server.upload(data))

    def download(self, digest: str) -> bytes:
        """The bytes with this digest.  Raises NotFound."""
        return self.do(self.server.download(digest))

    def fetch(self, payload: Payload) -> Payload:
        """The payload with its bytes."""
        return self.do(self.server.fetch(payload))

    def json(self, method: str, path: str, body: Json = None) -> Json:
        """Ask in JSON, answered in JSON."""
        return self.do(self.server.json(method, path, body))

    def frame(self, method: str, path: str, message: object, kind: type[M]) -> M:
        """Ask by a message of the codec, answered by one."""
        return self.do(self.server.frame(method, path, message, kind))

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
        self._close_pool()
        if self.embedded is not None:
            self.embedded.close()

    # -- how

    def _close_pool(self) -> None:
        if self._pools:
            from asyncio import get_running_loop

            with suppress(RuntimeError, KeyError):  # no loop runs here: those that did have hung up as they ended
                self._pools[get_running_loop()].close()

    def _check(self) -> None:
        if self.embedded is not None and not self.embedded.is_alive():
            raise Unavailable(
                f"cannot go on: the server of this run has ended; {self.embedded.folder}/server.out may say why"
            )

    def _http(self) -> Transport:
        http: Transport | None = getattr(self._local, "http", None)
        if http is None:
            http = self._local.http = self._open_http(self.address)
        return http


class Begun(Generic[T]):
    """Steps of which the first was sent, and not answered yet: there is something else to do meanwhile."""

    def __init__(self, connection: Connection, http: Transport, steps: Steps[T]) -> None:
        self._connection = connection
        self._http = http
        self._steps = steps
        self._error: Unreachable | None = None
        self._is_heard = False
        first = next(steps)
        assert isinstance(first, Request), "there is nothing to send"
        try:
            http.send(first)
        except Unreachable as error:
            self._error = error

    def finish(self) -> T:
        """What came of it."""
        return self._connection.do(self._rest())

    def settle(self) -> None:
        """Hear the answer, whatever it is, unless `finish` has; nothing is asked again."""
        if self._error is None and not self._is_heard:
            with suppress(Unreachable):
                self._http.receive()

    def _rest(self) -> Steps[T]:
        try:
            step = self._after_first()
        except StopIteration as stop:
            result: T = stop.value
            return result
        return (yield from after(step, self._steps))

    def _after_first(self) -> Step:
        try:
            if self._error is not None:
                raise self._error
            self._is_heard = True
            reply = self._http.receive()
        except Unreachable as error:
            return self._steps.throw(error)
        return self._steps.send(reply)


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
    if url := environment.server_url():
        return Connection(address_of(url, environment.server_token()))
    folder = environment.data_folder()
    profile = _profile(folder)
    if profile is not None:
        return Connection(address_of(profile.url, profile.token, profile.ca))
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


def _profile(folder: Path) -> Profile | None:
    """The profile in use, or the one that `RELIGHT_PROFILE` names."""
    chosen = environment.profile_name()
    if not chosen and not (folder / "profiles.json").exists():
        return None
    from relight.sdk import profiles

    return profiles.active(folder, chosen)


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
