"""Claims with an end: which worker has which call, under which token, and since when its node was heard.

A token is (epoch, n); the epoch was committed when this scheduler began, so no token is ever granted twice.  A lease is a
duration on this machine's monotonic clock, renewed whenever the node says that it still holds the call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from relight.protocol.calls import Token
from relight.scheduler.queue import WaitingCall


@dataclass(slots=True, kw_only=True)
class Lease:
    """A call in a worker's hands.  `attempt` is its number; `granted_at` and `renewed_at` are monotonic seconds.

    `parked_seconds` is how long the call waited, where it found a worker that was parked; None where it did not.
    `is_held`: its worker is being started, so it has not begun; `is_asked_back`: its node was told to give it back then.
    """

    call: WaitingCall
    token: Token
    worker: str
    node: str
    attempt: int
    granted_at: float
    renewed_at: float
    parked_seconds: float | None = None
    is_held: bool = False
    is_asked_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A claim that was granted before: by an earlier epoch, as the store or a node tells it."""

    token: Token
    worker: str
    node: str
    attempt: int


class Leases:
    """Every call that runs."""

    def __init__(self, epoch: int, seconds: float) -> None:
        self._epoch = epoch
        self._seconds = seconds
        self._granted = 0
        self._leases: dict[str, Lease] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._leases.values())

    def get(self, call_id: str) -> Lease | None:
        """The lease on a call; None when it does not run."""
        return self._leases.get(call_id)

    def grant(self, call: WaitingCall, worker: str, node: str, now: float) -> Lease:
        """Give a call to a worker under a new token."""
        self._granted += 1
        token = Token(self._epoch, self._granted)
        return self.adopt(call, Claimed(token=token, worker=worker, node=node, attempt=call.attempts + 1), now)

    def adopt(self, call: WaitingCall, claim: Claimed, now: float) -> Lease:
        """Take over a claim, as if it were granted now."""
        lease = Lease(
            call=call,
            token=claim.token,
            worker=claim.worker,
            node=claim.node,
            attempt=claim.attempt,
            granted_at=now,
            renewed_at=now,
        )
        self._leases[call.id] = lease
        return lease

    def release(self, call_id: str, token: Token) -> Lease | None:
        """End a lease.  None when `token` is not the newest: whoever shows it has lost the call to another."""
        lease = self._leases.get(call_id)
        if lease is None or lease.token != token:
            return None
        return self._leases.pop(call_id)

    def renew(self, node: str, held: Iterable[str], now: float) -> None:
        """A node says that it still holds these calls."""
        for call_id in held:
            lease = self._leases.get(call_id)
            if lease is not None and lease.node == node:
                lease.renewed_at = now

    def take_expired(self, now: float) -> list[Lease]:
        """Take back the calls whose node has not spoken of them for too long."""
        return self._take([one for one in self._leases.values() if one.renewed_at + self._seconds <= now])

    def take_node(self, node: str, keep: Iterable[str] = ()) -> list[Lease]:
        """Take back what a node had, but for the calls it still holds."""
        kept = set(keep)
        return self._take([one for one in self._leases.values() if one.node == node and one.call.id not in kept])

    def _take(self, leases: list[Lease]) -> list[Lease]:
        for lease in leases:
            del self._leases[lease.call.id]
        return leases
