"""Tracebacks in notebooks and IPython, which show them in their own way: as `frames` has Python show them elsewhere.

What is in no file has its lines with IPython, and not where the function ran: they are put into the remote traceback here.
"""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Callable
from typing import Protocol

from relight.sdk.environment import is_debugging
from relight.sdk.frames import RemoteTraceback, hide_own_frames

_FRAME = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+)(?P<where>, in .*)?$')


class Shell(Protocol):
    """IPython, as far as tracebacks need it."""

    showtraceback: Callable[..., object]
    compile: object


def show_well() -> None:
    """From now on IPython shows them so; nothing where this is not IPython."""
    shell: Shell | None = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None and not isinstance(shell.showtraceback, _Shown):
        shell.showtraceback = _Shown(shell)


class _Shown:
    """IPython's `showtraceback`, with less of ours and more of the user's."""

    def __init__(self, shell: Shell) -> None:
        self._show = shell.showtraceback
        self._shell = shell

    def __call__(self, exc_tuple: object = None, **options: object) -> object:
        error = exc_tuple[1] if isinstance(exc_tuple, tuple) else sys.exc_info()[1]
        if isinstance(error, BaseException) and not is_debugging():
            hide_own_frames(error)
            exc_tuple = (type(error), error, error.__traceback__)
            if isinstance(error.__cause__, RemoteTraceback):
                error.__cause__.text = with_lines(error.__cause__.text, self._name_of)
        return self._show(exc_tuple, **options)

    def _name_of(self, file: str) -> str:
        """What people call the cell that IPython calls `file`: `Cell In[3]`; "" for what is no cell."""
        said = getattr(self._shell.compile, "format_code_name", lambda _: None)(file)
        return " ".join(said) if isinstance(said, tuple) else ""


def with_lines(text: str, name_of: Callable[[str], str]) -> str:
    """A traceback as text, with the lines of cells."""
    lines: list[str] = []
    for line in text.split("\n"):
        found = _FRAME.match(line)
        name = name_of(found["file"]) if found else ""
        if not found or not name:
            lines.append(line)
            continue
        lines.append(f"  {name}, line {found['line']}{found['where'] or ''}")
        source = linecache.getline(found["file"], int(found["line"])).strip()
        if source:
            lines.append(f"    {source}")
    return "\n".join(lines)
