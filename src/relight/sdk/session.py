"""Where the calls of an app go, and how they come back: submits, waits, says why it waits, fetches, raises.

A session belongs to one environment on one server.  It knows nothing of decorators, and does no I/O: what it says are
`Steps`, to be taken by `connection.do` or by a loop's `connection.pool().do`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from relight.clock import Clock, SystemClock, now_ms
from relight.protocol.api import MAX_WAIT_SECONDS, Await, Cancel, Submit
from relight.protocol.calls import CallRequest, CallState, CallView
from relight.protocol.errors import InvalidRequest, NotFound
from relight.protocol.ids import new_id
from relight.protocol.inside import inside
from relight.protocol.payload import Payload
from relight.protocol.values import dump_input, load_result
from relight.sdk.bundle import main_aliases
from relight.sdk.connection import Connection
from relight.sdk.failures import outcome_of
from relight.sdk.http import Address
from relight.sdk.steps import Steps, is_large

FIRST_WAIT_SECONDS = 1.0
"""So long a call may take before it is said why it waits."""

BATCH = 500
BATCH_BYTES = 1024 * 1024
"""One message carries so many calls, and about so many bytes of them, at most."""

_EXIT_CHUNK = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Callee:
    """What is called: a function, or a method of a class; `binding` is the text of a `manifest.Binding`.

    `key` and `priority` say how its calls wait (`calls.CallRequest`).  `session` is the caller's name for what calls belong
    together; where it `is_strict` one worker alone runs them.
    """

    function: str
    method: str = ""
    binding: str = ""
    key: str = ""
    priority: int = 0
    session: str = ""
    is_strict: bool = False

    def __str__(self) -> str:
        return f"{self.function}.{self.method}" if self.method else self.function


class Waiting:
    """Says why something waits, once, and again when the reason changes."""

    def __init__(self, what: str, say: Callable[[str], object]) -> None:
        self._what = what
        self._say = say
        self._said = ""

    def tell(self, reason: str) -> None:
        """It waits for this reason; "" for none."""
        if reason and reason != self._said:
            self._say(f"relight: {self._what} is waiting: {reason}\n")
            self._said = reason


@dataclass(slots=True)
class Session:
    """One environment of one app on one server.  `spawned` are the calls of a run that nobody has fetched yet."""

    connection: Connection
    app: str
    environment: str
    clock: Clock = field(default_factory=SystemClock)
    say: Callable[[str], object] = lambda text: sys.stderr.write(text)  # at the time: tests and notebooks replace it
    spawned: dict[str, None] = field(default_factory=dict)
    _aliases: Mapping[str, str] | None = None

    @property
    def aliases(self) -> Mapping[str, str]:
        """Under which name workers know this process's `__main__`."""
        if self._aliases is None:
            self._aliases = main_aliases()
        return self._aliases

    def request(self, callee: Callee, args: tuple[Any, ...], kwargs: Mapping[str, Any], group: str = "") -> CallRequest:
        """A call, named and with its arguments as bytes, however many."""
        return CallRequest(
            id=new_id("call", now_ms()),
            app=self.app,
            environment=self.environment,
            function=callee.function,
            method=callee.method,
            payload=dump_input(args, kwargs),
            group=group,
            parent=inside.call,
            is_awaited=bool(inside.call),
            binding=callee.binding,
            key=callee.key,
            priority=callee.priority,
            session=callee.session,
            is_strict=callee.is_strict,
        )

    # -- one call

    def run(self, request: CallRequest) -> Steps[Any]:
        """What the call returns; raises what it raises."""
        if is_large(request.payload):
            request = yield from self._sent_ahead(request)
        views = yield from self.connection.server.submit(Submit(calls=(request,), wait_seconds=FIRST_WAIT_SECONDS))
        view = views.calls[0] if views.calls else None
        if view is None or not view.state.is_final:
            view = yield from self._ended(request.id, name_of(request), view, None)
        return (yield from self.outcome(view))

    def spawn(self, requests: Sequence[CallRequest]) -> Steps[None]:
        """Let these calls be kept."""
        for batch in batches(requests):
            yield from self.submit([replace(one, is_awaited=False) if one.is_awaited else one for one in batch])
            if self.environment.startswith("run-") and not inside.is_worker:
                self.spawned.update(dict.fromkeys(request.id for request in batch))

    def submit(self, requests: Sequence[CallRequest], *, reads_items: bool = False) -> Steps[None]:
        """Let these calls be kept, by one message; large values are sent ahead.

        Raises InvalidRequest for one of something that yields, unless the caller `reads_items`: nobody else would.
        """
        calls = list(requests)
        for at, request in enumerate(calls):
            if is_large(request.payload):
                calls[at] = yield from self._sent_ahead(request)
        yield from self.connection.server.submit(
            Submit(calls=tuple(calls), is_quiet=True, needs_results=not reads_items)
        )

    def get(self, call: str, timeout: float | None = None) -> Steps[Any]:
        """What the call returned; raises what it raised, TimeoutError when it has not ended after `timeout` seconds."""
        view = yield from self._ended(call, call, None, timeout)
        self.spawned.pop(call, None)
        return (yield from self.outcome(view))

    def take(self, view: CallView) -> Steps[Any]:
        """What a spawned call that has ended returned; raises what it raised."""
        self.spawned.pop(view.id, None)
        return self.outcome(view)

    def status(self, call: str) -> Steps[CallState]:
        """Where the call stands."""
        views = yield from self.connection.server.wait(Await(ids=(call,)))
        return _one(call, views.calls).state

    def try_cancel(self, *calls: str, group: str = "") -> Steps[None]:
        """Cancel what is left behind."""
        return self.connection.server.try_cancel(Cancel(ids=calls, group=group))

    # -- values

    def outcome(self, view: CallView) -> Steps[Any]:
        """What an ended call returned; raises what it raised."""
        payload = view.result
        if payload is not None and payload.data is None:
            payload = yield from self.connection.server.fetch(payload)
        return outcome_of(view, payload, self.aliases)

    def open(self, payload: Payload) -> Steps[Any]:
        """A value that a generator yielded."""
        if payload.data is None:
            payload = yield from self.connection.server.fetch(payload)
        return load_result(payload, None, self.aliases)

    def _sent_ahead(self, request: CallRequest) -> Steps[CallRequest]:
        return replace(request, payload=(yield from self.connection.server.shrink(request.payload)))

    # -- waiting

    def wait_spawned(self) -> Steps[None]:
        """Over when every spawned call has ended, whether it was fetched or not."""
        waiting = Waiting("a spawned call", self.say)
        while self.spawned:
            ids = tuple(self.spawned)[:_EXIT_CHUNK]
            views = (yield from self.connection.server.wait(Await(ids=ids, wait_seconds=FIRST_WAIT_SECONDS))).calls
            for view in views:
                if view.state.is_final:
                    self.spawned.pop(view.id, None)
            waiting.tell(next((view.pending_reason for view in views if view.pending_reason), ""))

    def _ended(self, call: str, what: str, view: CallView | None, timeout: float | None) -> Steps[CallView]:
        """The call, ended."""
        waiting = Waiting(what, self.say)
        deadline = None if timeout is None else self.clock.monotonic() + timeout
        wait = FIRST_WAIT_SECONDS
        while view is None or not view.state.is_final:
            if view is not None:
                waiting.tell(view.pending_reason)
            left = wait if deadline is None else min(wait, deadline - self.clock.monotonic())
            if left <= 0 and view is not None:
                raise TimeoutError(
                    f"cannot give the result of {what}: it is {view.state.value} after {timeout:g} s; ask again"
                )
            views = yield from self.connection.server.wait(
                Await(ids=(call,), wait_seconds=max(left, 0.0), caller=inside.call)
            )
            view = _one(call, views.calls)
            wait = min(wait * 2, MAX_WAIT_SECONDS / 6)
        return view


def session_inside(what: str) -> Session:
    """Where calls go from inside a worker: to its own app, in its own environment.  Raises InvalidRequest."""
    if not inside.platform:
        raise InvalidRequest(
            f"cannot call {what} elsewhere from inside a worker: this one has no way to the server; "
            "call it as a plain function, which runs it here"
        )
    return Session(Connection(Address(path=inside.platform)), inside.app, inside.environment)


def name_of(request: CallRequest) -> str:
    """What a call is of, for people."""
    return f"{request.function}.{request.method}" if request.method else request.function


def batches(requests: Sequence[CallRequest]) -> Iterator[Sequence[CallRequest]]:
    """The calls in messages of a good size."""
    batch: list[CallRequest] = []
    size = 0
    for request in requests:
        batch.append(request)
        size += 0 if is_large(request.payload) else request.payload.size
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _one(call: str, views: tuple[CallView, ...]) -> CallView:
    for view in views:
        if view.id == call:
            return view
    raise NotFound(f"cannot find call {call!r}: this server does not know it; see `relight calls list`")
