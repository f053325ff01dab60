"""Notebooks, executed by nbclient with a kernel of their own: what their cells say runs in workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

pytestmark = pytest.mark.slow

TOUR = Path(__file__).with_name("tour.ipynb")

CELLS = """
import time
import relight

app = relight.App("cells")

def deeper(x):
    raise ValueError(f"bad {x}")

@app.function()
def fail(x):
    return deeper(x)

@app.function()
def hold():
    print("holding", flush=True)
    time.sleep(600)

@app.function()
def square(x):
    return x * x

def states():
    calls = app.session("hold").connection.json("GET", "/v1/calls")["calls"]
    return sorted({(call["function"], call["state"]) for call in calls})

app.start()
"""
REMOTE = """
Traceback (most recent call last):
  Cell In[1], line 11, in fail
    return deeper(x)
  Cell In[1], line 7, in deeper
    raise ValueError(f"bad {x}")
ValueError: bad 3
"""


def said_aside(cell: Any) -> list[str]:
    """The lines that a cell shows on stderr."""
    return [line for out in cell.outputs if out.get("name") == "stderr" for line in out.text.splitlines()]


async def test_the_cells_of_a_notebook_show_what_it_says_they_show(
    open_notebook: Callable[[list[Any]], Any], text_of: Callable[[Any], str]
) -> None:
    kept = nbformat.read(TOUR, as_version=4)
    notebook = open_notebook(nbformat.read(TOUR, as_version=4).cells)

    await notebook.async_execute()

    for cell, expected in zip(notebook.nb.cells, kept.cells, strict=True):
        if cell.cell_type == "code":
            assert sorted(text_of(cell).splitlines()) == sorted(text_of(expected).splitlines()), cell.source
            assert len(said_aside(cell)) <= 3, cell.source  # why it waits; of a map of 500 no more than of a call
    assert sum(bool(text_of(cell)) for cell in kept.cells if cell.cell_type == "code") >= 12


@pytest.mark.parametrize("code", ["fail.remote(3)", "list(fail.map([3]))", "await fail.remote.aio(3)"])
async def test_what_a_function_raises_reads_as_if_it_had_been_raised_in_the_cell(notebook: Any, code: str) -> None:
    await notebook.run(CELLS)

    shown = await notebook.run(code)

    assert REMOTE in shown
    assert shown.rstrip().endswith(f"Cell In[2], line 1\n----> 1 {code}\n\nValueError: bad 3")
    assert "/relight/" not in shown


async def test_own_mistakes_are_told_in_one_frame_and_those_of_others_as_ever(notebook: Any) -> None:
    await notebook.run(CELLS)

    own, wrong, division = [await notebook.run(code) for code in ("fail.remote()", "x =", "1 / 0")]

    assert own.rstrip().endswith(
        "----> 1 fail.remote()\n\nTypeError: cannot call fail: missing a required argument: 'x'; it takes (x)"
    )
    assert "SyntaxError: invalid syntax" in wrong
    assert division.rstrip().endswith("----> 1 1 / 0\n\nZeroDivisionError: division by zero")


async def test_interrupting_the_kernel_cancels_the_call_and_the_run_goes_on(notebook: Any) -> None:
    await notebook.run(CELLS)
    running = asyncio.ensure_future(notebook.run("hold.remote()"))
    await notebook.wait_said("holding")  # below the cell that calls, not the one that started the run

    await notebook.km.interrupt_kernel()

    shown = await running
    assert "KeyboardInterrupt" in shown
    assert "/relight/" not in shown
    assert await notebook.run("print(square.remote(3), states())") == (
        "9 [('hold', 'cancelled'), ('square', 'succeeded')]\n"
    )


async def test_a_cell_that_is_interrupted_while_it_awaits_cancels_its_call(notebook: Any) -> None:
    await notebook.run(CELLS)
    running = asyncio.ensure_future(notebook.run("await hold.remote.aio()"))
    await notebook.wait_said("holding")

    await notebook.km.interrupt_kernel()

    await running
    assert await notebook.run("print(await square.remote.aio(4), states())") == (
        "16 [('hold', 'cancelled'), ('square', 'succeeded')]\n"
    )
