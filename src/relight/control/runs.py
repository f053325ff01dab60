"""Runs: an app deployed for as long as its client is there.

A run is a deploy to an environment of its own.  The client holds a stream of the run's output open; that stream is also
its sign of life.  Once it has been gone for `grace_seconds`, or the client says so, the run ends.  The stream ends after what
its workers write as they leave, in an `@exit` method for example.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from relight.clock import Clock
from relight.control.deploys import Deploys
from relight.control.logs import Logs
from relight.protocol.errors import NotFound
from relight.protocol.views import AppView, LogQuery, LogRecord, RunEnded
from relight.scheduler.loop import Scheduler

_SWEEP_SECONDS = 5.0


@dataclass(slots=True)
class _Run:
    last_seen: float
    attached: int = 0
    fault: str = ""
    leaving: set[str] = field(default_factory=set)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Runs:
    """The runs whose clients are there, or were a moment ago."""

    def __init__(self, deploys: Deploys, logs: Logs, clock: Clock, grace_seconds: float) -> None:
        self._deploys = deploys
        self._logs = logs
        self._clock = clock
        self._grace_seconds = grace_seconds
        self._runs: dict[tuple[str, str], _Run] = {}
        self._scheduler: Scheduler

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler

    async def attach(self, workspace: str, run: str, after: int = 0) -> AsyncIterator[LogRecord | RunEnded]:
        """The output of a run as it comes, from record `after` on, then its end.  Raises NotFound."""
        await self._app(workspace, run)
        state = self._of(workspace, run)
        state.attached += 1
        try:
            async for record in self._logs.follow(workspace, LogQuery(environment=run, after=after), until=state.ended):
                yield record
            yield RunEnded(run=run)
        finally:
            state.attached -= 1
            state.last_seen = self._clock.monotonic()

    async def stop(self, workspace: str, run: str, *, cancel: bool) -> int:
        """End a run; without `cancel` only if nothing of it waits or runs.  How many calls that were (or are)."""
        app = await self._app(workspace, run)
        versions = self._scheduler.versions_of(workspace, app.app, run)
        unfinished = sum(len(self._scheduler.unfinished(one)) + self._scheduler.beyond_of(one) for one in versions)
        if unfinished and not cancel:
            return unfinished
        await self._deploys.stop(workspace, app.app, run)
        state = self._of(workspace, run)
        state.leaving = {worker.id for worker in self._scheduler.workers() if worker.key.version in versions}
        self._end_if_left(state)
        return unfinished

    async def tell_fault(self, workspace: str, run: str, text: str) -> None:
        """What is wrong with the newest form of what is served, "" for nothing: the version before is there.  Raises NotFound."""
        await self._app(workspace, run)
        self._of(workspace, run).fault = text

    def fault(self, workspace: str, run: str) -> str:
        """What was told last."""
        state = self._runs.get((workspace, run))
        return state.fault if state is not None else ""

    def worker_left(self, worker: str) -> None:
        """A worker is gone, and what it said last is kept."""
        for state in self._runs.values():
            if worker in state.leaving:
                state.leaving.discard(worker)
                self._end_if_left(state)

    async def watch(self, workspaces: tuple[str, ...]) -> None:
        """End the runs whose clients are gone, until cancelled."""
        while True:
            await self._clock.sleep(_SWEEP_SECONDS)
            for workspace in workspaces:
                for app in await self._deploys.apps(workspace):
                    if app.environment.startswith("run-") and self._is_abandoned(workspace, app.environment):
                        await self.stop(workspace, app.environment, cancel=True)

    def _end_if_left(self, state: _Run) -> None:
        if not state.leaving:
            state.ended.set()
            self._logs.wake()

    def _is_abandoned(self, workspace: str, run: str) -> bool:
        state = self._of(workspace, run)
        return not state.attached and self._clock.monotonic() - state.last_seen > self._grace_seconds

    def _of(self, workspace: str, run: str) -> _Run:
        return self._runs.setdefault((workspace, run), _Run(last_seen=self._clock.monotonic()))

    async def _app(self, workspace: str, run: str) -> AppView:
        for app in await self._deploys.apps(workspace):
            if app.environment == run:
                return app
        raise NotFound(f"cannot find run {run!r}: it has ended, or never was; start it again")
