"""Calls that were spawned: one, with the result it will have, and many."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from collections.abc import Mapping as Keywords
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from relight.clock import now_ms
from relight.protocol.api import Await, Cancel
from relight.protocol.calls import CallState, CallView
from relight.protocol.errors import InvalidRequest, ProtocolError
from relight.protocol.ids import is_id, new_id
from relight.protocol.inside import inside
from relight.protocol.manifest import Json
from relight.sdk.connection import Connection, connect
from relight.sdk.mapping import MapOptions, Mapping, results, results_aio
from relight.sdk.session import BATCH, FIRST_WAIT_SECONDS, Callee, Session, session_inside
from relight.sdk.shells import asked
from relight.sdk.steps import Steps

if TYPE_CHECKING:
    from typing import Unpack

    from relight.sdk.elsewhere import CallWords

R = TypeVar("R")
T = TypeVar("T")

_CHUNK = 100
_LONGEST_WAIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallNode:
    """A call, and those that it made while it ran."""

    id: str
    function: str
    state: CallState
    children: tuple[CallNode, ...] = ()


class Gather:
    """The results of several calls, in their order; raises what the first that is known to have failed raised."""

    def __call__(self, *calls: Call[T]) -> list[T]:
        return calls[0].connection.do(self._steps(calls)) if calls else []

    async def aio(self, *calls: Call[T]) -> list[T]:
        """The same on the caller's event loop."""
        return await calls[0].connection.pool().do(self._steps(calls)) if calls else []

    def _steps(self, calls: Sequence[Call[Any]]) -> Steps[list[Any]]:
        return _gather(calls[0].session, [call.id for call in calls], None)


class Results(Generic[R]):
    """The results of a group as they come, as `.map` gives them; nothing is cancelled by whoever stops reading."""

    __slots__ = ("_mapping",)

    def __init__(self, mapping: Callable[[MapOptions], Mapping]) -> None:
        self._mapping = mapping

    def __call__(self, *, order_outputs: bool = True, return_exceptions: bool = False) -> Iterator[R]:
        options = MapOptions(order_outputs=order_outputs, return_exceptions=return_exceptions)
        return results(self._mapping(options), ())

    def aio(self, *, order_outputs: bool = True, return_exceptions: bool = False) -> AsyncGenerator[R, None]:
        """The same on the caller's event loop."""
        options = MapOptions(order_outputs=order_outputs, return_exceptions=return_exceptions)
        return results_aio(self._mapping(options), ())


class Call(Generic[R]):
    """One call.  It is kept by the server: `Call.from_id` finds it again, from any process."""

    gather = Gather()

    def __init__(self, id: str, session: Session) -> None:  # noqa: A002 - it is `call.id`
        self.id = id
        self.session = session

    @property
    def connection(self) -> Connection:
        """The way to its server."""
        return self.session.connection

    @property
    def object_id(self) -> str:
        """The same as `id`."""
        return self.id

    @staticmethod
    def from_id(id: str, **others: Unpack[CallWords]) -> Call[Any]:  # noqa: A002 - as above
        """The call of that id, on the server that is found from here."""
        _pass_over(f"cannot find call {id!r}", others, "id")
        if not is_id(id, "call"):
            raise InvalidRequest(f"cannot find a call by {id!r}: it is not the id of one; they look like call-01jd2m…")
        return Call(id, _session_from_here(id))

    @asked
    def get(self, timeout: float | None = None, **others: Unpack[CallWords]) -> Steps[R]:
        """The result; raises what the function raised, TimeoutError when it has not ended after `timeout` seconds."""
        _pass_over(f"cannot give the result of {self.id}", others, "timeout")
        return self.session.get(self.id, timeout)

    @asked
    def status(self) -> Steps[CallState]:
        """Where it stands."""
        return self.session.status(self.id)

    @asked
    def cancel(self, **others: Unpack[CallWords]) -> Steps[None]:
        """Stop it, and the worker too that does not let it stop; what has ended stays as it ended."""
        _pass_over(f"cannot cancel {self.id}", others, "no arguments")
        return self.session.connection.server.cancel(self.id)

    @asked
    def tree(self) -> Steps[CallNode]:
        """It, and below it the calls that it made, and so on."""
        return _tree(self.session, self.id)

    def __repr__(self) -> str:
        return f"Call({self.id!r})"


