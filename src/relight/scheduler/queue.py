"""Calls that wait, a queue for each function of a version.

    push ─▶ delayed ─ when due ─▶ due ─ pop ─▶ with a worker      higher priorities first, then first come, first served
       │                              └─ of a session whose worker has no room ─▶ pinned ─▶ with that worker
       └──▶ behind its key ─ when a call of the key has ended ─▶ due

Calls of one key are *admitted* in the order they came, so many at a time as may run at once; one that is tried again is
admitted all the while, so that those behind it stay behind it.  A queue that is paused, or whose rate is used up, pops
nothing.  Beyond a window calls are not here at all but in the store, and `beyond` counts them (`control.beyond`).
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from relight.protocol.calls import Token
from relight.protocol.manifest import Queueing
from relight.protocol.payload import Payload
from relight.scheduler.rate import Rate

WINDOW = 1000
"""So many waiting calls of a function are in memory; twice as many where the later ones are more urgent."""


class FunctionKey(NamedTuple):
    """One function of one version, as one binding has it ("" for what was deployed): what workers are started for."""

    version: str
    function: str
    binding: str = ""


class Standing(Enum):
    """Where a call stands in its queue."""

    NOWHERE = 0
    DUE = 1
    DELAYED = 2
    BEHIND = 3
    PINNED = 4


@dataclass(slots=True, kw_only=True)
class WaitingCall:
    """A call that is not running.  Times are on the scheduler's monotonic clock, in seconds.

    `due_at` is since when it waits for nothing but a worker.  `attempts` were charged so far; `payload` is None when it must be read from the store before dispatch; `is_again`:
    it was with a worker before.  `last_worker` had its session before this scheduler began.  `token` is the newest claim on it that is over: no other up to it means anything.
    Calls of one `order_key` wait for each other.
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
    last_worker: str = ""
    priority: int = 0
    order_key: str = ""
    standing: Standing = Standing.NOWHERE


