"""Which call ids are certainly new, told without a read: a new call may be dispatched while its record commits.

An id says when it was made.  One made after this server began, and not among those it has taken since, was never used
before.  Of any other that is not known, and its call waits for the store's word.
"""

from __future__ import annotations

from collections import OrderedDict

from relight.protocol.ids import moment_of, new_id

REMEMBERED = 25_000
"""How many ids are known to be taken: some 6 MB, and seconds of the most that one server takes in.  Ids are younger than that."""


class Newness:
    """The ids that were taken since a time, `most` of them; what is older than those is not known to be new."""

    def __init__(self, since_ms: int, most: int = REMEMBERED) -> None:
        self._since = moment_of(new_id("call", since_ms))
        self._most = most
        self._taken: OrderedDict[tuple[str, str], None] = OrderedDict()

    def take(self, workspace: str, call_id: str) -> bool:
        """Note an id as used; whether it certainly was not before."""
        key = (workspace, call_id)
        if key in self._taken:
            return False
        is_new = moment_of(call_id) > self._since
        self._taken[key] = None
        if len(self._taken) > self._most:
            (_, oldest), _ = self._taken.popitem(last=False)
            self._since = max(self._since, moment_of(oldest))
        return is_new
