"""The journal: groups of writes, each in one commit, patient ones in the company of others."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relight.protocol.errors import Unavailable
from relight.store.faults import Faults
from relight.store.journal import FAST_SECONDS, SMALL_GROUP, Journal

LONG_SECONDS = 600.0


class Commits:
    """Counts the commits of a connection; `refuses` makes them fail as a full disk does."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self.threads: list[str] = []
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.execute("CREATE TABLE things (n INTEGER PRIMARY KEY CHECK (n < 1000))")
        self.connection.execute(
            "CREATE TABLE parts (thing INTEGER REFERENCES things (n) DEFERRABLE INITIALLY DEFERRED)"
        )
        self.connection.execute("PRAGMA foreign_keys = 1")
        self.connection.set_trace_callback(self._saw)

    def _saw(self, statement: str) -> None:
        if statement == "COMMIT":
            self.count += 1
            self.threads.append(threading.current_thread().name)


@pytest.fixture
async def commits(tmp_path: Path) -> Commits:
    return Commits(tmp_path / "x.db")


@pytest.fixture
async def journal(commits: Commits, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Journal]:
    monkeypatch.setattr("relight.store.journal.GROUP_SECONDS", LONG_SECONDS)  # whatever else this machine does
    made = Journal(commits.connection, Faults())
    yield made
    await made.close()


async def turn() -> None:
    """Let the loop go round once."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_soon(passed.set)
    await passed.wait()


def add(journal: Journal, n: int, patience: float = 0.0) -> asyncio.Future[int]:
    return journal.write(
        "add", lambda connection: connection.execute("INSERT INTO things VALUES (?)", (n,)).rowcount, patience
    )


def count(journal: Journal) -> asyncio.Future[int]:
    return journal.write(
        "count", lambda connection: int(connection.execute("SELECT count(*) FROM things").fetchone()[0])
    )


async def test_what_one_turn_writes_goes_into_one_commit(journal: Journal, commits: Commits) -> None:
    await asyncio.gather(*(add(journal, n) for n in range(100)))

    assert commits.count == 1


async def test_what_comes_while_a_commit_is_on_its_way_goes_into_the_next(journal: Journal, commits: Commits) -> None:
    first = add(journal, 0)
    await turn()  # in which the first is handed over
    later = [add(journal, n) for n in range(1, 50)]

    await asyncio.gather(first, *later)

    assert commits.count == 2


async def test_who_is_to_hear_of_a_write_does_before_anybody_who_awaits_goes_on(journal: Journal) -> None:
    heard: list[str] = []
    patient = add(journal, 1, LONG_SECONDS)
    patient.add_done_callback(lambda _: heard.append("waiter"))

    await journal.write("count", lambda _: 7, heard=lambda kept: heard.append(f"listener of {kept.result()}"))

    assert heard == ["listener of 7", "waiter"]


async def test_a_listener_that_breaks_keeps_no_later_write_from_the_disk(
    journal: Journal, commits: Commits, caplog: pytest.LogCaptureFixture
) -> None:
    def hear(kept: asyncio.Future[int]) -> None:
        raise ValueError(f"cannot hear of {kept.result()}")

    first = journal.write("count", lambda _: 7, heard=hear)

    assert (await first, await add(journal, 1), commits.count) == (7, 1, 2)
    assert "cannot hear of 7" in caplog.text


async def test_who_is_to_hear_of_a_write_hears_that_it_could_not_be_kept(journal: Journal, commits: Commits) -> None:
    heard: list[str] = []

    def hear(kept: asyncio.Future[int]) -> None:
        heard.append(type(kept.exception()).__name__)

    journal.write("add", lambda connection: connection.execute("INSERT INTO things VALUES (5000)").rowcount, heard=hear)
    await journal.close()
    journal.write("late", lambda _: 7, heard=hear)

    assert heard == ["Unavailable", "Unavailable"]


async def test_writes_happen_in_the_order_in_which_they_were_queued(journal: Journal) -> None:
    counts = []
    for n in range(20):
        add(journal, n, LONG_SECONDS if n % 2 else 0.0)
        counts.append(count(journal))

    assert await asyncio.gather(*counts) == list(range(1, 21))


async def test_a_patient_write_is_committed_with_the_next_that_is_not(journal: Journal, commits: Commits) -> None:
    patient = add(journal, 1, LONG_SECONDS)
    await turn()
    assert not patient.done()

    await add(journal, 2)

    assert (patient.done(), commits.count) == (True, 1)


async def test_a_patient_write_alone_is_committed_when_its_time_is_over(journal: Journal) -> None:
    assert await add(journal, 1, 0.001) == 1


async def test_the_least_patient_write_decides(journal: Journal) -> None:
    first, second = add(journal, 1, LONG_SECONDS), add(journal, 2, 0.001)

    assert await asyncio.gather(first, second) == [1, 1]


async def test_a_write_that_breaks_a_rule_is_undone_alone(journal: Journal) -> None:
    writes = [add(journal, n) for n in (1, 5000, 2)]

    kept = await asyncio.gather(*writes, return_exceptions=True)

    assert isinstance(kept[1], Unavailable)
    assert await count(journal) == 2


async def test_a_commit_that_fails_fails_all_of_its_group_and_none_after_it(journal: Journal) -> None:
    orphan = journal.write("part", lambda connection: connection.execute("INSERT INTO parts VALUES (77)").rowcount)
    neighbour = add(journal, 1)

    kept = await asyncio.gather(orphan, neighbour, return_exceptions=True)

    assert [type(one) for one in kept] == [Unavailable, Unavailable]
    assert await count(journal) == 0
    assert await add(journal, 1) == 1


async def test_closing_commits_what_was_queued_and_refuses_what_comes_after(commits: Commits) -> None:
    journal = Journal(commits.connection, Faults())
    queued = add(journal, 1, LONG_SECONDS)

    await journal.close()

    assert queued.result() == 1
    with pytest.raises(Unavailable, match="the store is closed"):
        await add(journal, 2)


async def test_small_groups_are_committed_at_once_where_the_disk_is_fast_and_large_ones_never(
    journal: Journal, commits: Commits
) -> None:
    await add(journal, 0)
    journal._commit_seconds = FAST_SECONDS / 10
    await add(journal, 1)
    journal._commit_seconds = FAST_SECONDS / 10
    await asyncio.gather(*(add(journal, n) for n in range(10, 10 + SMALL_GROUP + 1)))
    journal._commit_seconds = FAST_SECONDS * 10
    await add(journal, 2)

    assert [name == "store.commits" for name in commits.threads] == [True, False, True, True]
