"""Ties what is written to the call that writes it, by notes in the pipes themselves.

A note is `\\0MARK begin CALL\\n` or `\\0MARK end CALL\\n`, written to both pipes after flushing; MARK is a nonce the agent
chose.  It may stand after a line that did not end.  A call that comes alone needs none: the agent knows whose all is that
stands in the pipes.  Lines leave as they end, so a killed worker has said all it said.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import TextIO

_PIPES = (1, 2)
_ERRORS = "backslashreplace"


class Output:
    """Both pipes of this worker."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._flush_native: Callable[[], object] | None = None
        self._noted = ""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper) and not (stream.line_buffering and stream.errors == _ERRORS):
                stream.reconfigure(line_buffering=True, errors=_ERRORS)

    def flush_with(self, flush: Callable[[], object] | None) -> None:
        """Flush what C holds, too, from now on."""
        self._flush_native = flush

    def begin(self, call: str, *, is_behind: bool) -> None:
        """What is written from now on belongs to `call`, which was given while another ran if it `is_behind`.

        One that comes alone needs a note, too, while that of a call before it is in force.
        """
        if is_behind or self._noted:
            self._note("begin", call)
            self._noted = call

    def end(self, *, is_last: bool) -> None:
        """The call is over; `is_last`: no other has come, so what is written from now on belongs to none."""
        if self._noted and is_last:
            self._note("end", self._noted)
            self._noted = ""
        else:
            self.flush()

    def flush(self) -> None:
        """Let nothing be held back.  The streams may be what the user put there, or closed."""
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)
        if self._flush_native is not None:
            self._flush_native()

    def _note(self, what: str, call: str) -> None:
        self.flush()
        note = f"\0{self._mark} {what} {call}\n".encode()
        for pipe in _PIPES:
            with suppress(OSError):  # the user may close them; then nothing is written that a note could be for
                os.write(pipe, note)


def _flush(stream: TextIO) -> None:
    try:
        stream.flush()
    except (OSError, ValueError, AttributeError):
        return
