"""Budgets, kept: warned of in the log, and once spent nothing new of their app begins.  What runs is never stopped."""

from __future__ import annotations

import asyncio
import logging

from relight.clock import Clock
from relight.metering.budgets import Budget, BudgetState, month_begin
from relight.metering.money import show_money
from relight.protocol.costviews import BudgetView
from relight.protocol.errors import InvalidRequest, NotFound
from relight.scheduler.loop import Scheduler
from relight.store.budgets import BudgetRow
from relight.store.store import Store

LOOK_SECONDS = 60.0
"""How often budgets are looked at though nothing was posted: a month may have begun."""

_log = logging.getLogger("relight.control")


class Budgets:
    """Every budget of every workspace."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._rows: dict[tuple[str, str], BudgetRow] = {}
        self._states: dict[tuple[str, str], BudgetState] = {}
        self._posted = asyncio.Event()
        self._scheduler: Scheduler

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler

    async def load(self) -> None:
        """Know what the store has; what was spent before is held back at once."""
        self._rows = {(row.workspace, row.app): row for row in await self._store.budgets.all()}
        await self.look()

    async def run(self) -> None:
        """Look whenever something was posted, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._posted.wait()
            except TimeoutError:
                pass
            self._posted.clear()
            await self.look()

    def look_soon(self) -> None:
        """Something was posted."""
        self._posted.set()

    async def look(self) -> None:
        """Say which budgets are nearly spent, and hold back what has spent its own."""
        held: dict[tuple[str, str], str] = {}
        for key, row in self._rows.items():
            spent = await self._spent(row)
            budget = Budget(nanos=row.nanos, warn_percent=row.warn_percent)
            state = budget.state(spent)
            what = f"app {row.app!r}" if row.app else "this workspace"
            if state is BudgetState.SPENT:
                held[key] = budget.reason(spent, what)
            if state is not self._states.get(key, BudgetState.OK):
                level = logging.INFO if state is BudgetState.OK else logging.WARNING
                fields = {"app": row.app, "spent": show_money(spent), "budget": show_money(row.nanos)}
                _log.log(level, f"budget {state.value}", extra=fields)
            self._states[key] = state
        self._scheduler.blocks.set(held)  # what it holds no more begins with the next sweep

    async def set(self, workspace: str, app: str, nanos: int, warn_percent: int) -> BudgetView:
        """So much may be spent from now on.  Raises InvalidRequest."""
        if nanos < 0 or not 1 <= warn_percent <= 100:
            raise InvalidRequest(
                "cannot set the budget: it is below 0, or its warning is not at 1 to 100 percent; give such values"
            )
        row = BudgetRow(workspace=workspace, app=app, nanos=nanos, warn_percent=warn_percent)
        await self._store.budgets.put(row)
        self._rows[workspace, app] = row
        await self.look()
        return await self._view(row)

    async def remove(self, workspace: str, app: str) -> BudgetView:
        """Any amount may be spent from now on.  Raises NotFound."""
        row = self._rows.get((workspace, app))
        if row is None:
            raise NotFound(
                f"cannot remove the budget of {app or 'this workspace'}: it has none; see `relight budget list`"
            )
        view = await self._view(row)
        await self._store.budgets.remove(workspace, app)
        del self._rows[workspace, app]
        self._states.pop((workspace, app), None)
        await self.look()
        return view

    async def list(self, workspace: str) -> tuple[BudgetView, ...]:
        """The budgets of a workspace."""
        return tuple([await self._view(row) for row in self._rows.values() if row.workspace == workspace])

    async def _view(self, row: BudgetRow) -> BudgetView:
        spent = await self._spent(row)
        state = Budget(nanos=row.nanos, warn_percent=row.warn_percent).state(spent)
        return BudgetView(
            app=row.app, nanos=row.nanos, warn_percent=row.warn_percent, spent_nanos=spent, state=state.value
        )

    async def _spent(self, row: BudgetRow) -> int:
        return (await self._store.usage.spent(row.workspace, row.app, month_begin(self._clock.now()))).nanos
