"""All workers of a node: orders find theirs here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from relight.agent.attempts import Attempt, end_refused
from relight.agent.meter import SEAL_SECONDS
from relight.agent.outbox import Held
from relight.agent.surroundings import Surroundings
from relight.agent.worker import Worker
from relight.protocol.errors import Unavailable, failure_of
from relight.protocol.exits import WorkerExit
from relight.protocol.link import (
    AskBack,
    CancelCall,
    GrantItems,
    HeldWorker,
    RunCall,
    StartWorker,
    StopWorker,
    WorkerChange,
    WorkerSpec,
)
from relight.protocol.workers import WorkerState


class Workers:
    """The pool.  A worker that is gone stays known until the ends of its calls are acknowledged."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._workers: dict[str, Worker] = {}
        self._is_draining = False
        self._is_sealing = False
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def start(self, order: StartWorker) -> None:
        """Start a worker; one of that name that is here already is left as it is."""
        if order.worker in self._workers:
            return
        if self._is_draining:
            self._refuse(order)
            return
        worker = self._workers[order.worker] = Worker(order.worker, order.spec, self._around)
        self._is_empty.clear()
        self._seal_later()
        self._around.tasks.create_task(self._live(worker), name=f"{worker.id}.live")

    def stop(self, order: StopWorker) -> None:
        """Stop a worker; without effect when it is gone."""
        worker = self._workers.get(order.worker)
        if worker is not None:
            worker.stop(now=order.now)

    def run(self, orders: Iterable[RunCall]) -> None:
        """Give calls to their workers; a call for one that is not here ends at once, uncharged."""
        given: dict[str, Worker] = {}
        for order in orders:
            worker = self._workers.get(order.worker)
            if worker is not None:
                worker.calls.take(order)
                given[worker.id] = worker
                continue
            attempt = Attempt(order=order)
            self._around.outbox.end(attempt.held, end_refused(attempt, f"worker {order.worker} is not on this node"))
        for worker in given.values():
            worker.calls.feed()

    def weighed(self) -> tuple[Worker, ...]:
        """Those that may have a process."""
        return tuple(self._workers.values())

    def codes(self) -> set[str]:
        """The digests of the code that workers use."""
        return {worker.spec.code.digest for worker in self._workers.values()}

    def sandboxes(self) -> Mapping[str, str]:
        """The workers there are, by the names of their sandboxes."""
        return {worker.sandbox: worker.id for worker in self._workers.values() if worker.sandbox}

    def spec_of(self, worker: str) -> WorkerSpec | None:
        """What one of them is; None when it is not here any more."""
        known = self._workers.get(worker)
        return known.spec if known is not None else None

    def evict(self, worker: str, why: str, words: str) -> None:
        """End one that takes what is others'; without effect when it is gone."""
        if worker in self._workers:
            self._workers[worker].evict(why, words)

    def grant(self, order: GrantItems) -> None:
        """Let a generator go on; without effect when it has ended."""
        any(worker.calls.grant(order) for worker in self._workers.values())

    def ask_back(self, order: AskBack) -> None:
        """Give a call back; without effect when it has begun, or ended."""
        any(worker.calls.ask_back(order.call, order.token) for worker in self._workers.values())

    def cancel(self, order: CancelCall) -> None:
        """Interrupt a call; without effect when it has ended, as its end is on the way."""
        any(worker.calls.cancel(order.call, order.token) for worker in self._workers.values())

    def held_calls(self) -> tuple[str, ...]:
        """The calls that the server must not give to another node."""
        return tuple({held.call for held in self._all_held()})

    def held_workers(self) -> tuple[HeldWorker, ...]:
        """All that a server which comes back has to know.

        One that is gone, and whose calls' ends are not acknowledged, is said to be on its way out: its departure is
        told again after the ends.
        """
        self._forget_gone()
        calls: dict[str, list[Held]] = {}
        for held in self._all_held():
            calls.setdefault(held.worker, []).append(held)
        return tuple(
            HeldWorker(
                worker=worker.id,
                spec=worker.spec,
                state=WorkerState.DRAINING if worker.state is WorkerState.GONE else worker.state,
                since=worker.since,
                credit=worker.calls.credit,
                isolation=worker.isolation,
                sandbox=worker.sandbox,
                start=worker.start,
                calls=tuple((held.call, held.token, held.attempt) for held in calls.get(worker.id, ())),
            )
            for worker in self._workers.values()
        )

    def seal(self) -> None:
        """Tell what each used until now."""
        for worker in self._workers.values():
            if worker.state is not WorkerState.GONE:
                worker.seal()

    async def drain(self, seconds: float) -> None:
        """Stop all: gently, and after `seconds` at once.  Returns when none is left."""
        self._is_draining = True
        self._stop_all(now=False)
        try:
            async with asyncio.timeout(seconds):
                await self._is_empty.wait()
        except TimeoutError:
            self._stop_all(now=True)
            self._around.slots.close()
            await self._is_empty.wait()

    def _stop_all(self, *, now: bool) -> None:
        for worker in tuple(self._workers.values()):
            worker.stop(now=now)
        self._note_empty()

    async def _live(self, worker: Worker) -> None:
        await worker.live()
        self._forget_gone()
        self._note_empty()

    def _all_held(self) -> Iterable[Held]:
        for worker in self._workers.values():
            yield from worker.calls.held()
        yield from self._around.outbox.held()

    def _forget_gone(self) -> None:
        needed = {held.worker for held in self._around.outbox.held()} | self._around.outbox.writers()
        for worker in tuple(self._workers.values()):
            if worker.state is WorkerState.GONE and worker.id not in needed:
                del self._workers[worker.id]

    def _note_empty(self) -> None:
        if all(worker.state is WorkerState.GONE for worker in self._workers.values()):
            self._is_empty.set()

    def _seal_later(self) -> None:
        """While there are workers, tell now and then what they used."""
        if not self._is_sealing:
            self._is_sealing = True
            self._around.later(SEAL_SECONDS, self._seal)

    def _seal(self) -> None:
        self._is_sealing = False
        self.seal()
        if not self._is_empty.is_set():
            self._seal_later()

    def _refuse(self, order: StartWorker) -> None:
        change = WorkerChange(
            worker=order.worker,
            state=WorkerState.GONE,
            at=self._around.clock.now(),
            failure=failure_of(Unavailable("cannot start a worker: this node is being stopped; use another")),
            exit=WorkerExit(reason="stopped"),
        )
        self._around.outbox.change(change)