class FunctionQueue:
    """The waiting calls of one function."""

    def __init__(self, queueing: Queueing | None = None) -> None:
        self.is_paused = False
        self.beyond: Counter[int] = Counter()  # by priority
        self.is_refilling = False
        self.grew = 0  # how often `beyond` was added to
        self.rate: Rate | None = None
        self._queueing = Queueing()
        self._due: dict[int, deque[WaitingCall]] = {}
        self._priorities: list[int] = []  # as they are in `_due`, the most urgent last
        self._ready = 0
        self._delayed: list[tuple[float, str, WaitingCall]] = []
        self._expiring: list[tuple[float, str, WaitingCall]] = []
        self._calls: dict[str, WaitingCall] = {}
        self._pinned: dict[str, deque[WaitingCall]] = {}
        self._behind: dict[str, deque[WaitingCall]] = {}
        self._admitted: Counter[str] = Counter()
        self._freed: dict[str, None] = {}
        self.tune(queueing or Queueing())

    def tune(self, queueing: Queueing, *, is_paused: bool = False) -> None:
        """From now on calls wait so."""
        if queueing.rate_limit != self._queueing.rate_limit:
            self.rate = None if queueing.rate_limit is None else Rate(queueing.rate_limit)
        self._queueing, self.is_paused = queueing, is_paused
        self._freed.update(dict.fromkeys(self._behind))

    def __len__(self) -> int:
        """How many calls wait, here and in the store."""
        return len(self._calls) + self.beyond.total() if self.beyond else len(self._calls)

    def get(self, call_id: str) -> WaitingCall | None:
        """A call that waits; None when it does not, or not here."""
        return self._calls.get(call_id)

    def __iter__(self) -> Iterator[WaitingCall]:
        return iter(self._calls.values())

    # -- in

    def push(self, call: WaitingCall, now: float) -> None:
        """Add a call; one that was running before goes to the front, for it has waited longest."""
        self._calls[call.id] = call
        call.due_at = max(now, call.not_before)
        if call.expires_at is not None:
            self._note_expiry(call.expires_at, call)
        if call.order_key and not self._admits(call):
            call.standing = Standing.BEHIND
            self._behind.setdefault(call.order_key, deque()).append(call)
        elif call.not_before > now:
            call.standing = Standing.DELAYED
            heapq.heappush(self._delayed, (call.not_before, call.id, call))
        else:
            self._make_due(call, is_first=call.is_again or call.attempts > 0)

    @property
    def here(self) -> int:
        """How many calls wait in memory."""
        return len(self._calls)

    def goes_beyond(self, priority: int, coming: int = 0) -> bool:
        """Whether one more call of this priority is to be in the store alone: there is no room, or others are before it.

        `coming` are on their way to memory.
        """
        here = len(self._calls) + coming
        if not self.beyond and here < WINDOW:
            return False
        is_urgent = bool(self._priorities) and priority > self._priorities[0]
        if here >= (2 * WINDOW if is_urgent else WINDOW):
            return True
        return any(other >= priority for other in self.beyond)

    def wants_more(self) -> bool:
        """Whether calls beyond the window should come: what is here will not last."""
        return bool(self.beyond) and not self.is_refilling and not self.is_paused and len(self._calls) <= WINDOW // 2

    def note_beyond(self, counts: Counter[int]) -> None:
        """So many more calls of each priority, or fewer, are in the store alone."""
        self.grew += 1
        self.beyond.update(counts)
        self.beyond = +self.beyond

    def lose_beyond(self) -> None:
        """One of the calls in the store alone has ended; of which priority is not known, and told by what comes next."""
        if self.beyond:
            self.beyond[min(self.beyond)] -= 1
            self.beyond = +self.beyond

    def came(self, counts: Counter[int], *, is_all: bool) -> None:
        """So many calls of each priority are not in the store alone any more; `is_all`: none is."""
        self.beyond = Counter() if is_all else self.beyond - counts

    # -- out

    def pop(self, now: float) -> WaitingCall | None:
        """The next call that may run now; None when none may.  It stays admitted to its key until `leave`."""
        self._wake(now)
        if self.is_paused or not self._ready or (self.rate is not None and not self.rate.take(now)):
            return None
        while True:
            line = self._due[self._priorities[-1]]
            while line:
                call = line.popleft()
                if self._is_here(call, Standing.DUE):
                    self._take(call)
                    return call
            del self._due[self._priorities.pop()]

    def put_back(self, call: WaitingCall) -> None:
        """A call that was popped begins later, before all others of its priority; it is admitted to its key still."""
        self._calls[call.id] = call
        self._make_due(call, is_first=True)
        if self.rate is not None:
            self.rate.give_back()

    # -- calls that wait for one worker alone

    @property
    def has_pinned(self) -> bool:
        """Whether any does."""
        return bool(self._pinned)

    def pin(self, call: WaitingCall, worker: str) -> None:
        """A call waits for this worker alone, unless something else holds it still: then it does once that lets it go."""
        if call.standing is Standing.NOWHERE:  # it was popped
            self.put_back(call)
        if call.standing is not Standing.DUE:
            return
        self._ready -= 1
        call.standing = Standing.PINNED
        self._pinned.setdefault(worker, deque()).append(call)

    def pop_pinned(self, worker: str, now: float) -> WaitingCall | None:
        """The next call that waits for a worker and may run now; None when none does.  As `pop` otherwise."""
        waiting = self._pinned.get(worker)
        while waiting and not self._is_here(waiting[0], Standing.PINNED):
            waiting.popleft()
        if not waiting:
            self._pinned.pop(worker, None)
            return None
        if self.is_paused or (self.rate is not None and not self.rate.take(now)):
            return None
        call = waiting.popleft()
        self._take(call)
        return call

    def unpin(self, worker: str) -> list[WaitingCall]:
        """Take out all that wait for a worker: it is gone."""
        waiting = [call for call in self._pinned.pop(worker, ()) if self._is_here(call, Standing.PINNED)]
        return [call for call in waiting if self.remove(call.id)]

    def remove(self, call_id: str) -> WaitingCall | None:
        """Take a call out, wherever it stands; None when it is not here."""
        call = self._calls.get(call_id)
        if call is not None:
            was_behind = call.standing is Standing.BEHIND
            self._take(call)
            if not was_behind:
                self.leave(call)
        return call

    def hold(self, call: WaitingCall) -> None:
        """A call that waits no more runs already: others of its key come after it."""
        if call.order_key:
            self._admitted[call.order_key] += 1

    def leave(self, call: WaitingCall) -> None:
        """A call that was popped, or held, is over: with the next `pop`, unless it is pushed again before, others may come."""
        if call.order_key:
            self._admitted[call.order_key] -= 1
            if self._admitted[call.order_key] <= 0:
                del self._admitted[call.order_key]
            self._freed[call.order_key] = None

    def take_expired(self, now: float) -> list[WaitingCall]:
        """Take out the calls that have waited longer than they may."""
        late = []
        while self._expiring and self._expiring[0][0] <= now:
            _, _, call = heapq.heappop(self._expiring)
            if self._calls.get(call.id) is call and self.remove(call.id):
                late.append(call)
        return late

    def take_all(self) -> list[WaitingCall]:
        """Take every call out that is here."""
        return [call for call_id in list(self._calls) if (call := self.remove(call_id)) is not None]

    # -- questions

    def ready(self, now: float) -> int:
        """How many calls may run now on any worker, those in the store included."""
        self._wake(now)
        if self.is_paused:
            return 0
        ready = self._ready + self.beyond.total() if self.beyond else self._ready
        return ready if self.rate is None else min(ready, self.rate.left(now))

    def due(self, now: float) -> Collection[str]:
        """The calls that may run now, on whatever worker."""
        self._wake(now)
        if self.is_paused:
            return ()
        if self._ready == len(self._calls):
            return self._calls.keys()
        return [call.id for call in self._calls.values() if call.standing in (Standing.DUE, Standing.PINNED)]

    def next_at(self, now: float) -> float | None:
        """When a call may run that may not now, though nothing ends until then; None when that is unknown."""
        times = [self._delayed[0][0]] if self._delayed else []
        if self.rate is not None and (self._ready or self._pinned) and not self.is_paused and not self.rate.left(now):
            times.append(self.rate.next_at(now))
        return min(times, default=None)

    def why_held(self, call: WaitingCall, now: float) -> str:
        """Why the queue itself holds a call, `code: sentence`; empty when that waits for nothing but a worker."""
        if call.standing is Standing.BEHIND:
            most = self._queueing.key_concurrency
            return (
                f"behind_key: {most} of the calls with key {call.order_key!r} run, or wait before it; each in its turn"
            )
        if call.not_before > now:
            left = call.not_before - now
            if call.attempts or call.is_again:
                return f"retry_backoff: it is tried again in {left:.1f} s"
            return f"not_before: it is to begin in {left:.1f} s"
        return self.why_none(now)

    def why_none(self, now: float) -> str:
        """Why the queue gives no call at all, `code: sentence`; empty when it does."""
        if self.is_paused:
            return "paused: its function was paused; `relight queue resume` lets its calls run"
        if self.rate is not None and not self.rate.left(now):
            return f"rate_limited: {self.rate}; the next may begin in {self.rate.next_at(now) - now:.1f} s"
        return ""

    # -- inside

    def _admits(self, call: WaitingCall) -> bool:
        """Whether a call need not wait for others of its key; it is counted then."""
        key = call.order_key
        is_first = call.is_again or call.attempts > 0
        if not is_first and (key in self._behind or self._admitted[key] >= self._queueing.key_concurrency):
            return False
        self._admitted[key] += 1
        return True

    def _admit_next(self) -> None:
        """Calls of some keys are over: let those behind them come."""
        freed, self._freed = self._freed, {}
        for key in freed:
            line = self._behind.get(key)
            while line and self._admitted[key] < self._queueing.key_concurrency:
                call = line.popleft()
                if self._is_here(call, Standing.BEHIND):
                    self._admitted[key] += 1
                    self._make_due(call)
            if line is not None and not line:
                del self._behind[key]

    def _make_due(self, call: WaitingCall, *, is_first: bool = False) -> None:
        call.standing = Standing.DUE
        self._ready += 1
        line = self._due.get(call.priority)
        if line is None:
            line = self._due[call.priority] = deque()
            insort(self._priorities, call.priority)
        if is_first:
            line.appendleft(call)
        else:
            line.append(call)

    def _note_expiry(self, at: float, call: WaitingCall) -> None:
        if len(self._expiring) > 2 * len(self._calls) + 64:  # most of them wait no more
            self._expiring = [one for one in self._expiring if self._calls.get(one[1]) is one[2]]
            heapq.heapify(self._expiring)
        heapq.heappush(self._expiring, (at, call.id, call))

    def _take(self, call: WaitingCall) -> None:
        del self._calls[call.id]
        self._ready -= call.standing is Standing.DUE
        call.standing = Standing.NOWHERE

    def _is_here(self, call: WaitingCall, standing: Standing) -> bool:
        """Whether it still stands there; it may have come back since, as another that knows more."""
        return call.standing is standing and self._calls.get(call.id) is call

    def _wake(self, now: float) -> None:
        if self._freed:
            self._admit_next()
        while self._delayed and (
            self._delayed[0][0] <= now or not self._is_here(self._delayed[0][2], Standing.DELAYED)
        ):
            _, _, call = heapq.heappop(self._delayed)
            if self._is_here(call, Standing.DELAYED):
                self._make_due(call)
