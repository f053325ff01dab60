"""The statements: every file is read whole, every statement says what it is for and compiles against the tables."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator, Callable
from importlib import resources
from pathlib import Path

import pytest

from relight.store.database import Database
from relight.store.faults import Faults
from relight.store.queries import queries

FILES = {"calls": "main", "platform": "main", "logs": "logs", "requests": "requests"}


@pytest.fixture
async def connect(tmp_path: Path) -> AsyncIterator[Callable[[str], sqlite3.Connection]]:
    opened: list[sqlite3.Connection] = []
    for schema in ("main", "logs", "requests"):
        await Database(tmp_path / schema, schema=schema, synchronous="NORMAL", faults=Faults()).close()

    def open_one(schema: str) -> sqlite3.Connection:
        opened.append(sqlite3.connect(tmp_path / schema))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


@pytest.mark.parametrize("file", FILES)
def test_each_statement_compiles_against_the_tables(file: str, connect: Callable[[str], sqlite3.Connection]) -> None:
    connection = connect(FILES[file])

    for sql in queries(file).values():
        names = set(re.findall(r":(\w+)", sql))
        connection.execute(f"EXPLAIN {sql}", dict.fromkeys(names, ""))


@pytest.mark.parametrize("file", FILES)
def test_each_name_stands_for_one_statement_and_says_what_it_is_for(file: str) -> None:
    text = (resources.files("relight.store") / "queries" / f"{file}.sql").read_text()

    assert len(queries(file)) == text.count(";\n") == len(re.findall(r"^-- \w+: \w.+$", text, re.MULTILINE))


SCANS = {
    "calls": {"list"},  # by any of four fields; the newest are found first
    "platform": {"tokens", "tunings"},
    "requests": set(),
    # one row; what an older relight left; and what waits to fill a block, a few hundred rows at most
    "logs": {"indexed", "note_indexed", "old_lines", "count_old_tails", "drop_old_tails", "drop_senders"},
}


@pytest.mark.parametrize("file", FILES)
def test_no_statement_but_those_named_here_reads_a_whole_table(
    file: str, connect: Callable[[str], sqlite3.Connection]
) -> None:
    connection = connect(FILES[file])
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    scans = set()

    for name, sql in queries(file).items():
        names = set(re.findall(r":(\w+)", sql))
        plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", dict.fromkeys(names, "")).fetchall()
        if any(row[3] == f"SCAN {table}" for row in plan for table in tables):
            scans.add(name)

    assert scans <= SCANS[file]


def test_the_ends_of_a_group_are_found_by_the_group_however_many_calls_are_kept(
    connect: Callable[[str], sqlite3.Connection],
) -> None:
    connection = connect("main")
    value = {"workspace": "default", "group": "group-1", "after": 0, "limit": 1}

    plan = connection.execute(f"EXPLAIN QUERY PLAN {queries('calls')['group_ended']}", value).fetchall()

    assert [row[3] for row in plan] == [
        "SEARCH calls USING INDEX calls_by_group (workspace=? AND in_group=? AND sequence>?)"
    ]
