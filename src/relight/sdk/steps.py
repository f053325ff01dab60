"""What is asked of a server, one step at a time, without any I/O: the one place where asking, waiting and asking again is
written.

A function here is a generator: it yields a `Request` to be exchanged for its `Reply`, or a `Pause`; whoever drives it
does that and sends back what came.  There are two drivers: `Connection.do` with blocking sockets, `aio.do` on the
caller's event loop.  An exchange that fails is thrown into the generator as `Unreachable`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from relight.clock import Clock
from relight.protocol.api import Await, CallViews, Cancel, Deploy, Deployed, Items, ReadItems, Submit
from relight.protocol.errors import RelightError, Unavailable
from relight.protocol.manifest import Json
from relight.protocol.payload import INLINE_BYTES, Payload
from relight.sdk import requests
from relight.sdk.http import Unreachable
from relight.sdk.requests import Reply, Request

PATIENCE_SECONDS = 30.0
"""How long a server may be away before a request is given up."""

FIRST_PATIENCE_SECONDS = 3.0
"""The same for one that was never heard: its URL may be wrong."""

LAST_PATIENCE_SECONDS = 2.0
"""The same for the cancel that somebody sends who is about to leave."""

_DELAYS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0)

T = TypeVar("T")
M = TypeVar("M")


class Pause:
    """A step: do nothing for so long."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


Step = Request | Pause
"""What is to be done next."""

Steps = Generator[Step, Reply, T]
"""What is to be done, and what comes of it in the end.  Nothing is read of what is sent back for a `Pause`."""

NO_REPLY = Reply(status=0)
"""What is sent back for a `Pause`."""


