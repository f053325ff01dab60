"""The server to ask: the one that is up, or one for a finished run's folder, which only answers and runs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from relight.protocol.errors import NotFound
from relight.protocol.ids import is_id
from relight.sdk.connection import Connection, connect
from relight.sdk.embedded import reopen
from relight.sdk.environment import data_folder
from relight.sdk.http import Address


@contextmanager
def connect_to(run: str | None) -> Iterator[Connection]:
    """A connection for as long as this block.  Raises NotFound when that run's folder is not (or no longer) kept."""
    if run is None:
        yield connect()
        return
    folder = data_folder() / "runs" / run
    if not is_id(run, "run") or not folder.is_dir():
        raise NotFound(f"cannot find run {run!r} in {folder.parent}: runs are kept for 7 days there; name one of them")
    server = reopen(folder)
    connection = Connection(Address(path=server.socket), server)
    try:
        yield connection
    finally:
        connection.close()


def has_folder(run: str) -> bool:
    """Whether the folder of a finished run is kept on this machine."""
    return is_id(run, "run") and (data_folder() / "runs" / run).is_dir()
