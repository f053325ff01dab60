"""A process that makes the index of one shelf and writes it to its output: `python -m relight.store.indexer FILE SHELF`.

It only reads the file, and gives way to all that has work to do.
"""

from __future__ import annotations

import os
import sqlite3
import sys

from relight.store.bodies import unpack
from relight.store.queries import queries
from relight.store.shelves import SHELF_BLOCKS, Shelf


def index(path: str, shelf: int) -> bytes:
    """The table of bits of a shelf."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10.0)
    table = Shelf()
    place = {"low": shelf * SHELF_BLOCKS, "high": (shelf + 1) * SHELF_BLOCKS - 1}
    for block, workspace, head, text in connection.execute(queries("logs")["shelf"], place):
        table.put(block, workspace, unpack(head, text))
    connection.close()
    return table.table


if __name__ == "__main__":
    os.nice(10)
    sys.stdout.buffer.write(index(sys.argv[1], int(sys.argv[2])))
