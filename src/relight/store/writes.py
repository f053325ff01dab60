"""One write on its way: what it does, and who waits for it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from relight.protocol.errors import Unavailable

R = TypeVar("R")


@dataclass(slots=True)
class Write(Generic[R]):
    """`work` runs inside a transaction; `future` hears of it once that is committed, and `heard` is called with it then."""

    name: str
    work: Callable[[sqlite3.Connection], R]
    future: asyncio.Future[R]
    heard: Callable[[asyncio.Future[R]], None] | None = None
    result: R | None = None
    error: Exception | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        """Do it; its error is kept for its future."""
        connection.execute("SAVEPOINT one")
        try:
            self.result = self.work(connection)
        except Exception as error:  # noqa: BLE001  # one write's boundary: its bad text must not undo the others
            self.error = error
            connection.execute("ROLLBACK TO one")
        connection.execute("RELEASE one")

    def settle(self) -> None:
        """Tell the future; on the event loop's thread."""
        if self.future.cancelled():
            return
        if self.error is not None:
            refusal = Unavailable(f"cannot keep {self.name}: {self.error}; check the disk, then try again")
            refusal.__cause__ = self.error
            self.future.set_exception(refusal)
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type]  # set by run, unless there was an error


def settle(group: Iterable[Write[object]]) -> None:
    """Tell each of a group."""
    for write in group:
        write.settle()


def tell(group: Iterable[Write[object]]) -> None:
    """Call whom it concerns, in this very turn of the loop; after `settle`."""
    for write in group:
        if write.heard is not None:
            write.heard(write.future)