@dataclass(slots=True)
class Contact:
    """Whether a server was heard."""

    is_made: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server, as far as it can be known without speaking to it.

    `check` raises Unavailable when it cannot come back.
    """

    where: str
    clock: Clock
    check: Callable[[], None]
    contact: Contact = field(default_factory=lambda: Contact(is_made=True))

    def ask(
        self, request: Request, again: Callable[[], Request] | None = None, patience: float = PATIENCE_SECONDS
    ) -> Steps[Reply]:
        """Ask until there is an answer.  From the second time on `again()` is asked: the first may have been heard.

        Raises Unavailable when the server is away for longer than `patience` seconds, or cannot come back.
        """
        began = 0.0
        tries = 0
        while True:
            try:
                reply = yield request
                self.contact.is_made = True
                if reply.status != 503:
                    return reply
                why = str(requests.error_from(reply))
            except Unreachable as error:
                why = str(error)
            now = self.clock.monotonic()
            if not tries:
                began = now
                request = again() if again is not None else request
            self.check()
            limit = patience if self.contact.is_made else min(patience, FIRST_PATIENCE_SECONDS)
            if now - began > limit:
                raise Unavailable(
                    f"cannot reach the server at {self.where} for {limit:g} s: {why}; start it with `relight up`"
                )
            yield Pause(_DELAYS[min(tries, len(_DELAYS) - 1)])
            tries += 1

    # -- calls

    def submit(self, message: Submit) -> Steps[CallViews]:
        """Keep these calls; when this is over, they are kept."""
        reply = yield from self.ask(requests.submit(message), lambda: requests.submit_again(message))
        return requests.read_views(reply)

    def wait(self, message: Await) -> Steps[CallViews]:
        """Wait until one has ended, or as long as it says."""
        return requests.read_views((yield from self.ask(requests.wait(message))))

    def tree(self, call: str) -> Steps[Json]:
        """A call, and those that it made, and so on.  Raises NotFound."""
        return requests.read_json((yield from self.ask(requests.tree(call))))

    def cancel(self, call: str) -> Steps[None]:
        """Cancel a call; one that has ended stays as it ended."""
        requests.check((yield from self.ask(requests.cancel(call))))

    def cancel_all(self, message: Cancel) -> Steps[None]:
        """Cancel many calls at once."""
        requests.check((yield from self.ask(requests.cancel_all(message))))

    def try_cancel(self, message: Cancel) -> Steps[None]:
        """The same by somebody who is about to leave: what goes wrong is not told, for there is worse to tell."""
        try:
            yield from self.ask(requests.cancel_all(message), patience=LAST_PATIENCE_SECONDS)
        except RelightError:
            return

    def read_items(self, message: ReadItems) -> Steps[Items]:
        """What a generator has yielded since."""
        return requests.read_part((yield from self.ask(requests.read_items(message))))

    def stats(self, app: str, function: str, environment: str) -> Steps[Mapping[str, Json]]:
        """How much of a function waits and runs."""
        answer = requests.read_json((yield from self.ask(requests.stats(app, function, environment))))
        return answer if isinstance(answer, dict) else {}

    def urls(self, app: str, environment: str) -> Steps[Mapping[str, Json]]:
        """Where the things of an app answer web requests, by their names."""
        answer = requests.read_json((yield from self.ask(requests.urls(app, environment))))
        said = answer.get("urls") if isinstance(answer, dict) else None
        return said if isinstance(said, dict) else {}

    # -- values

    def upload(self, data: bytes) -> Steps[str]:
        """Keep these bytes, unless they are there; their digest."""
        from hashlib import sha256  # it loads OpenSSL, which a worker need not pay for `import relight`

        digest = sha256(data).hexdigest()
        if (yield from self.ask(requests.has_blob(digest))).status >= 400:
            requests.check((yield from self.ask(requests.put_blob(digest, data))))
        return digest

    def download(self, digest: str) -> Steps[bytes]:
        """The bytes with this digest.  Raises NotFound."""
        return requests.check((yield from self.ask(requests.get_blob(digest)))).body

    def shrink(self, payload: Payload) -> Steps[Payload]:
        """The payload fit for a message: a large value is kept as a blob first."""
        if not is_large(payload):
            return payload
        assert payload.data is not None
        return replace(payload, data=None, blob=(yield from self.upload(payload.data)))

    def fetch(self, payload: Payload) -> Steps[Payload]:
        """The payload with its bytes."""
        if payload.data is not None:
            return payload
        return replace(payload, data=(yield from self.download(payload.blob)))

    # -- deploys and runs

    def deploy(self, message: Deploy) -> Steps[Deployed]:
        """Make this version what the environment leads to; returns once it is.  Raises DeployFailed when it cannot be loaded."""
        while True:
            deployed = requests.read_deployed((yield from self.ask(requests.deploy(message))))
            if deployed.is_live:
                return deployed

    def plan(self, message: Deploy) -> Steps[Json]:
        """What a deploy would change."""
        return requests.read_json((yield from self.ask(requests.plan(message))))

    def stop_run(self, run: str, *, cancel: bool) -> Steps[int]:
        """End a run; how many of its calls had not ended."""
        answer = requests.read_json((yield from self.ask(requests.stop_run(run, cancel=cancel))))
        count = answer.get("unfinished", 0) if isinstance(answer, dict) else 0
        return count if isinstance(count, int) else 0

    # -- anything

    def json(self, method: str, path: str, body: Json = None) -> Steps[Json]:
        """Ask in JSON, answered in JSON."""
        return requests.read_json((yield from self.ask(requests.plain(method, path, body))))

    def frame(self, method: str, path: str, message: object, kind: type[M]) -> Steps[M]:
        """Ask by a message of the codec, answered by one."""
        return requests.read_frame((yield from self.ask(requests.frame(method, path, message))), kind)


def after(step: Step, rest: Steps[T]) -> Steps[T]:
    """The steps from `step` on, which is the one that `rest` waits with."""
    while True:
        try:
            reply = yield step
        except Unreachable as error:
            answer = partial(rest.throw, error)
        else:
            answer = partial(rest.send, reply)
        try:
            step = answer()
        except StopIteration as stop:
            result: T = stop.value
            return result


def is_large(payload: Payload) -> bool:
    """Whether a value is too large to be in a message."""
    return payload.data is not None and len(payload.data) > INLINE_BYTES
