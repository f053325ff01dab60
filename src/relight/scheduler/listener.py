"""What the scheduler tells, and to whom: everything that has to be kept, or answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from relight.protocol.errors import Failure
from relight.scheduler.leases import Lease
from relight.scheduler.queue import WaitingCall
from relight.scheduler.state import Function, Worker


class Listener(Protocol):
    """Who is told what the scheduler found out or did."""

    def granted(self, leases: Sequence[Lease]) -> None:
        """These calls are on their way to workers, which may not be up yet: no attempt before it has them any more."""

    def claimed(self, leases: Sequence[Lease]) -> None:
        """These calls were given to workers, and must be kept as running."""

    def lost(self, leases: Sequence[Lease], why: str) -> None:
        """These calls have no worker any more."""

    def expired(self, calls: Sequence[WaitingCall], why: str) -> None:
        """These calls waited longer than they may, for this reason."""

    def cannot_start(self, calls: Sequence[WaitingCall], failure: Failure) -> None:
        """These calls wait for workers that cannot be started."""

    def brake_changed(self, function: Function) -> None:
        """Its workers have crashed, or one is well again: the next server has to know of its brake."""

    def payload_missing(self, leases: Sequence[Lease]) -> None:
        """These leases wait for their payload to be read from the store; `deliver` goes on."""

    def beyond_wanted(self, function: Function) -> None:
        """What waits of a function in memory will not last: bring more from the store; `Scheduler.bring` goes on."""

    def inherited(self, function: Function, calls: Sequence[WaitingCall]) -> None:
        """These calls of a function, and what of it waits in the store alone, are for the version that is its `heir`."""

    def worker_entered(self, worker: Worker, detail: str) -> None:
        """A worker entered a state."""
