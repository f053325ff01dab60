"""Named points at which a test lets this process die: `end.before_commit:3` kills it the third time it gets there."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

from relight.protocol.errors import InvalidRequest

WRITES = ("submit", "claim", "end", "end_queued", "deploy", "worker", "logs")
POINTS = tuple(f"{write}.{when}" for write in WRITES for when in ("before_commit", "after_commit"))


class Faults:
    """Counts visits to the points of one spec, `POINT:N[,POINT:N…]`; an empty spec never does anything."""

    def __init__(self, spec: str = "") -> None:
        self._left: dict[str, int] = {}
        for part in filter(None, spec.split(",")):
            point, _, count = part.strip().partition(":")
            if point not in POINTS or not (count or "1").isdecimal():
                raise InvalidRequest(
                    f"cannot read the fault point {part!r}: write POINT:N with one of {', '.join(POINTS)}"
                )
            self._left[point] = int(count or 1)

    def pass_by(self, writes: Iterable[str], when: str) -> None:
        """The writer is at a point for each of these writes."""
        if self._left:
            for write in writes:
                self._visit(f"{write}.{when}")

    def _visit(self, point: str) -> None:
        if point in self._left:
            self._left[point] -= 1
            if self._left[point] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
