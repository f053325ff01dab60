"""Which GPUs of a node a worker gets, and how much of each: pure, from what is there and what is free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from relight.protocol.link import GpuFact
from relight.protocol.manifest import GpuRequest

_EPSILON = 1e-9  # shares are sums of fractions such as 0.1
_SLICE = "MIG-"


def matches(wanted: str, gpu: GpuFact) -> bool:
    """Whether a GPU is what was asked for: `A100` is an `A100-80GB`, too.

    A slice is one only where a slice is asked for: `MIG-1G.10GB` of whatever GPU, or `H100-MIG-1G.10GB`.
    """
    kind = gpu.kind.upper()
    if _SLICE in kind:
        whole, _, profile = kind.partition(_SLICE)
        model, asks, wanted_profile = wanted.partition(_SLICE)
        return (
            bool(asks) and profile == wanted_profile and (not model or f"{whole}-".startswith(f"{model.rstrip('-')}-"))
        )
    return wanted in ("ANY", kind) or kind.startswith(f"{wanted}-")


def free_shares(gpus: Sequence[GpuFact], held: Iterable[tuple[Sequence[str], float]]) -> dict[str, float]:
    """How much of each GPU is free, where each of `held` holds its share of some."""
    free = {gpu.id: 1.0 for gpu in gpus}
    if not free:
        return free
    for ids, share in held:
        for one in ids:
            if one in free:
                free[one] = max(0.0, free[one] - share)
    return free


def is_whole(share: float) -> bool:
    """Whether nothing of it is taken."""
    return share >= 1 - _EPSILON


def choose(request: GpuRequest, gpus: Sequence[GpuFact], free: Mapping[str, float]) -> tuple[str, ...] | None:
    """The GPUs that serve a request, None where they are not free.

    A share comes from the GPU that has least left of those that have enough, so that whole ones stay whole.
    """
    fitting = [gpu.id for gpu in gpus if matches(request.kind, gpu)]
    if request.share < 1:
        enough = [one for one in fitting if free.get(one, 0.0) >= request.share - _EPSILON]
        return (min(enough, key=lambda one: free[one]),) if enough else None
    whole = [one for one in fitting if is_whole(free.get(one, 0.0))]
    return tuple(whole[: request.count]) if len(whole) >= request.count else None
