"""Tokens that the function reported and the agent was not told of yet: from any thread, told by the one that has the channel."""

from __future__ import annotations

import threading

from relight.protocol.channel import Tokens
from relight.protocol.inside import inside


class TokenReports:
    """By call; under "" what was reported where no one call runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, tuple[int, int]] = {}

    def add(self, tokens_in: int, tokens_out: int) -> None:
        """The call that runs here read and wrote so many more."""
        with self._lock:
            read, written = self._counts.get(inside.call, (0, 0))
            self._counts[inside.call] = (read + tokens_in, written + tokens_out)

    def take(self) -> list[Tokens]:
        """What is to be told now; as a rule nothing."""
        if not self._counts:
            return []
        with self._lock:
            counts, self._counts = self._counts, {}
        return [Tokens(call=call, read=read, written=written) for call, (read, written) in counts.items()]
