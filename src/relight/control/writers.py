"""Where lines come from: which worker is (or was) of which function.

Lines may come after their worker is gone, and after the server that started it: a node says in its Hello whose lines it
still holds.  So many of the newest are remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from relight.protocol.link import HeldWorker, LogLines, WorkerSpec
from relight.scheduler.state import Worker
from relight.store.bodies import Origin, Written

REMEMBERED = 10_000


class Writers:
    """The workers whose lines may still come.  `find` gives the scheduler's worker of a name."""

    def __init__(self, find: Callable[[str], Worker | None]) -> None:
        self._find = find
        self._specs: dict[str, WorkerSpec] = {}

    def learn(self, workers: Iterable[HeldWorker]) -> None:
        """A node names the workers whose lines it holds."""
        for worker in workers:
            self._remember(worker.worker, worker.spec)

    def note(self, worker: str) -> None:
        """A worker is about to be forgotten elsewhere."""
        self._spec(worker)

    def written(self, logs: Sequence[LogLines]) -> dict[str, list[Written]]:
        """What was written in each workspace.  Lines of a worker that nobody here asked for are nobody's."""
        by_workspace: dict[str, list[Written]] = {}
        for group in logs:
            spec = self._spec(group.worker)
            if spec is not None and group.texts:
                origin = Origin(spec.app, spec.environment, spec.function.name, group.worker, group.call, group.source)
                by_workspace.setdefault(spec.workspace, []).append(
                    Written(origin=origin, at=group.at, texts=group.texts)
                )
        return by_workspace

    def _spec(self, worker: str) -> WorkerSpec | None:
        spec = self._specs.get(worker)
        if spec is None and (known := self._find(worker)) is not None:
            spec = known.spec
            self._remember(worker, spec)
        return spec

    def _remember(self, worker: str, spec: WorkerSpec) -> None:
        self._specs[worker] = spec
        while len(self._specs) > REMEMBERED:
            del self._specs[next(iter(self._specs))]
