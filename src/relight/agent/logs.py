"""What a worker writes, as lines that belong to calls.

What stands in the pipes while one call is with the worker is that call's.  Where several are, the worker writes a note
into both pipes where one begins that was behind another, `\\0MARK begin CALL\\n`, after flushing what stands before it,
and one where the last of them ends.  MARK is a nonce of this worker, and only calls that it was given are believed: all
it could gain by lying is its own lines under another of its own calls.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from relight.agent.cable import Cable
from relight.agent.pace import SIP_BYTES, Pace

LINE_BYTES = 16 * 1024
"""A longer line is cut into pieces of this length."""

LAST_LINES = 20
"""So many lines are kept to say how a worker ended."""

_READ_BYTES = 64 * 1024
_DRAIN_BYTES = 4 * 1024 * 1024  # a thread of the user's may write for ever; what a pipe holds is a sixtieth of this
_NOTE_BYTES = 256


@dataclass(frozen=True, slots=True)
class Line:
    """One line, and the call it belongs to ("" for none)."""

    text: str
    call: str = ""


@dataclass(frozen=True, slots=True)
class Owners:
    """Whose a line may be: `is_known` says whether a call is one of this worker's, `running` which one it is at."""

    is_known: Callable[[str], bool]
    running: Callable[[], str]


class Splitter:
    """Bytes to lines, for one pipe."""

    def __init__(self, mark: str, owners: Owners) -> None:
        self._mark = b"\0" + mark.encode() + b" "
        self._owners = owners
        self._rest = b""
        self._noted = ""  # the call that the last note named, "" when it ended one

    def feed(self, data: bytes) -> list[Line]:
        """The lines that these bytes complete."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        lines: list[Line] = []
        for line in whole:
            self._read(line, lines)
        # A note is never cut: it is looked for once its line is whole, so the end of a long line waits for that.
        while len(self._rest) >= LINE_BYTES + _NOTE_BYTES:
            at = self._rest.find(self._mark)
            cut = LINE_BYTES if at <= 0 else min(LINE_BYTES, at)
            lines.append(self._line(self._rest[:cut]))
            self._rest = self._rest[cut:]
        return lines

    def end_call(self) -> list[Line]:
        """The call that runs is over, and all that it wrote was fed: what is left of it is a line."""
        return [] if self._noted else self.finish()

    def finish(self) -> list[Line]:
        """What was written after the last line end."""
        lines: list[Line] = []
        if self._rest:
            self._read(self._rest, lines)
            self._rest = b""
        return lines

    def _read(self, line: bytes, lines: list[Line]) -> None:
        text, mark, note = line.partition(self._mark)
        call = self._call_after(note) if mark else None
        if call is None:
            lines += self._pieces(line)
            return
        if text:
            lines += self._pieces(text)
        self._noted = call

    def _call_after(self, note: bytes) -> str | None:
        """Whose lines follow a note; None when it is not one."""
        what, _, name = note.decode("ascii", "replace").partition(" ")
        if what not in ("begin", "end"):
            return None
        return name if what == "begin" and self._owners.is_known(name) else ""

    def _pieces(self, line: bytes) -> list[Line]:
        return [self._line(line[at : at + LINE_BYTES]) for at in range(0, max(len(line), 1), LINE_BYTES)]

    def _line(self, data: bytes) -> Line:
        text = data.decode("utf-8", "replace").rstrip("\r").replace("\0", "\N{REPLACEMENT CHARACTER}")
        return Line(text, self._noted or self._owners.running())


class Pipe:
    """The end of a worker's stdout or stderr that is read, at a `pace` of both; it is closed with this."""

    def __init__(self, reader: int, splitter: Splitter, on_lines: Callable[[list[Line]], None], pace: Pace) -> None:
        self._reader = reader
        self._pace = pace
        self._rest: asyncio.TimerHandle | None = None
        os.set_blocking(self._reader, False)
        self._splitter = splitter
        self._on_lines = on_lines
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        self._is_paused = False
        self._loop.add_reader(self._reader, self._read_on)

    def pause(self) -> None:
        """Read only when told to: once the pipe is full the worker waits in `write`."""
        self._is_paused = True
        self._follow()

    def resume(self) -> None:
        """Read as it comes again."""
        self._is_paused = False
        self._follow()

    def drain(self) -> None:
        """Read what has been written already."""
        size = 0
        while self._is_open and size < _DRAIN_BYTES:
            count = self._read_some()
            if not count:
                break
            size += count

    def end_call(self) -> None:
        """Read what the call that runs has written: it is over."""
        self.drain()
        if lines := self._splitter.end_call():
            self._on_lines(lines)

    def close(self) -> None:
        """Read what is there, and let go of it."""
        self.drain()
        self._end()

    def _read_on(self) -> None:
        self._read_some(SIP_BYTES if self._pace.is_over else _READ_BYTES)

    def _read_some(self, most: int = _READ_BYTES) -> int:
        with suppress(BlockingIOError, InterruptedError):
            data = os.read(self._reader, most)
            if not data:
                self._end()
                return 0
            lines = self._splitter.feed(data)
            if lines:
                self._on_lines(lines)
            seconds = self._pace.take(len(data), len(lines))
            if seconds and self._rest is None and self._is_open:
                self._rest = self._loop.call_later(seconds, self._go_on)
                self._follow()
            return len(data)
        return 0

    def _go_on(self) -> None:
        self._rest = None
        self._follow()

    def _follow(self) -> None:
        """Read as it comes, unless it is paused, or rests."""
        if not self._is_open:
            return
        if self._is_paused or self._rest is not None:
            self._loop.remove_reader(self._reader)
        else:
            self._loop.add_reader(self._reader, self._read_on)

    def _end(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        if self._rest is not None:
            self._rest.cancel()
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        if lines := self._splitter.finish():
            self._on_lines(lines)


class Output:
    """Both pipes of a worker.  `tell` is handed the source and the lines; the last of them are kept for its end."""

    def __init__(self, cable: Cable, owners: Owners, tell: Callable[[str, list[Line]], None]) -> None:
        self._tell = tell
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        mark, pace = cable.mark, Pace(asyncio.get_running_loop().time)
        self.stdout = Pipe(cable.stdout[0], Splitter(mark, owners), lambda lines: self._hear("stdout", lines), pace)
        self.stderr = Pipe(cable.stderr[0], Splitter(mark, owners), lambda lines: self._hear("stderr", lines), pace)

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The newest lines of both."""
        return tuple(self._last)

    def pause(self) -> None:
        """Hold the worker back: it waits when it writes more than its pipes hold."""
        self.stdout.pause()
        self.stderr.pause()

    def resume(self) -> None:
        """Let it write on."""
        self.stdout.resume()
        self.stderr.resume()

    def drain(self) -> None:
        """Read what has been written already."""
        self.stdout.drain()
        self.stderr.drain()

    def end_call(self) -> None:
        """The call that runs is over: all that it has written is its own."""
        self.stdout.end_call()
        self.stderr.end_call()

    def close(self) -> None:
        """Read the rest, and let go of both."""
        self.stdout.close()
        self.stderr.close()

    def _hear(self, source: str, lines: list[Line]) -> None:
        self._last.extend(line.text for line in lines)
        self._tell(source, lines)
