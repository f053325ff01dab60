"""Calls that wait, a queue for each function of a version: first come, first served, the delayed ones when due."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from relight.protocol.calls import Token
from relight.protocol.payload import Payload


class FunctionKey(NamedTuple):
    """One function of one version, as one binding has it ("" for what was deployed): what workers are started for."""

    version: str
    function: str
    binding: str = ""


@dataclass(slots=True, kw_only=True)
class WaitingCall:
    """A call that is not running.  Times are on the scheduler's monotonic clock, in seconds.

    `due_at` is since when it waits for nothing but a worker.  `attempts` were charged so far; `payload` is None when it must be read from the store before dispatch; `is_again`:
    it was with a worker before.  `last_worker` had its session before this scheduler began.  `token` is the newest claim on it that is over: no other up to it means anything.
    """

    id: str
    workspace: str
    key: FunctionKey
    method: str = ""
    accept: tuple[str, ...] = ("pickle5",)
    attempts: int = 0
    payload: Payload | None = None
    not_before: float = 0.0
    due_at: float = 0.0
    expires_at: float | None = None
    is_cancelled: bool = False
    is_again: bool = False
    token: Token | None = None
    group: str = ""
    parent: str = ""
    is_awaited: bool = False
    session: str = ""
    is_strict: bool = False
    is_pinned: bool = False
    last_worker: str = ""


class FunctionQueue:
    """The waiting calls of one function."""

    def __init__(self) -> None:
        self._due: deque[WaitingCall] = deque()
        self._delayed: list[tuple[float, str, WaitingCall]] = []
        self._calls: dict[str, WaitingCall] = {}
        self._pinned: dict[str, deque[WaitingCall]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def get(self, call_id: str) -> WaitingCall | None:
        """A call that waits; None when it does not."""
        return self._calls.get(call_id)

    def __iter__(self) -> Iterator[WaitingCall]:
        return iter(self._calls.values())

    def push(self, call: WaitingCall, now: float) -> None:
        """Add a call; one that was running before goes to the front, for it has waited longest."""
        self._calls[call.id] = call
        call.due_at = max(now, call.not_before)
        if call.not_before > now:
            heapq.heappush(self._delayed, (call.not_before, call.id, call))
        elif call.is_again or call.attempts:
            self._due.appendleft(call)
        else:
            self._due.append(call)

    def pop(self, now: float) -> WaitingCall | None:
        """The next call that may run now; None when none may."""
        self._wake(now)
        while self._due:
            call = self._due.popleft()
            if self._is_here(call) and not call.is_pinned:
                return self._calls.pop(call.id)
        return None

    # -- calls that wait for one worker alone

    @property
    def has_pinned(self) -> bool:
        """Whether any does."""
        return bool(self._pinned)

    def pin(self, call: WaitingCall, worker: str, *, is_new: bool = False) -> None:
        """A call waits for this worker alone; one that was popped `is_new` here."""
        call.is_pinned = True
        if is_new:
            self._calls[call.id] = call
        self._pinned.setdefault(worker, deque()).append(call)

    def pop_pinned(self, worker: str) -> WaitingCall | None:
        """The next call that waits for a worker; None when none does."""
        waiting = self._pinned.get(worker, deque())
        while waiting:
            call = waiting.popleft()
            if self._is_here(call):
                call.is_pinned = False
                return self._calls.pop(call.id)
        self._pinned.pop(worker, None)
        return None

    def unpin(self, worker: str) -> list[WaitingCall]:
        """Take out all that wait for a worker: it is gone."""
        calls = []
        while (call := self.pop_pinned(worker)) is not None:
            calls.append(call)
        return calls

    def _count_pinned(self) -> int:
        return sum(self._is_here(call) for calls in self._pinned.values() for call in calls)

    def remove(self, call_id: str) -> WaitingCall | None:
        """Take a call out, wherever it stands; None when it is not here."""
        return self._calls.pop(call_id, None)

    def ready(self, now: float) -> int:
        """How many calls may run now, on any worker."""
        self._wake(now)
        return len(self._calls) - sum(self._is_here(call) for _, _, call in self._delayed) - self._count_pinned()

    def due(self, now: float) -> Collection[str]:
        """The calls that may run now."""
        self._wake(now)
        delayed = {call.id for _, _, call in self._delayed if self._is_here(call)}
        return [call_id for call_id in self._calls if call_id not in delayed] if delayed else self._calls.keys()

    def take_expired(self, now: float) -> list[WaitingCall]:
        """Take out the calls that have waited longer than they may."""
        late = [call for call in self._calls.values() if call.expires_at is not None and call.expires_at <= now]
        return [call for call in late if self.remove(call.id)]

    def take_all(self) -> list[WaitingCall]:
        """Take every call out."""
        calls = list(self._calls.values())
        self._calls.clear()
        self._due.clear()
        self._delayed.clear()
        self._pinned.clear()
        return calls

    def _is_here(self, call: WaitingCall) -> bool:
        """Whether it was not taken out; it may have come back since, as another that knows more."""
        return self._calls.get(call.id) is call

    def _wake(self, now: float) -> None:
        while self._delayed and (self._delayed[0][0] <= now or not self._is_here(self._delayed[0][2])):
            _, _, call = heapq.heappop(self._delayed)
            if self._is_here(call):
                self._due.append(call)
