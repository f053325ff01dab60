"""The calls that one worker has, in the order in which it runs them.

    waiting here ─▶ in its channel, behind another ─▶ running ─▶ over
         ▲                      │
         └──── given back ──────┘   (the one before takes long: they go to another worker)

One runs; a few wait in the worker's channel, so that it never idles between two short calls.  Only the head can end.
A *wide* worker runs several at once: all that it was given, up to its width, so that nothing waits in its channel.

A worker that is told to give calls back may end the one that runs in the same moment: then the next of them is the head
here, and has not begun there.  A worker that is deep in C cannot give anything back.  What waits in its channel is taken
from it: it looks for such words before it begins another call, and what it says of those calls means nothing any more.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from relight.agent.attempts import Attempt
from relight.protocol.errors import ProtocolError

AHEAD = 16
"""How many calls are with the worker at most, the running one included."""


class Turns:
    """Whose turn it is with one worker, and who comes next."""

    def __init__(self, width: int = 1) -> None:
        self._width = width
        self._room = AHEAD if width == 1 else width
        self._waiting: deque[Attempt] = deque()
        self._sent: dict[str, Attempt] = {}
        self._taken: list[str] = []  # one that comes back before the worker has looked may be taken twice

    @property
    def head(self) -> Attempt | None:
        """The attempt that runs."""
        for attempt in self._sent.values():
            return attempt
        return None

    def runs(self, attempt: Attempt) -> bool:
        """Whether it is, or is among, what runs."""
        return attempt is self.head or (self._width > 1 and attempt.order.call in self._sent)

    def has_given(self, attempt: Attempt) -> bool:
        """Whether the worker has it."""
        return attempt.order.call in self._sent

    def running_call(self) -> str:
        """The call that runs; "" for none, or several."""
        return "" if self._width > 1 and len(self._sent) > 1 else next(iter(self._sent), "")

    @property
    def behind(self) -> tuple[str, ...]:
        """The calls that wait in the worker's channel."""
        return tuple(islice(self._sent, self._width, None))

    @property
    def has_others(self) -> bool:
        """Whether anything waits behind what runs."""
        return len(self._sent) > self._width or bool(self._waiting)

    @property
    def has_waiting(self) -> bool:
        """Whether anything waits here."""
        return bool(self._waiting)

    def add(self, attempt: Attempt) -> None:
        """It waits here."""
        self._waiting.append(attempt)

    def next(self) -> Attempt | None:
        """The one that the worker is to be given now; None when none waits, or it has enough."""
        if not self._waiting or len(self._sent) >= self._room:
            return None
        attempt = self._waiting.popleft()
        self._sent[attempt.order.call] = attempt
        return attempt

    def running(self, call: str) -> Attempt:
        """The attempt of which the worker speaks.  Raises ProtocolError when it cannot run it."""
        attempt = self._sent.get(call)
        if attempt is None or not self.runs(attempt):
            raise ProtocolError(f"cannot believe a word of {call[:40]!r}: it is not a call that this worker runs")
        return attempt

    def end(self, attempt: Attempt) -> None:
        """What ran is over."""
        del self._sent[attempt.order.call]

    def take(self, attempt: Attempt) -> bool:
        """Take back one that waits in the channel, without being given it; False when it does not."""
        if self.runs(attempt) or self._sent.get(attempt.order.call) is not attempt:
            return False
        del self._sent[attempt.order.call]
        self._taken.append(attempt.order.call)
        return True

    def was_taken(self, call: str) -> bool:
        """Whether the worker speaks of a call that was taken from it."""
        return call in self._taken and call not in self._sent

    def give_back(self, call: str) -> Attempt | None:
        """The worker gives back a call that it was told to, and has not begun; None when it was taken before.

        Raises ProtocolError for any other.
        """
        if call in self._taken:
            self._taken.remove(call)
            return None
        attempt = self._sent.get(call)
        if attempt is None or not attempt.is_recalled:
            raise ProtocolError(f"cannot take back {call[:40]!r}: this worker was not told to give it back")
        return self._sent.pop(call)

    def leave(self, attempt: Attempt) -> bool:
        """Take out one that waits here; False when the worker has it already."""
        if attempt.order.call in self._sent:
            return False
        if attempt in self._waiting:
            self._waiting.remove(attempt)
        return True

    def take_waiting(self) -> list[Attempt]:
        """Take out all that wait here."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting
