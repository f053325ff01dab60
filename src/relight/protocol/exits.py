"""How a worker ends: every reason there is, in one table, from which people's words and the brake on crash loops are read.

A reason is `kind` or `kind:detail`; where the details of one kind differ in what they mean, each has a row of its own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRule:
    """One row: what is said of such an end (`{}` is its detail), and what to do about it.

    `is_own_fault`: the function did that to itself, so the call that ran is charged.  `is_crash`: another worker may end the
    same way, so it is not started at once again and again.
    """

    says: str
    advice: str = "look at its logs"
    is_own_fault: bool = True
    is_crash: bool = True


EXITS: dict[str, ExitRule] = {
    "stopped": ExitRule(says="was stopped", advice="call again", is_own_fault=False, is_crash=False),
    "exited": ExitRule(says="exited with code {}", advice="let the function return instead, and look at its logs"),
    "signal": ExitRule(says="was killed by {}"),
    "out_of_memory": ExitRule(says="ran out of memory (out_of_memory)", advice="raise memory=, or use less"),
    "disk_full": ExitRule(says="found its disk full (disk_full)", advice="write less, or make room on its node"),
    "start_failed": ExitRule(says="could not be started (start_failed)"),
    "start_timed_out": ExitRule(
        says="was not ready in time (start_timed_out)", advice="raise startup_timeout=, or load less"
    ),
    "killed": ExitRule(says="was killed ({})"),
    "killed:cancelled": ExitRule(
        says="was killed, as a cancelled call did not end (cancelled)", is_own_fault=False, is_crash=False
    ),
    "killed:timed_out": ExitRule(
        says="was killed, as a call whose time was over did not end (timed_out)", is_own_fault=False, is_crash=False
    ),
    "killed:gpu_memory": ExitRule(
        says="held more of its GPU's memory than its share (killed:gpu_memory)",
        advice="ask for a larger share, or use less",
    ),
    "node_lost": ExitRule(
        says="was lost with its node (node_lost)", advice="look at the node", is_own_fault=False, is_crash=False
    ),
    "evicted": ExitRule(
        says="was ended because its node ran out of memory (evicted)",
        advice="add memory to the node, or run less on it",
        is_own_fault=False,
    ),
    "template_lost": ExitRule(says="ended, and its template, which would know how, before it (template_lost)"),
}
"""Every reason; a `kind:detail` that has no row of its own is meant by the row of its kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerExit:
    """How a worker ended: `reason` is of `EXITS`; the status or the signal of its process, where somebody saw it.

    `peak_memory_bytes` is the most that it held, 0 where nobody counted; `last_lines` are what it wrote last.
    """

    reason: str
    code: int | None = None
    signal: int | None = None
    peak_memory_bytes: int = 0
    last_lines: tuple[str, ...] = ()

    @property
    def is_own_fault(self) -> bool:
        """Whether the call that ran is charged with it."""
        return rule_of(self.reason).is_own_fault

    @property
    def is_crash(self) -> bool:
        """Whether another worker of the same function may end the same way."""
        return rule_of(self.reason).is_crash

    @property
    def how(self) -> str:
        """What is said of it, for people: goes on from `its worker …`."""
        said = rule_of(self.reason).says.format(self.reason.partition(":")[2])
        held = self.peak_memory_bytes >> 20
        return f"{said}; it held {held} MiB" if held and self.reason in _OF_MEMORY else said

    @property
    def last_words(self) -> str:
        """The last line that it wrote, as what follows `how`; "" where it wrote none."""
        return f"; its last words: {self.last_lines[-1][:200]}" if self.last_lines else ""

    @property
    def advice(self) -> str:
        """What to do about it."""
        return rule_of(self.reason).advice


NODE_LOST = WorkerExit(reason="node_lost")
"""Of a worker whose node is gone: nobody saw how it ended."""

_OF_MEMORY = ("out_of_memory", "evicted")
_UNKNOWN = ExitRule(says="ended")


def rule_of(reason: str) -> ExitRule:
    """The row of a reason; a newer agent may have others, which count as crashes."""
    return EXITS.get(reason) or EXITS.get(reason.partition(":")[0]) or _UNKNOWN
