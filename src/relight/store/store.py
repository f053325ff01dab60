"""The store: one object for each noun, over three files in the server's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from relight.store.brakes import BrakeTable
from relight.store.budgets import BudgetTable
from relight.store.calls import CallTable, last_sequence
from relight.store.database import Database
from relight.store.faults import Faults
from relight.store.keys import KeyTable
from relight.store.logs import LogTable
from relight.store.platform import EpochTable, TokenTable, VersionTable, WorkerTable
from relight.store.recollections import RecollectionTable
from relight.store.requests import RequestTable
from relight.store.seal import Seal
from relight.store.sources import SourceTable
from relight.store.starts import StartTable
from relight.store.tunings import TuningTable
from relight.store.usage import UsageTable
from relight.store.waiting import WaitingTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """All that must outlive the server."""

    calls: CallTable
    requests: RequestTable
    waiting: WaitingTable
    tunings: TuningTable
    keys: KeyTable
    versions: VersionTable
    workers: WorkerTable
    starts: StartTable
    sources: SourceTable
    brakes: BrakeTable
    usage: UsageTable
    budgets: BudgetTable
    recollections: RecollectionTable
    tokens: TokenTable
    epochs: EpochTable
    logs: LogTable
    databases: tuple[Database, ...]

    async def close(self) -> None:
        """Return when all that was queued is on disk."""
        for database in self.databases:
            await database.close()


async def open_store(folder: Path, faults: Faults | None = None) -> Store:
    """Open the store in `folder`, making or migrating it.  Raises Unavailable when a newer relight wrote it."""
    faults = faults or Faults()
    main = Database(folder / "relight.db", schema="main", synchronous="FULL", faults=faults, is_short=True)
    requests = Database(folder / "requests.db", schema="requests", synchronous="NORMAL", faults=faults)
    lines = Database(folder / "logs.db", schema="logs", synchronous="NORMAL", faults=faults)
    logs = LogTable(lines, folder / "logs.db")
    await logs.adopt()
    calls = CallTable(main, await main.read(last_sequence))
    return Store(
        calls=calls,
        requests=RequestTable(requests),
        keys=KeyTable(main, calls),
        waiting=WaitingTable(main),
        tunings=TuningTable(main),
        versions=VersionTable(main),
        workers=WorkerTable(main),
        starts=StartTable(main),
        sources=SourceTable(main, Seal(folder / "seal.key")),
        brakes=BrakeTable(main),
        usage=UsageTable(main),
        budgets=BudgetTable(main),
        recollections=RecollectionTable(main),
        tokens=TokenTable(main),
        epochs=EpochTable(main),
        logs=logs,
        databases=(main, requests, lines),
    )
