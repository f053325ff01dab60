"""Where the calls of an app go, and how they come back: submits, waits, says why it waits, fetches, raises.

A session belongs to one environment on one server.  It knows nothing of decorators.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relight.clock import Clock, SystemClock, now_ms
from relight.protocol.api import MAX_WAIT_SECONDS, Await, Submit
from relight.protocol.calls import CallRequest, CallState, CallView
from relight.protocol.errors import NotFound
from relight.protocol.ids import new_id
from relight.protocol.values import dump_input
from relight.sdk.bundle import main_aliases
from relight.sdk.connection import Connection
from relight.sdk.failures import outcome_of

FIRST_WAIT_SECONDS = 1.0
"""So long a call may take before it is said why it waits."""

_EXIT_CHUNK = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Callee:
    """What is called: a function, or a method of a class; `binding` is the text of a `manifest.Binding`."""

    function: str
    method: str = ""
    binding: str = ""

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
    """One environment of one app on one server.  `spawned` are the calls nobody has fetched yet."""

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
        """A call, named and with its arguments as bytes; a large value is sent ahead."""
        return CallRequest(
            id=new_id("call", now_ms()),
            app=self.app,
            environment=self.environment,
            function=callee.function,
            method=callee.method,
            payload=self.connection.shrink(dump_input(args, kwargs)),
            group=group,
            binding=callee.binding,
        )

    def run(self, callee: Callee, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What the call returns; raises what it raises.  Cancels it when this is interrupted."""
        request = self.request(callee, args, kwargs)
        try:
            views = self.connection.submit(Submit(calls=(request,), wait_seconds=FIRST_WAIT_SECONDS))
            view = self._ended(request.id, str(callee), views.calls[0] if views.calls else None, None)
        except KeyboardInterrupt:
            self.connection.cancel(request.id)
            raise
        return self.outcome(view)

    def spawn(self, callee: Callee, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """The id of a call that is kept."""
        request = self.request(callee, args, kwargs)
        self.connection.submit(Submit(calls=(request,)))
        self.spawned[request.id] = None
        return request.id

    def get(self, call: str, timeout: float | None = None) -> Any:
        """What the call returned; raises what it raised, TimeoutError when it has not ended after `timeout` seconds."""
        view = self._ended(call, call, None, timeout)
        self.spawned.pop(call, None)
        return self.outcome(view)

    def status(self, call: str) -> CallState:
        """Where the call stands."""
        views = self.connection.wait(Await(ids=(call,))).calls
        return _one(call, views).state

    def outcome(self, view: CallView) -> Any:
        """What an ended call returned; raises what it raised."""
        payload = self.connection.fetch(view.result) if view.result is not None else None
        return outcome_of(view, payload, self.aliases)

    def wait_spawned(self) -> None:
        """Return when every spawned call has ended, whether it was fetched or not."""
        waiting = Waiting("a spawned call", self.say)
        while self.spawned:
            ids = tuple(self.spawned)[:_EXIT_CHUNK]
            views = self.connection.wait(Await(ids=ids, wait_seconds=FIRST_WAIT_SECONDS)).calls
            for view in views:
                if view.state.is_final:
                    self.spawned.pop(view.id, None)
            waiting.tell(next((view.pending_reason for view in views if view.pending_reason), ""))

    def _ended(self, call: str, what: str, view: CallView | None, timeout: float | None) -> CallView:
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
            views = self.connection.wait(Await(ids=(call,), wait_seconds=max(left, 0.0))).calls
            view = _one(call, views)
            wait = min(wait * 2, MAX_WAIT_SECONDS / 6)
        return view


def _one(call: str, views: tuple[CallView, ...]) -> CallView:
    for view in views:
        if view.id == call:
            return view
    raise NotFound(f"cannot find call {call!r}: this server does not know it; see `relight calls list`")
