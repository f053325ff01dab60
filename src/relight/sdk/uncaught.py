"""What nobody catches is shown without relight's frames, where Python's hook is the one that it came with."""

from __future__ import annotations

import sys
import threading
from types import TracebackType

from relight.sdk.environment import is_debugging
from relight.sdk.frames import hide_own_frames


def hide_own_frames_of_uncaught() -> None:
    """From now on Python shows what nobody catches so.  Who has a hook of their own keeps it."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _show_of_thread
    if "IPython" in sys.modules:
        from relight.sdk.notebooks import show_well  # elsewhere nobody needs it

        show_well()


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not is_debugging():
        hide_own_frames(error)
        trace = error.__traceback__
    sys.__excepthook__(kind, error, trace)


def _show_of_thread(args: threading.ExceptHookArgs) -> None:
    error = args.exc_value
    if error is not None and not is_debugging():
        hide_own_frames(error)
        args = threading.ExceptHookArgs((args.exc_type, error, error.__traceback__, args.thread))
    threading.__excepthook__(args)
