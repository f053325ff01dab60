"""Shadows: a version that gets copies of calls, whose answers are thrown away, to see how it would do.

    call ─▶ the version that serves ─▶ its caller
      └ of some: a copy ─▶ the shadow ─▶ counted: failed? how long? another result?

A copy is a call to the scheduler and the agents, and to nobody else: nothing of it is kept, so it costs a call nothing but
the work, and is lost with the server.  At most MOST_WAITING of a function wait, so that a slow shadow takes no more room than
that.  What a copy itself calls of its app runs in its own version, as calls like any other; those, and all that other calls
make, are not copied.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from relight.clock import Clock, now_ms
from relight.control.catalog import Catalog, Route, Version, check_method, key_of
from relight.protocol.calls import CallEvent, CallRequest, CallState, CallView
from relight.protocol.errors import Failure, InvalidRequest, NotFound
from relight.protocol.ids import new_id
from relight.protocol.link import CallEnd
from relight.protocol.payload import Payload
from relight.protocol.versions import ShadowView, Strategy
from relight.scheduler.leases import Lease
from relight.scheduler.loop import Scheduler
from relight.scheduler.queue import FunctionKey, WaitingCall

PREFIX = "shadow-"
"""The ids of copies begin so."""

MOST_WAITING = 100
"""So many copies of a function wait at most; no more are made meanwhile."""

PATIENCE_SECONDS = 60.0
"""A copy that has waited for so long is dropped."""

MOST_PAIRS = 10_000
"""So many calls are remembered whose copy, or which themselves, have not ended."""

SAMPLES = 500
"""Quantiles are those of so many of the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call, or its copy, ended: what it answered, "" without a result, after so many seconds with a worker."""

    digest: str
    seconds: float


@dataclass(slots=True, kw_only=True)
class Tally:
    """What is counted of one function."""

    copies: int = 0
    ended: int = 0
    failed: int = 0
    compared: int = 0
    differed: int = 0
    both_failed: int = 0
    dropped: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    seconds_before: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))

    def fail(self, code: str) -> None:
        """A copy has ended without a result."""
        self.ended += 1
        self.failed += 1
        self.failures[code] += 1

    def compare(self, call: Outcome, copy: Outcome) -> None:
        """Both have ended."""
        self.compared += 1
        self.differed += call.digest != copy.digest
        self.both_failed += not call.digest and not copy.digest
        self.seconds_before.append(call.seconds)

    def view(self, function: str) -> ShadowView:
        """What is shown of it."""
        return ShadowView(
            function=function,
            copies=self.copies,
            ended=self.ended,
            failed=self.failed,
            compared=self.compared,
            differed=self.differed,
            both_failed=self.both_failed,
            dropped=self.dropped,
            p50_seconds=_quantile(self.seconds, 0.5),
            p99_seconds=_quantile(self.seconds, 0.99),
            p50_seconds_before=_quantile(self.seconds_before, 0.5),
            p99_seconds_before=_quantile(self.seconds_before, 0.99),
            failures=tuple(self.failures.most_common()),
        )

    def text(self) -> str:
        """All of it, to be read by `read_tally`."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        lists = {"seconds": [*self.seconds], "seconds_before": [*self.seconds_before]}
        return json.dumps({**counts, "failures": self.failures, **lists})


_COUNTS = ("copies", "ended", "failed", "compared", "differed", "both_failed", "dropped")


def read_tally(text: str) -> Tally:
    """What `Tally.text` said."""
    said = json.loads(text)
    tally = Tally(**{name: said[name] for name in _COUNTS}, failures=Counter(said["failures"]))
    tally.seconds.extend(said["seconds"])
    tally.seconds_before.extend(said["seconds_before"])
    return tally


@dataclass(slots=True, kw_only=True)
class _Pair:
    """A call and its copy, of which at least one has not ended."""

    key: FunctionKey
    workspace: str
    call: Outcome | None = None
    copy: Outcome | None = None


