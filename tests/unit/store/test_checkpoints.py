"""The write-ahead log is emptied into the file beside the writer."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from relight.store.checkpoints import EVERY_COMMITS, Checkpoints


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def in_the_file(path: Path) -> int:
    """How many rows the file itself holds, its log left out."""
    with sqlite3.connect(f"file:{path}?immutable=1", uri=True) as reader:
        return int(reader.execute("SELECT count(*) FROM things").fetchone()[0])


def test_every_so_many_commits_the_file_has_what_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    writer, checkpoints = connect(path), Checkpoints(connect(path))
    writer.execute("CREATE TABLE things (n INTEGER)")
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for n in range(EVERY_COMMITS - 1):
        writer.execute("INSERT INTO things VALUES (?)", (n,))
        checkpoints.count()
    before = in_the_file(path)

    writer.execute("INSERT INTO things VALUES (0)")
    checkpoints.count()
    checkpoints.close()

    assert (before, in_the_file(path)) == (0, EVERY_COMMITS)
    writer.close()


def test_a_writer_in_the_middle_of_its_work_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    writer, checkpoints = connect(path), Checkpoints(connect(path))
    writer.execute("CREATE TABLE things (n INTEGER)")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO things VALUES (1)")

    for _ in range(EVERY_COMMITS):
        checkpoints.count()
    checkpoints.close()
    writer.execute("COMMIT")

    assert writer.execute("SELECT count(*) FROM things").fetchone() == (1,)
    writer.close()
