"""Calls that wait for one another in a circle: pure, from who runs, who waits for whom, and who could start.

A call can end when it waits for nothing, or when what it waits for can end.  A call that is queued can start when a worker
of its function will take it, when a call that such a worker has can end, or when one more worker finds room once all those
that can ever leave have left.  What remains when nothing more follows from this can neither end nor start.

Where anything is unknown it counts as able to go on: a deadlock is only said where there is no other way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from relight.protocol.errors import Deadlock, Failure, failure_of
from relight.scheduler.queue import FunctionKey

_SHOWN = 6
"""How many calls of a circle a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What a running call waits for: all of `calls`, or one of them."""

    calls: Collection[str]
    needs_all: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """A call that runs.  It goes on as soon as one of `waits` is over; without any, it is at work."""

    call: str
    key: FunctionKey
    worker: str
    waits: tuple[Wait, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The calls of one function that are queued.  `is_open`: they will start without any other call's end.

    `workers` are those whose calls' ends make room in them; `may_grow`: one more may be started, where there is room.
    """

    key: FunctionKey
    calls: Collection[str]
    workers: Collection[str] = ()
    max_workers: int | None = None
    is_open: bool = False
    may_grow: bool = False


Fits = Callable[[FunctionKey, frozenset[str]], bool]
"""Whether one more worker of a function would find room, had these workers left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Everything that is known at one moment.  `runners` are in the order in which they began to wait.

    `leavers` are workers that leave, or would where room is needed, whatever the calls do.
    """

    runners: Sequence[Runner]
    lines: Sequence[Line]
    fits: Fits
    leavers: Collection[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """A call that waits for `calls`, which cannot start; `failure` is what is to become of them."""

    waiter: str
    calls: tuple[tuple[str, FunctionKey], ...]
    failure: Failure


def find_deadlocks(picture: Picture) -> tuple[Stuck, ...]:
    """The fewest ends that let everything go on: where the last link of a circle was made, its calls end."""
    lines = {call: line for line in picture.lines if not line.is_open for call in line.calls}
    found: list[Stuck] = []
    freed: set[str] = set()
    while True:
        progress = _Progress(picture, lines, freed)
        progress.grow()
        stuck = [one for one in picture.runners if one.call not in progress.going]
        still = {call: line for call, line in lines.items() if line.key not in progress.opened}
        last = next((one for one in reversed(stuck) if _queued(one, still)), None)
        if last is None:
            return tuple(found)
        freed.add(last.call)
        calls = tuple((call, still[call].key) for call in _queued(last, still))
        found.append(Stuck(waiter=last.call, calls=calls, failure=_failure(still[calls[0][0]], stuck)))


class _Progress:
    """The least set of running calls that can end (`going`), and of functions whose calls can start (`opened`)."""

    def __init__(self, picture: Picture, lines: Mapping[str, Line], freed: Collection[str]) -> None:
        self._picture = picture
        self._lines = lines
        self._freed = freed
        self._running = {runner.call: runner for runner in picture.runners}
        self.going: set[str] = set()
        self.opened: set[FunctionKey] = set()
        self._by_worker: dict[str, list[str]] = {}
        for runner in picture.runners:
            self._by_worker.setdefault(runner.worker, []).append(runner.call)

    def grow(self) -> None:
        """Add until nothing more follows."""
        has_grown = True
        while has_grown:
            has_grown = any([self._add_runners(), self._add_lines()])

    def _add_runners(self) -> bool:
        more = [one.call for one in self._picture.runners if one.call not in self.going and self._can_end(one)]
        self.going.update(more)
        return bool(more)

    def _add_lines(self) -> bool:
        closed = [one for one in self._picture.lines if not one.is_open and one.key not in self.opened]
        idle = (worker for worker, calls in self._by_worker.items() if self.going.issuperset(calls))
        gone = frozenset((*idle, *self._picture.leavers))
        more = [one.key for one in closed if self._can_start(one, gone)]
        self.opened.update(more)
        return bool(more)

    def _can_end(self, runner: Runner) -> bool:
        if not runner.waits or runner.call in self._freed:
            return True
        return any(self._is_over(wait) for wait in runner.waits)

    def _is_over(self, wait: Wait) -> bool:
        return not wait.calls or (all if wait.needs_all else any)(map(self._will_end, wait.calls))

    def _will_end(self, call: str) -> bool:
        if call in self._running:
            return call in self.going
        line = self._lines.get(call)
        return line is None or line.key in self.opened

    def _can_start(self, line: Line, gone: frozenset[str]) -> bool:
        has_room = any(call in self.going for worker in line.workers for call in self._by_worker.get(worker, ()))
        return has_room or (line.may_grow and self._picture.fits(line.key, gone))


def _queued(runner: Runner, lines: Mapping[str, Line]) -> list[str]:
    """What a runner waits for that is queued, each once."""
    return list(dict.fromkeys(call for wait in runner.waits for call in wait.calls if call in lines))


def _failure(line: Line, stuck: Sequence[Runner]) -> Failure:
    name = line.key.function
    holders = [one for one in stuck if one.worker in line.workers] or stuck
    waits = "; ".join(f"{one.call} ({one.key.function}) waits for {_target(one)}" for one in holders[:_SHOWN])
    more = f"; and {len(holders) - _SHOWN} more" if len(holders) > _SHOWN else ""
    if line.may_grow:
        why = "all room on the nodes is held by calls that wait for calls that cannot start either"
        remedy = f"ask for less memory or fewer GPUs, add a node, call {name} as a plain function there, or spawn it"
    else:
        many = line.max_workers == 1
        who = (
            "its only worker runs a call that waits" if many else f"all {line.max_workers} workers run calls that wait"
        )
        why = f"{who} for one that cannot start either (max_workers={line.max_workers})"
        remedy = f"raise max_workers= of {name}, call it as a plain function there, or spawn it instead of waiting"
    return failure_of(Deadlock(f"cannot start {name}: {why}: {waits}{more}; {remedy}"))


def _target(runner: Runner) -> str:
    calls = [call for wait in runner.waits for call in wait.calls]
    return calls[0] if len(calls) == 1 else f"{calls[0]} and {len(calls) - 1} others"
