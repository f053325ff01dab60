"""Where a worker can go: pure, from what it asks and what the nodes have free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relight.protocol.link import GpuFact
from relight.protocol.manifest import GpuRequest, Resources
from relight.scheduler.gpus import choose

DEFAULT_CPU = 0.125
"""What a worker counts as when it asks for no CPU, in cores."""

DEFAULT_MEMORY_MIB = 128
"""What a worker counts as when it asks for no memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a node has, and has free.  `starting` workers are being started there, of at most `start_limit` at once.

    `free_gpus` are those of which nothing is taken, `free_shares` how much is free of each of the others.
    `has_template`: the worker would be a fork there; `siblings` are workers of its function.
    """

    node: str
    cpu: float
    memory_mib: int
    gpus: tuple[GpuFact, ...]
    free_cpu: float
    free_memory_mib: int
    free_gpus: tuple[GpuFact, ...]
    starting: int = 0
    start_limit: int = 4
    has_template: bool = False
    siblings: int = 0
    free_shares: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A node with room, and the GPUs the worker gets there, or its share of one."""

    node: str
    gpus: tuple[str, ...] = ()
    gpu_share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoPlace:
    """Why no node takes it.  `is_for_now` says that room may come by itself, when others leave.

    `is_own`: that is no matter of room, and says nothing of what others find that ask for as much.
    """

    reason: str
    is_for_now: bool
    is_own: bool = False


def cpu_of(resources: Resources) -> float:
    """The cores a worker counts as."""
    return DEFAULT_CPU if resources.cpu is None else resources.cpu


def memory_of(resources: Resources) -> int:
    """The MiB a worker counts as."""
    return DEFAULT_MEMORY_MIB if resources.memory_mib is None else resources.memory_mib


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """How much one workspace may use at once; None is no bound.  `cpu` in cores."""

    workers: int | None = None
    cpu: float | None = None
    memory_mib: int | None = None
    gpus: int | None = None


def over_quota(asked: Resources, used: Sequence[Resources], quota: Quota) -> NoPlace | None:
    """Why a workspace may have no such worker beside those that it has; None where it may."""
    gpus = max((gpu.count for gpu in asked.gpu), default=0)
    bounds = (
        ("workers", 1.0, float(len(used)), quota.workers),
        ("cores", cpu_of(asked), sum(map(cpu_of, used)), quota.cpu),
        ("MiB of memory", float(memory_of(asked)), float(sum(map(memory_of, used))), quota.memory_mib),
        ("GPUs", float(gpus), float(sum(one.gpu[0].count for one in used if one.gpu)), quota.gpus),
    )
    for what, more, now, most in bounds:
        if most is not None and more and now + more > most + 1e-9:
            return NoPlace(
                reason=f"quota: its workspace uses {now:g} of the {most:g} {what} that it may have; it waits its turn",
                is_for_now=more <= most,
            )
    return None


def place(resources: Resources, rooms: Sequence[Room], *, spreads: bool = False) -> Place | NoPlace:
    """The earliest GPU of its list that is free anywhere; where a template is, and of those nodes where most CPU is left.

    `spreads`: before all that, where fewest of its siblings are.
    """
    if not rooms:
        return NoPlace(
            reason="no_node: no node is connected; start one with `relight up` or `relight agent`", is_for_now=True
        )
    for gpu in resources.gpu or (None,):
        fitting = [room for room in rooms if _fits(resources, gpu, room)]
        if fitting:
            best = max(fitting, key=lambda room: (-room.siblings if spreads else 0, room.has_template, room.free_cpu))
            return Place(node=best.node, gpus=_choose(gpu, best) or (), gpu_share=gpu.share if gpu else 1.0)
    return _explain(resources, rooms)


def _fits(resources: Resources, gpu: GpuRequest | None, room: Room) -> bool:
    return (
        cpu_of(resources) <= room.free_cpu + 1e-9
        and memory_of(resources) <= room.free_memory_mib
        and _choose(gpu, room) is not None
        and room.starting < room.start_limit
    )


def _choose(gpu: GpuRequest | None, room: Room) -> tuple[str, ...] | None:
    """The GPUs it gets, none where none was asked for; None where they are not free."""
    if gpu is None:
        return ()
    free = {**{one.id: 1.0 for one in room.free_gpus}, **dict(room.free_shares)}
    return choose(gpu, room.gpus, free)


def _could_have(gpu: GpuRequest, room: Room) -> bool:
    """Whether a node has what is asked for, be it free or not."""
    return choose(gpu, room.gpus, {one.id: 1.0 for one in room.gpus}) is not None


def _explain(resources: Resources, rooms: Sequence[Room]) -> NoPlace:
    """What is missing, by the first thing that no node could give even when empty, then by what is taken now."""
    cpu, memory = cpu_of(resources), memory_of(resources)
    if resources.gpu and not any(_could_have(gpu, room) for gpu in resources.gpu for room in rooms):
        return NoPlace(reason=_explain_gpu(resources.gpu, rooms), is_for_now=False)
    if cpu > (most := max(room.cpu for room in rooms)):
        return NoPlace(
            reason=f"no_capacity:cpu: it asks for {cpu:g} cores and the largest node has {most:g}; lower cpu= or add a node",
            is_for_now=False,
        )
    if memory > (most_memory := max(room.memory_mib for room in rooms)):
        return NoPlace(
            reason=f"no_capacity:memory: it asks for {memory} MiB and the largest node has {most_memory} MiB; "
            "lower memory= or add a node",
            is_for_now=False,
        )
    if all(room.starting >= room.start_limit for room in rooms):
        return NoPlace(
            reason="starting:queued: as many workers as the nodes start at once are being started", is_for_now=True
        )
    wanted = " or ".join(map(str, resources.gpu))
    what = "gpu" if resources.gpu and not any(_gpu_free(resources, room) for room in rooms) else "cpu"
    what = "memory" if what == "cpu" and all(memory > room.free_memory_mib for room in rooms) else what
    asks = {"gpu": wanted, "cpu": f"{cpu:g} cores", "memory": f"{memory} MiB"}[what]
    return NoPlace(
        reason=f"no_capacity:{what}: it asks for {asks}, and all of it is in use; it waits its turn", is_for_now=True
    )


def _gpu_free(resources: Resources, room: Room) -> bool:
    return any(_choose(gpu, room) is not None for gpu in resources.gpu)


def _explain_gpu(wanted: Sequence[GpuRequest], rooms: Sequence[Room]) -> str:
    asked = " or ".join(map(str, wanted))
    there = sorted({fact.kind for room in rooms for fact in room.gpus})
    have = ", ".join(there) if there else "no GPU"
    example = f"{wanted[0].kind}:{wanted[0].count}"
    return (
        f"no_capacity:gpu: it asks for {asked} and the nodes have {have}; add such a node, "
        f"or declare a simulated one with --declare-gpu {example}"
    )
