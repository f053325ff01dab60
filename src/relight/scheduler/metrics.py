"""Numbers that workers report of their own: the last word of each counts, for a while."""

from __future__ import annotations

from dataclasses import dataclass, field

FRESH_SECONDS = 60.0
"""What was reported longer ago counts as nothing: its worker says so again, or has nothing to say any more."""

MOST_NAMES = 20
"""So many names a function may report at most."""


@dataclass(slots=True)
class Metrics:
    """What the workers of one function reported last, and when."""

    _values: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._values)

    def report(self, worker: str, values: dict[str, float], now: float) -> None:
        """One of them says how much there is of something; under "" whoever is none."""
        for name, value in values.items():
            if (worker, name) in self._values or len({known for _, known in self._values} | {name}) <= MOST_NAMES:
                self._values[worker, name] = (value, now)

    def forget(self, worker: str) -> None:
        """A worker is gone."""
        for key in [key for key in self._values if key[0] == worker]:
            del self._values[key]

    def sums(self, now: float) -> tuple[tuple[str, float], ...]:
        """The sum of each number over those who reported it of late."""
        if not self._values:
            return ()
        for key in [key for key, (_, at) in self._values.items() if now - at > FRESH_SECONDS]:
            del self._values[key]
        sums: dict[str, float] = {}
        for (_, name), (value, _) in self._values.items():
            sums[name] = sums.get(name, 0.0) + value
        return tuple(sums.items())
