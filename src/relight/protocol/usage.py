"""What a worker used: sealed by its node stretch after stretch, told until it is kept, and never changed after that."""

from __future__ import annotations

from dataclasses import dataclass

from relight.protocol.workers import WorkerKind, WorkerState

StateTimes = tuple[tuple[WorkerState, int], ...]
"""How many microseconds were spent in each state; none twice, none of 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedBy:
    """Whose worker it is, and what it holds all its life.  `cpu` and `memory_mib` None: what one counts as that asks for none.

    `gpus` are the ids of its node's GPUs, of each of which `gpu_share` is its own.  `tags` are those of its function.
    """

    workspace: str
    app: str
    environment: str
    version: str
    function: str
    binding: str = ""
    kind: WorkerKind = WorkerKind.FLEX
    cpu: float | None = None
    memory_mib: int | None = None
    gpus: tuple[str, ...] = ()
    gpu_share: float = 1.0
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """One stretch of a worker's life, the `n`-th, from 0.  Times are microseconds since 1970, by a clock that never jumps.

    The stretches of a worker tile its life: each begins where the one before ended, and `states` add up to its length.
    `cpu_us` is the CPU time that all its processes took in it, by its control group, and `egress_bytes` what went out by its
    network; None where nobody counts it.  Tokens are what the function reported.
    Whoever shows (worker, n) a second time changes nothing; after one that `is_last` no other means anything.
    """

    worker: str
    n: int
    by: UsedBy
    since_us: int
    until_us: int
    states: StateTimes
    calls: int = 0
    cpu_us: int | None = None
    egress_bytes: int | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    is_last: bool = False


def add_times(*times: StateTimes) -> StateTimes:
    """The sum of times, in the order of a life."""
    total = dict.fromkeys(WorkerState, 0)
    for some in times:
        for state, microseconds in some:
            total[state] += microseconds
    return tuple((state, microseconds) for state, microseconds in total.items() if microseconds)
