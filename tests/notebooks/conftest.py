"""A notebook with a kernel of its own, beside no server."""

from __future__ import annotations

import asyncio
import fcntl
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

CELL_SECONDS = 60
_COLOURS = re.compile(r"\x1b\[[\d;]*m")


class Notebook(NotebookClient):
    """A notebook whose cells are typed one by one, and may be watched while they run."""

    def __init__(self, folder: Path, cells: list[Any]) -> None:
        nb = nbformat.v4.new_notebook(cells=cells)
        resources = {"metadata": {"path": str(folder)}}
        super().__init__(nb, timeout=CELL_SECONDS, allow_errors=True, resources=resources)
        self._said = asyncio.Event()

    async def run(self, code: str) -> str:
        """Run one more cell; what stands below it then."""
        self.nb.cells.append(nbformat.v4.new_code_cell(code))
        await self.async_execute_cell(self.nb.cells[-1], len(self.nb.cells) - 1)
        return text_below(self.nb.cells[-1])

    async def wait_said(self, words: str) -> None:
        """Return once the newest cell shows these words."""
        while words not in text_below(self.nb.cells[-1]):
            self._said.clear()
            await asyncio.wait_for(self._said.wait(), CELL_SECONDS)

    def output(self, *arguments: Any) -> Any:
        """The kernel said something."""
        made = super().output(*arguments)
        self._said.set()
        return made

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """The time in which its kernel lives."""
        async with self.async_setup_kernel():
            yield


def text_below(cell: Any) -> str:
    """All that a cell shows, as text, without what is said to stderr: why something waits, which depends on the machine."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text if output.name == "stdout" else "")
        elif output.output_type == "error":
            parts.append(_COLOURS.sub("", "\n".join(output.traceback)) + "\n")
        else:
            parts.append(output.data.get("text/plain", "") + "\n")
    return "".join(parts)


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder of few letters, as a socket's path must be; no server is up in it."""
    for name in ("RELIGHT_URL", "RELIGHT_TOKEN", "RELIGHT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with tempfile.TemporaryDirectory(prefix="rl-") as folder:
        monkeypatch.setenv("RELIGHT_DATA_DIR", folder)
        yield Path(folder)
        for lock in Path(folder).glob("runs/*/run/server.lock"):
            with lock.open() as held:  # until its server has left, as it does when its kernel ends
                fcntl.flock(held, fcntl.LOCK_EX)


@pytest.fixture
def open_notebook(data: Path, tmp_path: Path) -> Callable[[list[Any]], Notebook]:
    """Makes a notebook with these cells, in a folder of its own."""
    return lambda cells: Notebook(tmp_path, cells)


@pytest.fixture
async def notebook(open_notebook: Callable[[list[Any]], Notebook]) -> AsyncIterator[Notebook]:
    """A new notebook, its kernel started."""
    made = open_notebook([])
    async with made.started():
        yield made


@pytest.fixture
def text_of() -> Callable[[Any], str]:
    """What a cell shows."""
    return text_below
