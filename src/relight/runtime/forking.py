"""`os.fork` for a process with one thread.

In each fork, `threading` puts right what the threads that are gone have left behind: their locks, and their entries in its
tables.  Where there was one thread that changes nothing but the number by which the kernel knows it, and it has many pages
of the fork copied (0.1 ms).  A hook cannot be taken back, so here it is empty for the moment of the fork; what a worker
forks by itself has it whole.
"""

from __future__ import annotations

import os
import threading
from types import FunctionType


def fork() -> int:
    """As `os.fork`, which it is where this process has other threads, or where `threading` looks unlike itself."""
    hook = getattr(threading, "_after_fork", None)
    if not isinstance(hook, FunctionType) or hook.__closure__ or not _is_alone():
        return os.fork()
    whole = hook.__code__
    hook.__code__ = _nothing.__code__
    try:
        pid = os.fork()
    finally:
        hook.__code__ = whole
    if not pid and (renew := getattr(threading.main_thread(), "_set_native_id", None)) is not None:
        renew()
    return pid


def _nothing() -> None:
    """For a hook."""


def _is_alone() -> bool:
    return threading.active_count() == 1 and threading.current_thread() is threading.main_thread()