class Shadows:
    """Every copy that waits or runs, and what was counted of those before."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        self._pairs: dict[str, _Pair] = {}
        self._originals: dict[str, str] = {}
        self._tallies: dict[tuple[str, str, str], Tally] = {}
        self._changed: set[tuple[str, str, str]] = set()
        self._scheduler: Scheduler

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler

    # -- copies

    def copy(self, workspace: str, requests: Iterable[CallRequest]) -> None:
        """These calls were taken in: copy those of which a shadow is to have one."""
        copies: list[WaitingCall] = []
        for request in requests:
            route = self._catalog.current(workspace, request.app, request.environment)
            version = route.shadow_of(request.id) if route is not None and not request.parent else None
            if version is not None and request.id not in self._pairs:
                copies += self._copy(version, request)
        if copies:
            self._scheduler.submit(copies)

    def parents_version(self, request: CallRequest, route: Route) -> Version | None:
        """The shadow, where a call is made by one that runs in it; else None."""
        if route.strategy is not Strategy.SHADOW or route.canary is None or not request.parent:
            return None
        lease = self._scheduler.lease(request.parent)
        return route.canary if lease is not None and lease.call.key.version == route.canary.id else None

    def _copy(self, version: Version, request: CallRequest) -> Sequence[WaitingCall]:
        tally = self._tally(version.workspace, FunctionKey(version.id, request.function))
        try:
            bound = version.bind(request.function, request.binding)
            check_method(bound.function, request.method)
        except (NotFound, InvalidRequest) as error:
            tally.copies += 1
            tally.fail(error.code)
            return ()
        method = bound.function.method(request.method)
        if method is None or method.is_generator:
            return ()  # what it yields waits for a reader, and there is none
        key = key_of(version, bound)
        if not self._scheduler.knows(key):
            self._scheduler.add_function(key, self._catalog.worker_spec(version, bound))
        if self._scheduler.waiting(key) >= MOST_WAITING:
            tally.dropped += 1
            return ()
        if len(self._pairs) >= MOST_PAIRS:
            self._forget(next(iter(self._pairs)))  # it is counted, and not compared
        tally.copies += 1
        copy = WaitingCall(
            id=new_id("shadow", now_ms()),
            workspace=version.workspace,
            key=key,
            method=request.method,
            accept=request.accept,
            payload=request.payload,
            expires_at=self._clock.monotonic() + PATIENCE_SECONDS,
        )
        self._pairs[request.id] = _Pair(key=key, workspace=version.workspace)
        self._originals[copy.id] = request.id
        return (copy,)

    def stop(self, version: Version) -> None:
        """A version is a shadow no more: its copies that wait are dropped."""
        for spec in version.manifest.functions:
            for function in self._scheduler.functions_of(version.id, spec.name):
                waiting = [call for call in function.queue if of_shadow(call.id)]
                self.drop([call for call in waiting if self._scheduler.cancel(call.id, call.key)])

    # -- how they end

    def call_ended(self, view: CallView) -> None:
        """A call has ended: it may have a copy."""
        pair = self._pairs.get(view.id)
        if pair is None:
            return
        if view.state is CallState.CANCELLED:
            self._forget(view.id)
            return
        began = view.started_at if view.started_at is not None else view.ended_at
        pair.call = Outcome(digest=_digest(view.result), seconds=max(0.0, (view.ended_at or 0.0) - (began or 0.0)))
        self._compare(view.id, pair)

    def ended(self, node: str, end: CallEnd) -> FunctionKey | None:
        """A copy ended on a node; the function whose worker is free then."""
        has_run = end.outcome is CallEvent.SUCCEEDED or end.seconds > 0
        lease = self._scheduler.release(end.call, end.token, end.seconds if has_run else None)
        self._scheduler.acknowledge(node, end.call, end.token)
        if lease is None:
            return None
        code = "" if end.outcome is CallEvent.SUCCEEDED else end.failure.code if end.failure is not None else "failed"
        seconds = max(0.0, self._clock.monotonic() - lease.granted_at)
        self._end(lease.call, code, Outcome(digest="" if code else _digest(end.result), seconds=seconds))
        return lease.call.key

    def lost(self, leases: Sequence[Lease]) -> None:
        """The workers of copies are gone: they are not tried again."""
        for lease in leases:
            self._end(lease.call, "worker_lost", Outcome(digest="", seconds=0.0))

    def cannot_start(self, calls: Sequence[WaitingCall], failure: Failure) -> None:
        """No worker can be started for these."""
        for call in calls:
            self._end(call, failure.code, Outcome(digest="", seconds=0.0))

    def drop(self, calls: Iterable[WaitingCall]) -> None:
        """These are not run any more."""
        for call in calls:
            self._tally(call.workspace, call.key).dropped += 1
            self._forget(self._originals.pop(call.id, ""))

    def _end(self, call: WaitingCall, code: str, outcome: Outcome) -> None:
        tally, original = self._tally(call.workspace, call.key), self._originals.pop(call.id, "")
        if code:
            tally.fail(code)
        else:
            tally.ended += 1
            tally.seconds.append(outcome.seconds)
        pair = self._pairs.get(original)
        if pair is not None:
            pair.copy = outcome
            self._compare(original, pair)

    def _compare(self, call: str, pair: _Pair) -> None:
        if pair.call is not None and pair.copy is not None:
            self._tally(pair.workspace, pair.key).compare(pair.call, pair.copy)
            del self._pairs[call]

    def _forget(self, call: str) -> None:
        self._pairs.pop(call, None)

    # -- what is shown, and kept

    def views(self, workspace: str, version: str) -> tuple[ShadowView, ...]:
        """How a shadow's copies went, function by function; () for what was none."""
        found = {name: one for (owner, of, name), one in self._tallies.items() if (owner, of) == (workspace, version)}
        return tuple(found[name].view(name) for name in sorted(found))

    def changes(self) -> Mapping[tuple[str, str], str]:
        """What was counted anew since this was last asked: a text for each (workspace, version/function)."""
        changed, self._changed = self._changed, set()
        return {
            (owner, f"{version}/{name}"): self._tallies[owner, version, name].text() for owner, version, name in changed
        }

    def restore(self, workspace: str, name: str, text: str) -> None:
        """What the server before this one counted."""
        version, _, function = name.partition("/")
        self._tallies[workspace, version, function] = read_tally(text)

    def _tally(self, workspace: str, key: FunctionKey) -> Tally:
        """The tally of a function, which is about to change."""
        name = (workspace, key.version, key.function)
        self._changed.add(name)
        return self._tallies.setdefault(name, Tally())


def of_shadow(call: str) -> bool:
    """Whether what the scheduler calls a call is a copy."""
    return call.startswith(PREFIX)


def _digest(result: Payload | None) -> str:
    if result is None:
        return ""
    return hashlib.blake2b(
        f"{result.format} {result.blob} ".encode() + (result.data or b""), digest_size=16
    ).hexdigest()


def _quantile(seconds: Iterable[float], part: float) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0
