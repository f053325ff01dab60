"""The lines that workers wrote, in a file of their own: much is written, little is read, and then by what it says.

    what comes ─▶ a tail for each report ─250 lines▶ a block, compressed ─256 blocks▶ a shelf with an index (`shelves`)

Lines have numbers that grow in the order of keeping.  A batch of an agent is kept once, however often it is told: its
number is written down in the same transaction.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from relight.protocol.errors import Unavailable
from relight.protocol.views import LogQuery
from relight.store.bodies import Lines, Origin, Written, cut, join, lines_of, pack_head, pack_text, unpack
from relight.store.database import Database
from relight.store.queries import queries
from relight.store.search import LogPage, Search
from relight.store.shelves import SHELF_BLOCKS, SHELF_BYTES, SLICE_BYTES, SLICES_APART

BLOCK_LINES = 250
BLOCK_BYTES = 64 * 1024
"""A block has so many lines, or about so many bytes if its lines are long: what one look into it costs."""

_ADOPTED_AT_ONCE = 5000
_INDEX_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Lines that came together, by workspace.  `number` grows for each `sender`; 0 for what nobody will send again."""

    written: Mapping[str, Sequence[Written]]
    sender: str = ""
    number: int = 0
    at: float = 0.0


class LogTable:
    """Lines, in the order of keeping."""

    def __init__(self, database: Database, path: Path) -> None:
        self._database = database
        self._path = path
        self._sql = queries("logs")

    # -- in

    def append(self, workspace: str, written: Sequence[Written]) -> asyncio.Future[None]:
        """Keep lines."""
        return self.keep([Batch(written={workspace: written})])

    def keep(self, batches: Sequence[Batch]) -> asyncio.Future[None]:
        """Keep batches, all or none; one that is kept already changes nothing."""
        packed = [(batch, {place: lines_of(written) for place, written in batch.written.items()}) for batch in batches]

        def work(connection: sqlite3.Connection) -> None:
            for batch, lines in packed:
                if self._is_new(connection, batch):
                    for workspace, some in lines.items():
                        self._add(connection, workspace, some)

        return self._database.write("logs", work)

    async def adopt(self) -> int:
        """Move lines into blocks that were kept before there were any; how many there were."""
        total = 0
        while moved := await self._database.write("logs", self._adopt_some):
            total += moved
        return total

    def forget(self, before: float, most_blocks: int = 200) -> asyncio.Future[int]:
        """Drop blocks with no line from after a time, and their index; how many lines that were."""

        def work(connection: sqlite3.Connection) -> int:
            sql = self._sql
            old = connection.execute(sql["old_blocks"], {"before": before, "limit": most_blocks}).fetchall()
            for block, _ in old:
                connection.execute(sql["drop_block"], {"id": block})
                connection.execute(sql["drop_body"], {"id": block})
            first = connection.execute(sql["first_block"]).fetchone()[0]
            if old and first is not None:
                connection.execute(sql["drop_slices"], {"id": first // SHELF_BLOCKS * SLICES_APART})
            tails = connection.execute(sql["count_old_tails"], {"before": before}).fetchone()[0]
            connection.execute(sql["drop_old_tails"], {"before": before})
            connection.execute(sql["drop_senders"], {"before": before})
            return sum(int(count) for _, count in old) + int(tails)

        return self._database.write("logs", work)

    # -- out

    async def read(self, workspace: str, query: LogQuery) -> LogPage:
        """The lines that a query asks for, oldest first."""
        return await self._database.read(lambda connection: Search(connection, workspace, query).page())

    # -- the index

    async def index_next(self) -> bool:
        """Make the index of the next full shelf, in a process of its own; false when there is none to be made."""
        shelf = await self._database.read(self._next_full_shelf)
        if shelf is None:
            return False
        slices = await _index(self._path, shelf)

        def work(connection: sqlite3.Connection) -> None:
            for at, bits in enumerate(slices):
                connection.execute(self._sql["add_slice"], {"id": shelf * SLICES_APART + at, "bits": bits})
            connection.execute(self._sql["note_indexed"], {"shelf": shelf + 1})

        await self._database.write("log_index", work)
        return True

    def _next_full_shelf(self, connection: sqlite3.Connection) -> int | None:
        shelf = int(connection.execute(self._sql["indexed"]).fetchone()[0])
        last = int(connection.execute(self._sql["last_block"]).fetchone()[0])
        return shelf if last >= (shelf + 1) * SHELF_BLOCKS else None  # a later one has begun: no block comes any more

    # -- inside, on the writer's thread

    def _is_new(self, connection: sqlite3.Connection, batch: Batch) -> bool:
        if not batch.number:
            return True
        row = connection.execute(self._sql["last_batch"], {"name": batch.sender}).fetchone()
        if row is not None and row[0] >= batch.number:
            return False
        values = {"name": batch.sender, "number": batch.number, "at": batch.at}
        connection.execute(self._sql["keep_batch"], values)
        return True

    def _add(self, connection: sqlite3.Connection, workspace: str, lines: Lines) -> None:
        if not len(lines):
            return
        last = int(connection.execute(self._sql["number"], {"workspace": workspace, "count": len(lines)}).fetchone()[0])
        waiting = connection.execute(self._sql["count_tails"], {"workspace": workspace}).fetchone()[0]
        if waiting + len(lines) < BLOCK_LINES:
            self._keep(connection, "add_tail", workspace, last, lines)
        else:
            self._seal(connection, workspace, last, lines)

    def _seal(self, connection: sqlite3.Connection, workspace: str, last: int, lines: Lines) -> None:
        """Make blocks of what waits and of these lines, as far as they fill them."""
        rows = connection.execute(self._sql["tails"], {"workspace": workspace, "after": 0}).fetchall()
        connection.execute(self._sql["drop_tails"], {"workspace": workspace})
        whole = join([*(unpack(head, text) for *_, head, text in rows), lines])
        first = last - len(whole) + 1
        for begin, end in _block_bounds(whole):
            is_full = end < len(whole) or end - begin >= BLOCK_LINES
            self._keep(
                connection, "add_block" if is_full else "add_tail", workspace, first + end - 1, cut(whole, begin, end)
            )

    def _keep(self, connection: sqlite3.Connection, how: str, workspace: str, last: int, lines: Lines) -> None:
        place = {
            "workspace": workspace,
            "first_line": last - len(lines) + 1,
            "last_line": last,
            "oldest": min(lines.times),
            "newest": max(lines.times),
        }
        body = {"head": pack_head(lines), "text": pack_text(lines)}
        if how == "add_tail":
            connection.execute(self._sql["add_tail"], {**place, **body})
            return
        block = connection.execute(self._sql["add_block"], place).lastrowid
        connection.execute(self._sql["add_body"], {**body, "block": block})

    def _adopt_some(self, connection: sqlite3.Connection) -> int:
        rows = connection.execute(self._sql["old_lines"], {"limit": _ADOPTED_AT_ONCE}).fetchall()
        for workspace, some in groupby(rows, key=lambda row: str(row[1])):
            written = [Written(origin=Origin(*row[3:9]), at=row[2], texts=(row[9],)) for row in some]
            self._add(connection, workspace, lines_of(written))
        if rows:
            connection.execute(self._sql["drop_old_lines"], {"last": rows[-1][0]})
        return len(rows)


def _block_bounds(lines: Lines) -> Iterator[tuple[int, int]]:
    begin = size = 0
    for at, text in enumerate(lines.text.split(b"\n")):
        if at > begin and (at - begin >= BLOCK_LINES or size + len(text) > BLOCK_BYTES):
            yield begin, at
            begin, size = at, 0
        size += len(text)
    yield begin, len(lines)


async def _index(path: Path, shelf: int) -> list[bytes]:
    """The index of a shelf, made by another process, which takes a second of a core; this one has calls to serve."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relight.store.indexer", str(path), str(shelf)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_INDEX_SECONDS):
            data, _ = await process.communicate()
    except TimeoutError:
        raise Unavailable(f"cannot index the log: it took more than {_INDEX_SECONDS:g} s; it is tried again") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode or len(data) != SHELF_BYTES:
        raise Unavailable(f"cannot index the log: its process ended with {process.returncode}; it is tried again")
    return [data[at : at + SLICE_BYTES] for at in range(0, SHELF_BYTES, SLICE_BYTES)]
