"""The writer: in order, in groups, each write's error its own, and nothing ends the thread but its owner."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relight.protocol.errors import Unavailable
from relight.store.faults import Faults
from relight.store.writer import Writer


class Commits:
    """Counts the commits of a connection."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.execute("CREATE TABLE things (n INTEGER PRIMARY KEY CHECK (n < 1000))")
        self.connection.set_trace_callback(self._saw)

    def _saw(self, statement: str) -> None:
        self.count += statement == "COMMIT"


@pytest.fixture
async def commits(tmp_path: Path) -> Commits:
    return Commits(tmp_path / "x.db")


@pytest.fixture
async def writer(commits: Commits) -> AsyncIterator[Writer]:
    made = Writer(commits.connection, Faults())
    yield made
    await made.close()


def hold(writer: Writer) -> threading.Event:
    """Keep the thread busy until the event is set: what is queued meanwhile is one group."""
    is_held, gate = threading.Event(), threading.Event()
    writer.write("wait", lambda _: is_held.set() or gate.wait(10))
    assert is_held.wait(10)
    return gate


def add(writer: Writer, n: int) -> asyncio.Future[int]:
    return writer.write("add", lambda connection: connection.execute("INSERT INTO things VALUES (?)", (n,)).rowcount)


def count(writer: Writer) -> asyncio.Future[int]:
    return writer.write(
        "count", lambda connection: int(connection.execute("SELECT count(*) FROM things").fetchone()[0])
    )


async def test_what_waits_while_the_thread_is_busy_goes_into_one_commit(writer: Writer, commits: Commits) -> None:
    gate = hold(writer)
    writes = [add(writer, n) for n in range(500)]
    gate.set()

    await asyncio.gather(*writes)

    assert commits.count == 2


async def test_writes_happen_in_the_order_in_which_they_were_queued(writer: Writer) -> None:
    counts = []
    for n in range(20):
        add(writer, n)
        counts.append(count(writer))

    assert await asyncio.gather(*counts) == list(range(1, 21))


async def test_a_write_that_breaks_a_rule_is_undone_alone(writer: Writer) -> None:
    gate = hold(writer)

    def two(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO things VALUES (5)")
        connection.execute("INSERT INTO things VALUES (1000)")

    before, broken, after = add(writer, 1), writer.write("two", two), add(writer, 2)
    gate.set()

    with pytest.raises(Unavailable, match="cannot keep two: CHECK constraint failed"):
        await broken
    assert (await before, await after, await count(writer)) == (1, 1, 2)


async def test_text_that_no_database_can_hold_fails_its_own_write_and_the_thread_lives_on(writer: Writer) -> None:
    broken = writer.write("text", lambda connection: connection.execute("SELECT ?", ("\udc80",)))

    with pytest.raises(Unavailable, match="cannot keep text") as caught:
        await broken
    assert isinstance(caught.value.__cause__, UnicodeEncodeError)
    assert await add(writer, 1) == 1


async def test_a_commit_that_fails_fails_all_of_its_writes_and_keeps_none(writer: Writer) -> None:
    gate = hold(writer)

    def give_up(connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")  # as SQLite does by itself when the disk is full

    writes = [add(writer, 1), writer.write("full", give_up), add(writer, 2)]
    gate.set()
    answers = await asyncio.gather(*writes, return_exceptions=True)

    assert [type(answer) for answer in answers] == [Unavailable] * 3
    assert await count(writer) == 0


async def test_a_caller_that_stops_waiting_does_not_undo_its_write(writer: Writer) -> None:
    gate = hold(writer)
    left = add(writer, 1)
    left.cancel()
    gate.set()

    assert await count(writer) == 1


async def test_closing_waits_for_what_was_queued_and_refuses_what_comes_later(tmp_path: Path) -> None:
    writer = Writer(Commits(tmp_path / "y.db").connection, Faults())
    queued = [add(writer, n) for n in range(50)]

    await writer.close()

    assert sum(await asyncio.gather(*queued)) == 50
    with pytest.raises(Unavailable, match="the store is closed"):
        await add(writer, 99)
