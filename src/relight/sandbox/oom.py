"""Ends the whole of a sandbox in which the kernel killed one process for want of memory.

A worker whose child was killed seldom notices: it waits for it, for ever.  v2 ends the whole group by itself.  v1 rings a
bell when a group is at its limit, before it kills anybody; so after a ring one looks until somebody is dead, or nobody was.
"""

from __future__ import annotations

import os
import selectors
from contextlib import suppress
from dataclasses import dataclass

from relight.sandbox.cgroups import Group

LOOK_MS = 5
_LOOKS = 200


@dataclass(slots=True, eq=False)
class Bell:
    """The bell of one sandbox's group; `looks` are left since it rang."""

    name: str
    group: Group
    descriptor: int
    looks: int = 0


class OomWatch:
    """The bells of all sandboxes, among whatever else a selector looks at; `Bell` is the data of theirs."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._bells: dict[str, Bell] = {}
        self._rung: set[Bell] = set()

    def add(self, name: str, group: Group) -> None:
        """Watch a sandbox that is about to begin."""
        descriptor = group.open_bell()
        if descriptor >= 0:
            bell = self._bells[name] = Bell(name, group, descriptor)
            self._selector.register(descriptor, selectors.EVENT_READ, bell)

    def remove(self, name: str) -> None:
        """It has ended, or never began."""
        bell = self._bells.pop(name, None)
        if bell is not None:
            self._rung.discard(bell)
            self._selector.unregister(bell.descriptor)
            os.close(bell.descriptor)

    @property
    def is_looking(self) -> bool:
        """Whether `find` is to be asked again, LOOK_MS from now."""
        return bool(self._rung)

    def hear(self, bell: Bell) -> None:
        """It has rung."""
        with suppress(BlockingIOError):
            os.eventfd_read(bell.descriptor)
        bell.looks = _LOOKS
        self._rung.add(bell)

    def find(self) -> list[str]:
        """The sandboxes that have lost a process, and are to be ended."""
        found = [bell for bell in self._rung if bell.group.oom_kills()]
        for bell in self._rung:
            bell.looks -= 1
        self._rung = {bell for bell in self._rung if bell.looks > 0 and bell not in found}
        return [bell.name for bell in found]
