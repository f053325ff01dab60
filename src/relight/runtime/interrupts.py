"""Stops the call that runs, from outside, in the main thread.

The agent sends `Interrupt` on the channel and then SIGUSR1.  The handler looks into the channel without blocking; when
the call that runs is named, it raises `CallInterrupted` in the user's code, or cancels the task that runs it.  A signal
that comes while nothing runs is nothing: `arm` looks into the channel itself before a call starts.

A generator that waits for its reader blocks on the channel: an interrupt ends that wait by the message alone.

The agent rings again after a while.  That is for what runs on an event loop: a task that never lets the loop go on is not
reached by a cancel that waits for its turn.

SIGTERM means: finish what runs, then leave.  It raises only where the worker waits for its next message.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # of `signal`, without its enums, which take 40 µs of each fork
import os
import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType

from relight.protocol.calls import CallEvent
from relight.protocol.channel import Interrupt, Recalled
from relight.runtime.channel import Channel, Received

STALE_SECONDS = 0.02
"""What was read so long ago may have been recalled meanwhile: less than the agent lets a call take before it does that."""


_RING, _LEAVE = int(signal.SIGUSR1), int(signal.SIGTERM)


class CallInterrupted(BaseException):
    """Not an Exception, so that `except Exception` in the user's code does not take it."""

    __module__ = "relight"  # as users see it, at the end of the traceback that says where they were interrupted


class Leave(BaseException):
    """SIGTERM came while the worker was idle."""


class Interrupts:
    """Who may be interrupted now, and how."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._call = ""
        self._cancel_task: Callable[[], None] | None = None
        self._leave_by: Callable[[], None] | None = None
        self._is_looking = False
        self._was_rung = False
        self._is_waiting = False
        self._is_leaving = False
        self._masks: dict[int, set[int]] = {}
        self._ring: Callable[[], object] | None = None
        self._leave: Callable[[], object] | None = None
        self.reason: CallEvent | None = None

    def install(self) -> None:
        """Take the two signals; in processes that the function forks they are nobody's."""
        _signal.signal(_RING, self._on_interrupt)
        _signal.signal(_LEAVE, self._on_leave)
        os.register_at_fork(before=self._hold, after_in_parent=self._release, after_in_child=self._give_back)

    def hand_over(self, *, ring: Callable[[], object], leave: Callable[[], object]) -> None:
        """From here on the signals are somebody else's, who reads the channel: they call these."""
        self._ring, self._leave = ring, leave
        if self._is_leaving:
            leave()

    def receive(self) -> Received:
        """The next message.  Raises Leave when the worker is to leave instead."""
        while True:
            self._is_waiting = True
            try:
                if self._is_leaving:
                    raise Leave
                self._channel.wait_waiting()
            finally:
                self._is_waiting = False
            if self._was_rung or self._channel.has_recall or self._channel.age_seconds > STALE_SECONDS:
                self._look()
            if self._channel.has_waiting:
                return self._channel.receive()

    def arm(self, call: str) -> None:
        """`call` runs from here on; raises CallInterrupted when it has been interrupted already.

        The signal comes after the message: without it, a message that is still in the socket will be looked for later.
        """
        self.reason = None
        self._call = call
        if self._was_rung or self._channel.has_waiting:
            self._look(polls=self._was_rung)

    def disarm(self) -> None:
        """Nothing runs that may be interrupted."""
        self._channel.forget(self._call)
        self._call = ""
        self._cancel_task = None

    def cancel_by(self, cancel: Callable[[], None] | None) -> None:
        """What runs is a task of an event loop: an interrupt calls this rather than raise, and so does each ring after."""
        self._cancel_task = cancel

    def leave_by(self, leave: Callable[[], None] | None) -> None:
        """What runs has no end of its own: when the worker is to leave, this is called."""
        self._leave_by = leave
        if leave is not None and self._is_leaving:
            leave()

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        """Send a message whole: an interrupt in the middle of it is raised after it."""
        self._is_looking = True
        try:
            self._channel.send(message, descriptors)
        finally:
            self._is_looking = False
        if self._was_rung:
            self._look()

    def wait_grant(self, call: str, items: int) -> None:
        """Return once `call` may make so many items.  Raises CallInterrupted when it is to stop instead."""
        while self._channel.granted(call) < items:
            self._look(waits=True)

    def _hold(self) -> None:
        """One that comes for the child while it still has our handlers would be lost: Python forgets it after a fork."""
        self._masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))

    def _release(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.pop(threading.get_ident()))

    def _give_back(self) -> None:
        """In a child: it is no worker, so SIGTERM ends it, which `multiprocessing` for one waits for."""
        for number, handler in ((signal.SIGUSR1, self._on_interrupt), (signal.SIGTERM, self._on_leave)):
            if signal.getsignal(number) == handler:
                signal.signal(number, signal.SIG_DFL)
        self._release()

    def _on_interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        if self._ring is not None:
            self._ring()
            return
        self._was_rung = True
        if not self._call or self._is_looking:
            return
        was_told = self.reason is not None
        self._look()
        if was_told and self._cancel_task is not None:
            self._cancel_task()

    def _on_leave(self, _signal: int, _frame: FrameType | None) -> None:
        self._is_leaving = True
        if self._leave is not None:
            self._leave()
        if self._is_waiting:
            raise Leave
        if self._leave_by is not None:
            self._leave_by()

    def _look(self, *, polls: bool = True, waits: bool = False) -> None:
        """Read what has come; a signal in the middle of it makes it look once more, rather than into itself."""
        self._was_rung = self._was_rung or polls
        while self._was_rung:  # a signal before the flag falls is seen here, one after it looks itself
            self._is_looking = True
            try:
                if waits:
                    self._channel.wait()
                    waits = False
                self._was_rung = False
                self._channel.poll()
                recalled = self._channel.take_recalled()
                if recalled:
                    self._channel.send(Recalled(calls=recalled))
            finally:
                self._is_looking = False
        for received in self._channel.waiting:
            message = received.message
            if isinstance(message, Interrupt) and message.call == self._call and self.reason is None:
                self.reason = message.reason
                self._interrupt()

    def _interrupt(self) -> None:
        if self._cancel_task is not None:
            self._cancel_task()
            return
        raise CallInterrupted(self._call)
