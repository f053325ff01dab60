"""Versions that begin only when the workers of those before are gone, because both at once are too much for something.

    led to ─▶ its workers find no place ─ the last worker of every other version in its place is gone ─▶ they start

What is asked is what there is, so a scheduler that comes back asks the same and nothing of it is kept.  A worker of a node
that is away counts for as long as it may be running a call.
"""

from __future__ import annotations

from relight.protocol.link import WorkerSpec
from relight.scheduler.placement import NoPlace
from relight.scheduler.state import Worker
from relight.scheduler.waits import World

REASON = "replacing"
"""The code of the reason for which a call waits then."""


class Successions:
    """The versions that may have to wait for the workers of others."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: set[str] = set()

    def begin(self, version: str) -> None:
        """A version has no worker beside those of others in its place, an app in an environment."""
        self._waiting.add(version)

    def why(self, spec: WorkerSpec) -> NoPlace | None:
        """Why no worker of a version may start yet; None when one may, and from then on."""
        if spec.version not in self._waiting:
            return None
        workers = [one for one in self._world.workers.values() if _is_before(one.spec, spec) and self._counts(one)]
        others = {key: one for key, one in self._world.functions.items() if _is_before(one.spec, spec)}
        unseen = sum(len(one.expected) for one in others.values())  # of before a restart: their nodes will say
        unseen += sum(one.node not in self._world.nodes and one.call.key in others for one in self._world.leases)
        if not workers and not unseen:
            self._waiting.discard(spec.version)
            return None
        calls = sum(len(worker.calls) for worker in workers)
        sentence = (
            f"{len(workers) + unseen} workers of the version before are to be gone first, and have {calls} calls to end"
        )
        return NoPlace(reason=f"{REASON}: {sentence}", is_for_now=False, is_own=True)

    def _counts(self, worker: Worker) -> bool:
        node = self._world.nodes.get(worker.node)
        return bool(worker.calls) or (node is not None and node.is_connected)


def place_of(spec: WorkerSpec) -> tuple[str, str, str]:
    """Where a version is led to, or was: workspace, app and environment."""
    return spec.workspace, spec.app, spec.environment


def _is_before(one: WorkerSpec, spec: WorkerSpec) -> bool:
    return place_of(one) == place_of(spec) and one.version != spec.version
