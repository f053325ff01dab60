"""What runs of calls told of themselves, and a checker of what delivery promises of any such runs.

A run that was killed has no end.  What a call came to is what its server keeps, `Kept`; what was asked of it is `Asked`.
"""

from __future__ import annotations

import socket
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

FINAL = ("succeeded", "failed", "cancelled", "timed_out", "expired")
UNKEPT_SECONDS = 0.5
"""A claim is kept soon after it was granted: of runs that began so near its death a server may leave no trace."""

LOST_TRIES = 4
"""So many tries a call has whose worker is lost each time."""


@dataclass(slots=True, kw_only=True)
class Run:
    """One run of one call: when its own code began and ended, in seconds since 1970."""

    began: float
    ended: float | None = None


@dataclass(slots=True, kw_only=True)
class Asked:
    """One call: the result it is to have (None: it is to raise), how often it may, and what was seen of it.

    `seen` holds what each reader was given: the result, or the code of the error.
    """

    result: object
    retries: int = 0
    is_cancelled: bool = False
    seen: list[object] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the server says of a call in the end.  `outcomes` are those of its tries, in their order."""

    state: str
    code: str
    message: str
    charged: int
    ended: float
    outcomes: tuple[str, ...]


class Witness:
    """Hears datagrams: `began` or `ended`, the call, a name for the run, the time."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._runs: dict[str, Run] = {}
        self._calls: defaultdict[str, list[Run]] = defaultdict(list)

    def hear(self, datagram: str) -> None:
        """Note it."""
        what, call, name, at = datagram.split()
        if what == "began":
            run = self._runs[name] = Run(began=float(at))
            self._calls[call].append(run)
        else:
            self._runs[name].ended = float(at)

    def runs(self, call: str) -> list[Run]:
        """The runs of a call, the earliest first."""
        return sorted(self._calls.get(call, ()), key=lambda run: run.began)


@contextmanager
def witness() -> Iterator[Witness]:
    """One that listens, on a thread of its own."""
    with socket.socket(type=socket.SOCK_DGRAM) as ear:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        ear.bind(("127.0.0.1", 0))
        heard = Witness(ear.getsockname()[1])

        def listen() -> None:
            while datagram := ear.recv(1024):
                heard.hear(datagram.decode())

        listener = threading.Thread(target=listen, name="witness")
        listener.start()
        try:
            yield heard
        finally:
            with socket.socket(type=socket.SOCK_DGRAM) as last:
                last.sendto(b"", ("127.0.0.1", heard.port))
            listener.join()


def check_call(asked: Asked, kept: Kept, runs: Sequence[Run], deaths: Sequence[float] = ()) -> list[str]:
    """What is wrong with how a call went; empty when it is as promised.  `deaths` are those of servers."""
    return [
        *_check_end(asked, kept),
        *_check_runs(kept, runs, deaths),
        *_check_tries(asked, kept),
    ]


def _check_end(asked: Asked, kept: Kept) -> Iterator[str]:
    came_to = asked.result if kept.state == "succeeded" else kept.code
    if kept.state not in FINAL:
        yield f"it is {kept.state} and never ended"
    if any(seen != came_to for seen in asked.seen):
        yield f"it is kept as {came_to!r}, and was seen as {asked.seen!r}"
    if kept.state == "succeeded" and asked.result is None:
        yield "it succeeded, and was to raise"
    if kept.state == "cancelled" and not asked.is_cancelled:
        yield "nobody cancelled it, and it is cancelled"
    if kept.state == "failed" and not _may_fail(asked, kept):
        yield f"it failed and was not to: {kept.code}: {kept.message} {kept.outcomes}"
    if kept.state in ("timed_out", "expired"):
        yield f"it is {kept.state}, and had all the time there is"


def _may_fail(asked: Asked, kept: Kept) -> bool:
    if kept.code == "worker_lost":
        return kept.charged >= LOST_TRIES or "items were delivered" in kept.message
    return asked.result is None


def _check_runs(kept: Kept, runs: Sequence[Run], deaths: Sequence[float]) -> Iterator[str]:
    unkept = sum(any(abs(death - run.began) < UNKEPT_SECONDS for death in deaths) for run in runs)
    if len(runs) > kept.charged + unkept:
        yield f"it ran {len(runs)} times, and {kept.charged} of its tries were charged: {kept.outcomes}"
    if kept.state == "succeeded" and not runs:
        yield "it succeeded and never ran"
    if runs and "not begun" in kept.message:
        yield "it is said not to have begun, and ran"
    if any(run.began > kept.ended for run in runs):
        yield "it was begun after its end"
    if any(before.ended is not None and before.ended > after.began for before, after in pairwise(runs)):
        yield "two of its runs were at the same time"


def _check_tries(asked: Asked, kept: Kept) -> Iterator[str]:
    finals = [outcome for outcome in kept.outcomes if outcome in FINAL]
    never_claimed = kept.state == "cancelled" and not finals
    if finals != [kept.state] and not never_claimed:
        yield f"its tries ended as {kept.outcomes}, and it is {kept.state}"
    retried = kept.outcomes.count("retried")
    if retried > asked.retries:
        yield f"it was tried again {retried} times after it raised, and {asked.retries} are allowed"
    was_let = "lease_lost" in kept.outcomes or kept.state != "failed"
    if asked.result is None and retried < asked.retries and not was_let:
        yield f"it raised and was tried again {retried} times only, of {asked.retries}"
