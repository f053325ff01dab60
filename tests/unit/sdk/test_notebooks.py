"""Tracebacks as IPython shows them, with an IPython that only notes what it is to show."""

from __future__ import annotations

import linecache
import sys
from types import ModuleType, SimpleNamespace, TracebackType

import pytest

from relight.protocol.errors import InvalidRequest
from relight.sdk.frames import RemoteTraceback
from relight.sdk.function import not_running
from relight.sdk.notebooks import show_well, with_lines

CELL = "/tmp/kernel/123.py"
REMOTE = f'Traceback (most recent call last):\n  File "{CELL}", line 2, in f\n  File "/lib/x.py", line 9, in g\n    g()\nE: no'


class IPython:
    """Notes what it is asked to show."""

    def __init__(self) -> None:
        self.shown: list[object] = []
        self.showtraceback = self._show
        self.compile = SimpleNamespace(format_code_name=lambda name: ("Cell", "In[3]") if name == CELL else None)

    def _show(self, exc_tuple: object = None, **options: object) -> None:
        self.shown.append((exc_tuple, options))


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> IPython:
    made, module = IPython(), ModuleType("IPython")
    monkeypatch.setattr(module, "get_ipython", lambda: made, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(linecache.cache, CELL, (1, None, ["def f():\n", "    g()\n"], CELL))
    monkeypatch.delenv("RELIGHT_DEBUG", raising=False)
    show_well()
    return made


def files_of(trace: TracebackType | None) -> list[str]:
    files = []
    while trace is not None:
        files.append(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    return files


def shown(shell: IPython) -> tuple[object, list[str]]:
    """The error shown, and the files of its frames."""
    ((said, _),) = shell.shown
    assert isinstance(said, tuple)
    return said[1], files_of(said[2])


def test_frames_of_ours_are_left_out(shell: IPython) -> None:
    try:
        not_running("f")
    except InvalidRequest:
        shell.showtraceback(running_compiled_code=True)

    error, files = shown(shell)
    assert (type(error), files) == (InvalidRequest, [__file__])
    assert shell.shown[0][1] == {"running_compiled_code": True}


def test_all_are_shown_to_who_debugs(shell: IPython, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELIGHT_DEBUG", "1")

    with pytest.raises(InvalidRequest) as caught:
        not_running("f")
    shell.showtraceback((caught.type, caught.value, caught.tb))

    assert len(shown(shell)[1]) == 2


def test_a_remote_traceback_has_the_lines_of_cells(shell: IPython) -> None:
    error = ValueError("no")
    error.__cause__ = RemoteTraceback(REMOTE)

    shell.showtraceback((ValueError, error, None))

    assert error.__cause__.text.splitlines()[1:5] == [
        "  Cell In[3], line 2, in f",
        "    g()",
        '  File "/lib/x.py", line 9, in g',
        "    g()",
    ]


def test_it_is_arranged_once(shell: IPython) -> None:
    once = shell.showtraceback

    show_well()

    assert shell.showtraceback is once


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)

    show_well()


def test_a_line_that_nobody_has_is_left_out() -> None:
    assert with_lines('  File "<gone>", line 7, in f\nE: no', lambda _: "Cell In[1]") == (
        "  Cell In[1], line 7, in f\nE: no"
    )
