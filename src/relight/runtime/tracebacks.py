"""An exception of the user's as the user should read it: without the frames that are ours."""

from __future__ import annotations

import contextlib
import os
import traceback

_OURS = os.path.dirname(os.path.dirname(__file__))
_THREAD = os.path.join(os.path.dirname(contextlib.__file__), "concurrent", "futures", "thread.py")
_WRAPPERS = (contextlib.__file__, _THREAD)
_MAX_CHARACTERS = 64 * 1024


def describe(error: BaseException) -> str:
    """The traceback, causes and all, as text; only the user's and their libraries' frames."""
    told = traceback.TracebackException.from_exception(error)
    _prune(told, set())
    text = "".join(told.format()).rstrip()
    if len(text) <= _MAX_CHARACTERS:
        return text
    half = _MAX_CHARACTERS // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def summarize(error: BaseException) -> str:
    """`ValueError: no such thing`: its last line, the message of a failure."""
    try:
        text = str(error)
    except Exception as broken:  # noqa: BLE001 - a user's __str__ may raise anything, and the failure must be told
        text = f"<its str raised {type(broken).__qualname__}>"
    return f"{type(error).__qualname__}: {text}" if text else type(error).__qualname__


def _prune(told: traceback.TracebackException, seen: set[int]) -> None:
    if id(told) in seen:
        return
    seen.add(id(told))
    told.stack = traceback.StackSummary.from_list(_users(told.stack))
    # Groups (`exceptions`) came with Python 3.11.
    for below in (told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())):
        if below is not None:
            _prune(below, seen)


def _users(frames: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """Without ours, and without Python's own in which a context manager or a thread of ours runs."""
    kept: list[traceback.FrameSummary] = []
    for frame in frames:
        if not _is_ours(frame.filename):
            kept.append(frame)
            continue
        while kept and kept[-1].filename in _WRAPPERS:
            kept.pop()
    return kept


def _is_ours(file: str) -> bool:
    return file.startswith((_OURS, "<frozen importlib"))
