"""How many calls may wait: who asks for more is refused, and told when to ask again."""

from __future__ import annotations

from relight.protocol.errors import LimitExceeded
from relight.scheduler.state import Function


def check_space(function: Function, more: int, total: int, most: int | None) -> None:
    """Raise LimitExceeded when `more` calls of a function are too many for it, or for all: of `most`, `total` wait."""
    own, waiting = function.tuning.queue.max_waiting, len(function.queue)
    if own is not None and waiting + more > own:
        _refuse(function, more, f"{waiting:,} of its calls wait, and {own:,} may (max_waiting)")
    if most is not None and total + more > most:
        _refuse(function, more, f"{total:,} calls wait on this server, and {most:,} may (max_waiting)")


def _refuse(function: Function, more: int, why: str) -> None:
    seconds = function.seconds_to_drain(more)
    what = "another call" if more == 1 else f"{more:,} calls"
    raise LimitExceeded(f"cannot take {what} of {function.key.function}: {why}; call again in {seconds:.0f} s", seconds)
