"""Tracebacks as the user should read them: their frames, and not the way through relight.

Two places do this.  Where steps are driven (`Connection.do`, `Pool.do`) an error that was raised on purpose forgets the way
it came, so that two frames of ours are left of it wherever it is caught: in a notebook, in a test, in a log.  And what
nobody catches is shown without those two (`uncaught`, `notebooks`).

An error that nobody meant, raised by our own code, is shown whole: it is ours to mend.  `RELIGHT_DEBUG=1` shows all.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType

from relight.protocol.errors import RelightError

_OWN = str(Path(__file__).parents[1]) + os.sep
_STANDARD = str(Path(os.__file__).parent) + os.sep
_WRAPPER = contextlib.__file__
_OUR_WORDS = ("cannot ", "module 'relight' has no attribute ")


class RemoteTraceback(Exception):
    """The traceback as it was where the function ran: the `__cause__` of what is raised here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}\n"""'


RemoteTraceback.__module__ = "relight"  # how it is shown; to be caught is not its purpose


def is_told(error: BaseException) -> bool:
    """Whether it was raised on purpose: by relight, in its words, or by the function, elsewhere."""
    said = error.args[0] if error.args else ""
    is_ours = isinstance(error, RelightError) or (isinstance(said, str) and said.startswith(_OUR_WORDS))
    return is_ours or isinstance(error.__cause__, RemoteTraceback)


def hide_own_frames(error: BaseException) -> None:
    """Take relight's frames out of its traceback, and out of those that led to it; not where relight itself broke."""
    if not _is_broken(error):
        _hide(error, set())


def _is_broken(error: BaseException) -> bool:
    """Whether our own code raised it without meaning to, or what it asked of the standard library did."""
    whose = [frame for frame in _frames(error.__traceback__) if not _is_standard(_file(frame))]
    return bool(whose) and _is_own(whose[-1]) and not is_told(error) and isinstance(error, Exception)


def _hide(error: BaseException, seen: set[int]) -> None:
    seen.add(id(error))
    error.__traceback__ = _without_own(error.__traceback__)
    below = [error.__cause__, error.__context__, *getattr(error, "exceptions", ())]
    for other in below:
        if other is not None and id(other) not in seen:
            _hide(other, seen)
    if isinstance(error, RelightError) and _is_detail(error.__cause__) and _is_detail(error.__context__):
        error.__cause__ = error.__context__ = None


def _is_detail(cause: BaseException | None) -> bool:
    """Whether the message that followed has said it already: no line of the user's is in it."""
    return cause is None or (cause.__traceback__ is None and not isinstance(cause, RemoteTraceback))


def _without_own(trace: TracebackType | None) -> TracebackType | None:
    """The frames that are the user's; what the standard library does for us goes with ours."""
    kept: list[TracebackType] = []
    is_inside = False
    for frame in _frames(trace):
        is_inside = _is_own(frame) or (is_inside and _is_standard(_file(frame)))
        if not is_inside:
            kept.append(frame)
        while _is_own(frame) and kept and _file(kept[-1]) == _WRAPPER:
            kept.pop()
    pruned: TracebackType | None = None
    for frame in reversed(kept):
        pruned = TracebackType(pruned, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return pruned


def _frames(trace: TracebackType | None) -> list[TracebackType]:
    frames: list[TracebackType] = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    return frames


def _is_own(frame: TracebackType) -> bool:
    return _file(frame).startswith(_OWN)


def _is_standard(file: str) -> bool:
    return file.startswith((_STANDARD, "<frozen ")) and "site-packages" not in file


def _file(frame: TracebackType) -> str:
    return frame.tb_frame.f_code.co_filename
