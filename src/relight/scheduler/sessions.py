"""Sessions: which worker of a function has served a caller's key, so that it serves the next call under it, too.

soft      that worker where it has room, else whichever has, which has the session then
strict    that worker alone: the call waits for it; where it is gone the call fails, and the next one begins anew
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from relight.protocol.errors import SessionLost, failure_of

if TYPE_CHECKING:
    from relight.protocol.errors import Failure
    from relight.scheduler.queue import WaitingCall

MOST = 10_000
"""So many sessions of a function are known; the one that was used longest ago is forgotten, and begins anew."""


class Sessions:
    """The sessions of one function."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._workers: OrderedDict[str, str] = OrderedDict()

    def knows(self, session: str) -> bool:
        """Whether anything is known of a session: that it is a worker's, or that it begins anew."""
        return session in self._workers

    def worker_of(self, call: WaitingCall) -> str:
        """The worker that has a call's session, which may be gone; "" where it begins with this call."""
        return self._workers.get(call.session, call.last_worker)

    def serve(self, call: WaitingCall, worker: str) -> None:
        """A worker has a call, and with it the session, if it is of one."""
        if call.session:
            self._note(call.session, worker)

    def lose(self, session: str) -> None:
        """Its caller is told that it is gone: it begins anew."""
        self._note(session, "")

    def _note(self, session: str, worker: str) -> None:
        self._workers[session] = worker
        self._workers.move_to_end(session)
        if len(self._workers) > self._most:
            self._workers.popitem(last=False)


def session_lost(call: WaitingCall) -> Failure:
    """Why a call of a session that is gone fails."""
    return failure_of(
        SessionLost(
            f"cannot run {call.id} in session {call.session[:60]!r}: the worker that had it is gone, and with it what it "
            "held; call again to begin the session anew"
        )
    )
