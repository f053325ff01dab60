"""The scheduler's brakes, kept for the next server: its clock is another, so what is kept are times of the calendar."""

from __future__ import annotations

from relight.clock import Clock
from relight.protocol.errors import Failure
from relight.protocol.exits import WorkerExit
from relight.scheduler.brake import FORGET_SECONDS, Brake
from relight.scheduler.queue import FunctionKey
from relight.scheduler.state import Function
from relight.store.brakes import BrakeRow
from relight.store.store import Store


class Brakes:
    """Writes them as they change, and reads them once."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def keep(self, function: Function) -> None:
        """Its brake has changed."""
        row = self._row(function)
        if row.crashes:
            self._store.brakes.put(row)
        else:
            self._store.brakes.remove(row)

    async def restore(self) -> dict[FunctionKey, Brake]:
        """What the server before this one held up."""
        await self._store.brakes.forget(self._clock.now() - FORGET_SECONDS)
        return {
            FunctionKey(row.version, row.function, row.binding): self._brake(row)
            for row in await self._store.brakes.all()
        }

    def _row(self, function: Function) -> BrakeRow:
        brake, spec, ahead = function.brake, function.spec, self._clock.now() - self._clock.monotonic()
        return BrakeRow(
            workspace=spec.workspace,
            version=function.key.version,
            function=function.key.function,
            binding=function.key.binding,
            crashes=brake.crashes,
            crashed_at=brake.crashed_at + ahead,
            blocked_until=max(brake.blocked_until, brake.crashed_at) + ahead,
            reason=brake.exit.reason if brake.exit is not None else "",
            message=brake.failure.message if brake.failure is not None else "",
        )

    def _brake(self, row: BrakeRow) -> Brake:
        ahead = self._clock.now() - self._clock.monotonic()
        return Brake(
            crashes=row.crashes,
            crashed_at=row.crashed_at - ahead,
            blocked_until=row.blocked_until - ahead,
            exit=WorkerExit(reason=row.reason) if row.reason else None,
            failure=Failure(code="worker_lost", message=row.message),
        )
