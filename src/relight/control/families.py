"""Calls that were made by calls: who made whom, who waits for whom, and who ends with whom.

    parent runs ─ makes ▶ child          awaited: while the parent waits, its worker lends its CPU
    parent's attempt ends without success ▶ its awaited children that have not ended are cancelled; spawned ones live on

Only unfinished children are known here; the whole tree is in the store.  A worker may only name a call that it holds as the
one it asks for: whatever else it says is dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from relight.protocol.calls import CallRequest
from relight.scheduler.deadlock import Wait
from relight.scheduler.leases import Lease
from relight.scheduler.queue import WaitingCall


class Runs(Protocol):
    """The scheduler, as far as it is needed here."""

    def lease(self, call_id: str, /) -> Lease | None:
        """Who has a call."""

    def wait_begins(self, call_id: str, wait: Wait, /) -> None:
        """A running call waits."""

    def wait_ends(self, call_id: str, wait: Wait, /, *, is_over: bool) -> None:
        """It has its answer."""


@dataclass(slots=True)
class Asking:
    """A request of a worker that waits.  Whoever answers says whether all that was waited for has come."""

    is_over: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """What a worker waits for, if it is one: calls, or the next end of a group, in the name of `caller` if it says so."""

    worker: str
    seconds: float
    calls: Sequence[str] = ()
    group: str = ""
    caller: str = ""
    needs_all: bool = False


@dataclass(slots=True)
class Families:
    """The unfinished children of every call that runs, or has run."""

    _children: dict[str, WaitingCall] = field(default_factory=dict)
    _by_parent: dict[str, dict[str, None]] = field(default_factory=dict)
    _by_group: dict[str, dict[str, None]] = field(default_factory=dict)

    def add(self, child: WaitingCall) -> None:
        """A call was made by another; without effect when none did."""
        if not child.parent:
            return
        self._children[child.id] = child
        self._by_parent.setdefault(child.parent, {})[child.id] = None
        if child.group:
            self._by_group.setdefault(child.group, {})[child.id] = None

    def remove(self, call_id: str) -> None:
        """A call has ended; nothing happens when no other made it."""
        child = self._children.pop(call_id, None)
        if child is not None:
            _drop(self._by_parent, child.parent, call_id)
            _drop(self._by_group, child.group, call_id)

    def awaited_of(self, parent: str) -> tuple[WaitingCall, ...]:
        """The unfinished children that a call waits for, or would if it still ran."""
        children = (self._children[call] for call in self._by_parent.get(parent, ()))
        return tuple(child for child in children if child.is_awaited)

    def has(self, parent: str) -> bool:
        """Whether a call has unfinished children."""
        return parent in self._by_parent

    def parents(self) -> Collection[str]:
        """The calls that have unfinished children."""
        return tuple(self._by_parent)

    # -- what workers say

    def adopt(self, runs: Runs, worker: str, requests: Sequence[CallRequest]) -> tuple[CallRequest, ...]:
        """The requests as they are believed: a parent is one that the asking worker has, or there is none."""
        if not any(one.parent or one.is_awaited for one in requests):
            return tuple(requests)
        return tuple(
            replace(one, parent="", is_awaited=False)
            if (one.parent or one.is_awaited) and not _holds(runs, worker, one.parent)
            else one
            for one in requests
        )

    @contextmanager
    def asking(self, runs: Runs, awaited: Awaited) -> Iterator[Asking]:
        """While a worker's request waits: the call that asks counts as waiting."""
        asking = Asking()
        waiter = self._waiter(runs, awaited) if awaited.worker and awaited.seconds > 0 else ""
        if not waiter:
            yield asking
            return
        targets: Collection[str] = self._by_group.get(awaited.group, {}).keys() if awaited.group else awaited.calls
        wait = Wait(calls=targets, needs_all=awaited.needs_all)
        runs.wait_begins(waiter, wait)
        try:
            yield asking
        finally:
            runs.wait_ends(waiter, wait, is_over=asking.is_over)

    def _waiter(self, runs: Runs, awaited: Awaited) -> str:
        """The call that waits: the one the worker names, or the one that made what is waited for."""
        named = (awaited.caller, *(self._parent(call) for call in (*awaited.calls, *self._first_of(awaited.group))))
        return next((call for call in named if call and _holds(runs, awaited.worker, call)), "")

    def _parent(self, call_id: str) -> str:
        child = self._children.get(call_id)
        return "" if child is None else child.parent

    def _first_of(self, group: str) -> Sequence[str]:
        return list(self._by_group.get(group, ()))[:1]


def _holds(runs: Runs, worker: str, call_id: str) -> bool:
    lease = runs.lease(call_id) if worker and call_id else None
    return lease is not None and lease.worker == worker


def _drop(index: dict[str, dict[str, None]], name: str, call_id: str) -> None:
    calls = index.get(name)
    if calls is not None:
        calls.pop(call_id, None)
        if not calls:
            del index[name]