class CallGroup(Generic[R], Sequence[Call[R]]):
    """Many calls, made by one `spawn_map`: a sequence of them, in the order of their inputs."""

    def __init__(self, session: Session) -> None:
        self.id = new_id("group", now_ms())
        self._session = session
        self._calls: list[str] = []

    @property
    def connection(self) -> Connection:
        """The way to their server."""
        return self._session.connection

    def submit_some(
        self, callee: Callee, rows: Iterator[tuple[Any, ...]], kwargs: Keywords[str, Any]
    ) -> Steps[None] | None:
        """Let a call be kept for each of the next rows; None when there are no more."""
        requests = [self._session.request(callee, row, kwargs, self.id) for row in islice(rows, BATCH)]
        self._calls += [request.id for request in requests]
        return self._session.spawn(requests) if requests else None

    @asked
    def get(self, timeout: float | None = None) -> Steps[list[R]]:
        """All results, in the order of the inputs; raises what the first to fail raised, TimeoutError after `timeout`."""
        return _gather(self._session, self._calls, timeout)

    @asked
    def cancel(self) -> Steps[None]:
        """Stop all that have not ended."""
        return self._session.connection.server.cancel_all(Cancel(group=self.id))

    @property
    def results(self) -> Results[R]:
        """The results as they come, as `.map` gives them."""
        return Results(self._mapping)

    def _mapping(self, options: MapOptions) -> Mapping:
        return Mapping.of_submitted(self._session, self.id, self._calls, options)

    def __len__(self) -> int:
        return len(self._calls)

    @overload
    def __getitem__(self, index: int) -> Call[R]: ...
    @overload
    def __getitem__(self, index: slice) -> list[Call[R]]: ...
    def __getitem__(self, index: int | slice) -> Call[R] | list[Call[R]]:
        if isinstance(index, slice):
            return [Call(one, self._session) for one in self._calls[index]]
        return Call(self._calls[index], self._session)

    def __repr__(self) -> str:
        return f"<relight calls {self.id}: {len(self)} of them>"


def is_remote() -> bool:
    """Whether this code runs as a call: in a worker, or in this process while its app runs here (`app.local()`)."""
    return inside.is_worker or bool(inside.call)


def is_local() -> bool:
    """Whether this code runs anywhere else: where `is_remote()` is not."""
    return not is_remote()


def current_call() -> str | None:
    """The id of the call that runs here, None outside of one."""
    return inside.call or None


def _pass_over(cannot: str, others: Keywords[str, object], own: str) -> None:
    if others:
        from relight.sdk.elsewhere import CallWords, pass_over  # which few need

        pass_over(cannot, others, CallWords, own)


def _session_from_here(what: str) -> Session:
    return session_inside(what) if inside.is_worker else Session(connect(), "", "")


def _gather(session: Session, calls: Sequence[str], timeout: float | None) -> Steps[list[Any]]:
    """The results of calls in their order; raises as soon as one is known to have failed."""
    until = None if timeout is None else session.clock.monotonic() + timeout
    gathered: dict[str, Any] = {}
    for start in range(0, len(calls), _CHUNK):
        wait = FIRST_WAIT_SECONDS
        while missing := [call for call in calls[start : start + _CHUNK] if call not in gathered]:
            left = wait if until is None else max(0.0, min(wait, until - session.clock.monotonic()))
            ended = yield from _ended(session, missing, left)
            for view in ended:
                gathered[view.id] = yield from session.take(view)
            if len(ended) < len(missing) and until is not None and session.clock.monotonic() >= until:
                raise TimeoutError(
                    f"cannot give {len(calls)} results: {len(calls) - len(gathered)} of the calls have not ended "
                    f"after {timeout:g} s; ask again"
                )
            wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
    return [gathered[call] for call in calls]


def _ended(session: Session, calls: list[str], seconds: float) -> Steps[list[CallView]]:
    """Those of the calls that have ended, once there is one, or after `seconds`."""
    answer = yield from session.connection.server.wait(Await(ids=tuple(calls), wait_seconds=seconds))
    return [view for view in answer.calls if view.state.is_final]


def _tree(session: Session, call: str) -> Steps[CallNode]:
    answer = yield from session.connection.server.tree(call)
    root = answer.get("tree") if isinstance(answer, dict) else None
    if not isinstance(root, dict):
        raise ProtocolError(f"cannot read what {call} called: the answer has no tree; is this a relight server?")
    return _node(root)


def _node(said: dict[str, Json]) -> CallNode:
    function, method = str(said.get("function", "")), str(said.get("method") or "")
    below = said.get("children")
    return CallNode(
        id=str(said.get("id", "")),
        function=f"{function}.{method}" if method else function,
        state=CallState(str(said.get("state", ""))),
        children=tuple(_node(one) for one in below if isinstance(one, dict)) if isinstance(below, list) else (),
    )
