"""Ctrl-C: once cancels what the command started, twice leaves at once."""

from __future__ import annotations

import os
import signal
from types import FrameType

from relight.cli.main import INTERRUPTED


def leave_at_second_interrupt() -> None:
    """Ctrl-C cancels what was started and waits until it is; a second one does not wait."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        os._exit(INTERRUPTED)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, leave)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
