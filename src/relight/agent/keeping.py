"""Which templates to keep: pure, greedy-dual by size and frequency (Cherkasova, HP Labs 98-69).

What a template is worth is `uses × cost / size`, cost being the seconds that its making took and size its memory, above
a floor that rises to the worth of whatever was given up last: so what was dear once and is asked for no more ages.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(slots=True)
class _Kept:
    size: int
    cost: float
    uses: int
    worth: float


class Keeping:
    """What is kept, within `budget` bytes."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._floor = 0.0
        self._reserved = 0
        self._kept: dict[str, _Kept] = {}

    @property
    def size(self) -> int:
        """How many bytes all of them take, and what is reserved."""
        return self._reserved + sum(one.size for one in self._kept.values())

    @property
    def budget(self) -> int:
        """How many bytes they may take."""
        return self._budget

    def reserve(self, size: int) -> None:
        """So many bytes of the budget are somebody else's, instead of what was reserved before."""
        self._reserved = size

    def add(self, key: str, size: int, cost: float) -> None:
        """Keep one that took `cost` seconds to make; it has been used once."""
        one = self._kept[key] = _Kept(max(size, 1), cost, 0, 0.0)
        self._use(one)

    def use(self, key: str) -> None:
        """It served a start."""
        if key in self._kept:
            self._use(self._kept[key])

    def remove(self, key: str) -> None:
        """It is gone, for whatever reason."""
        self._kept.pop(key, None)

    def give_up(self, spared: Collection[str]) -> list[str]:
        """Give up those that are worth least until the rest fits; never one of the spared."""
        given_up = []
        candidates = sorted((one.worth, key) for key, one in self._kept.items() if key not in spared)
        for worth, key in candidates:
            if self.size <= self._budget:
                break
            self._floor = max(self._floor, worth)
            del self._kept[key]
            given_up.append(key)
        return given_up

    def by_worth(self) -> list[str]:
        """All that are kept, the dearest first."""
        return sorted(self._kept, key=lambda key: self._kept[key].worth, reverse=True)

    def _use(self, one: _Kept) -> None:
        one.uses += 1
        one.worth = self._floor + one.uses * one.cost / one.size
