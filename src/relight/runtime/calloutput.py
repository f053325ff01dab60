"""Ties what is written to the call that writes it, where several run at once: each line says whose it is.

What stands in for `sys.stdout` and `sys.stderr` keeps the parts of a line by call, and writes whole ones behind the notes of
`output`, one wherever the next line is another call's.  What is written past it (by a child process, by C) follows
whichever note was the last.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from relight.protocol.inside import inside


class CallText(io.TextIOBase):
    """A text stream over a pipe; `under` is what was there before."""

    def __init__(self, under: Any, pipe: int, mark: str) -> None:
        super().__init__()
        self.under = under
        self._pipe = pipe
        self._mark = mark
        self._lock = threading.RLock()  # a signal's handler may write, too
        self._parts: dict[str, str] = {}
        self._noted = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # it is what is written
        """UTF-8."""
        return "utf-8"

    @property
    def buffer(self) -> Any:
        """What takes bytes: they are written as they are."""
        return self.under.buffer

    def fileno(self) -> int:
        """The pipe."""
        return self._pipe

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Write what it makes whole of the lines of the call that writes; the rest waits for its line end."""
        call = inside.writer
        with self._lock:
            whole, end, rest = (self._parts.pop(call, "") + text).rpartition("\n")
            if rest:
                self._parts[call] = rest
            if end:
                self._say(call, whole + end)
        return len(text)

    def end(self, call: str) -> None:
        """A call is over: what it began is a line, and what is written next is not its own."""
        with self._lock:
            rest = self._parts.pop(call, "")
            if rest:
                self._say(call, rest + "\n")
            if call and self._noted == call:
                self._note("", "")

    def _say(self, call: str, lines: str) -> None:
        if call == self._noted:
            self._put(lines)
        else:
            self._note(call, lines)

    def _note(self, call: str, lines: str) -> None:
        note = f"begin {call}" if call else f"end {self._noted}"
        self._noted = call
        self._put(f"\0{self._mark} {note}\n{lines}")

    def _put(self, text: str) -> None:
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        with suppress(OSError):  # the user may close the pipe
            while data:
                data = data[os.write(self._pipe, data) :]


class CallOutput:
    """Both pipes of a worker whose calls run together."""

    def __init__(self, mark: str) -> None:
        self._flush_native: Callable[[], object] | None = None
        self._streams = tuple(_replaced(name, pipe, mark) for name, pipe in (("stdout", 1), ("stderr", 2)))

    def flush_with(self, flush: Callable[[], object] | None) -> None:
        """Flush what C holds, too, from now on."""
        self._flush_native = flush

    def end(self, call: str) -> None:
        """The call is over: let nothing of it be held back."""
        self.flush()
        for stream in self._streams:
            stream.end(call)

    def flush(self) -> None:
        """Let nothing be held back that is no call's, or is written past the two."""
        for stream in self._streams:
            stream.end("")
            with suppress(OSError, ValueError, AttributeError):  # the user may have closed it
                stream.under.flush()
        if self._flush_native is not None:
            self._flush_native()


def _replaced(name: str, pipe: int, mark: str) -> CallText:
    before = getattr(sys, name)
    stream = CallText(before, pipe, mark)
    setattr(sys, name, stream)
    logging = sys.modules.get("logging")
    for reference in getattr(logging, "_handlerList", ()):  # those of modules that were imported before
        handler = reference()
        if getattr(handler, "stream", None) is before:
            handler.setStream(stream)
    return stream
