"""What may be asked of the scheduler: which workers, nodes and functions there are, what waits for them, and why.

The half of it that changes nothing; `scheduler.loop` is the other.
"""

from __future__ import annotations

from relight.clock import Clock
from relight.scheduler.blocks import Blocks
from relight.scheduler.leases import Lease
from relight.scheduler.queue import FunctionKey
from relight.scheduler.state import Function, Node, Worker
from relight.scheduler.succession import place_of
from relight.scheduler.waits import Waits, World


class Census:
    """Answers from what the scheduler knows now."""

    def __init__(self, world: World, waits: Waits, blocks: Blocks, clock: Clock) -> None:
        self.blocks = blocks
        self._world = world
        self._waits = waits
        self._clock = clock

    # -- functions

    def knows(self, key: FunctionKey) -> bool:
        """Whether calls of this function can be submitted."""
        return key in self._world.functions

    def function(self, key: FunctionKey) -> Function | None:
        """What is known of a function; None when it is not."""
        return self._world.functions.get(key)

    def functions_of(self, version: str, name: str) -> list[Function]:
        """A function of a version, and its bindings."""
        return [one for key, one in self._world.functions.items() if (key.version, key.function) == (version, name)]

    def versions_of(self, workspace: str, app: str, environment: str) -> set[str]:
        """The versions of an app that something waits for, or runs, in one of its places."""
        place, specs = (workspace, app, environment), [one.spec for one in self._world.functions.values()]
        return {spec.version for spec in specs if place_of(spec) == place}

    def knows_session(self, key: FunctionKey, session: str) -> bool:
        """Whether it is known here which worker has a session."""
        function = self._world.functions.get(key)
        return function is not None and function.sessions.knows(session)

    # -- calls

    def waiting(self, key: FunctionKey) -> int:
        """How many calls of a function wait."""
        return len(self._world.functions[key].queue)

    def backlog(self, version: str, name: str) -> int:
        """How many calls of a function wait, whatever values of parameters or options they are for."""
        return sum(len(one.queue) for one in self.functions_of(version, name))

    def unfinished(self, version: str) -> list[tuple[str, FunctionKey]]:
        """The calls of a version that wait or run."""
        functions = [one for key, one in self._world.functions.items() if key.version == version]
        waiting = [(call.id, call.key) for one in functions for call in one.queue]
        return waiting + [(one.call.id, one.call.key) for one in self._world.leases if one.call.key.version == version]

    def beyond_of(self, version: str = "") -> int:
        """How many calls of a version, or of all, wait in the store alone."""
        functions = self._world.functions
        return sum(one.queue.beyond.total() for key, one in functions.items() if version in ("", key.version))

    def lease(self, call_id: str) -> Lease | None:
        """Who has a call now; None when nobody does."""
        return self._world.leases.get(call_id)

    def why_waiting(self, call_id: str, key: FunctionKey) -> str:
        """The reason a call is not running, `code: sentence`; empty when it runs or is not known."""
        function = self._world.functions.get(key)
        call = function.queue.get(call_id) if function is not None else None
        held = function.held.get(call_id) if function is not None else None
        if held is not None and held.worker in self._world.workers:
            return f"starting:{self._world.workers[held.worker].state.value}: a worker is on its way"
        if function is None or (call is None and not function.queue.beyond):
            return ""
        now = self._clock.monotonic()
        own = function.queue.why_held(call, now) if call is not None else function.queue.why_none(now)
        blocked = self.blocks.why(function)
        return own or blocked or self._waits.reason(call_id) or self._waits.why_no_worker(function, now)

    # -- workers and nodes

    def workers(self) -> list[Worker]:
        """Every worker there is."""
        return list(self._world.workers.values())

    def worker(self, worker_id: str) -> Worker | None:
        """One worker; None when there is none of that name."""
        return self._world.workers.get(worker_id)

    def nodes(self) -> list[Node]:
        """Every node there is."""
        return list(self._world.nodes.values())
