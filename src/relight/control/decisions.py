"""The last decisions of each autoscaler with their reasons, those of before this server included."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from relight.control.catalog import Catalog
from relight.protocol.codec import from_plain, to_plain
from relight.protocol.scaleviews import DecisionView
from relight.scheduler.autoscale import KEPT_DECISIONS, Explained
from relight.scheduler.loop import Scheduler
from relight.scheduler.queue import FunctionKey
from relight.scheduler.state import Function

History = tuple[DecisionView, ...]


class Decisions:
    """Of calls that have no binding: of bindings there may be as many as there are values."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._before: dict[tuple[str, str], History] = {}
        self._kept: dict[tuple[str, str], Explained] = {}
        self._scheduler: Scheduler

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler

    def of(self, function: Function) -> History:
        """The last decisions on a function, oldest first."""
        before = self._before.get(_name(function), ())
        since = [
            DecisionView(at=one.at, workers=one.workers, before=one.before, reason=one.reason)
            for one in function.autoscaler.history
        ]
        return (*before, *since)[-KEPT_DECISIONS:]

    def changes(self) -> Mapping[tuple[str, str], str]:
        """The histories that are others since this was last asked."""
        changed: dict[tuple[str, str], str] = {}
        for function in self._functions():
            history, name = function.autoscaler.history, _name(function)
            if history and self._kept.get(name) != history[-1]:  # the last may have gone on since
                self._kept[name] = history[-1]
                changed[name] = json.dumps([to_plain(one) for one in self.of(function)])
        return changed

    def restore(self, workspace: str, name: str, text: str) -> None:
        """What the server before this one kept."""
        self._before[workspace, name] = tuple(from_plain(one, DecisionView) for one in json.loads(text))

    def _functions(self) -> Iterator[Function]:
        for route in tuple(self._catalog.routes()):
            for version in route.versions:
                for spec in version.manifest.functions:
                    function = self._scheduler.function(FunctionKey(version.id, spec.name))
                    if function is not None:
                        yield function


def _name(function: Function) -> tuple[str, str]:
    return function.spec.workspace, f"{function.key.version}/{function.key.function}"
