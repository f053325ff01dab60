"""Classes of workloads, and what practice says of each: the answers of an interview, each with a trace of its kind.

A class says which kind of worker, which provider and which settings; the trace beside it is replayed, so that the advice has
its figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from relight.metering.cards import Card
from relight.planner.costs import Holds, Horizon
from relight.planner.options import Targets, Workload
from relight.planner.plan import Plan, make_plan
from relight.planner.traces import DAY_SECONDS, Trace, poisson

MATTERS = ("cost", "latency", "portability", "existing models", "team skill")
"""What may matter most to a user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A class of workloads.  `advice` is what practice does; `trace` makes one of its kind, `cards` are what is compared."""

    name: str
    says: str
    advice: str
    trace: Callable[[], Trace]
    holds: Holds
    starts: tuple[float, ...]
    targets: Targets = field(default_factory=Targets)
    horizon: Horizon = field(default_factory=Horizon)
    cards: tuple[str, ...] = ("runpod", "modal", "dedicated")


def _by_day(at: float) -> float:
    """Many by day, none at night."""
    hour = at % DAY_SECONDS / 3600
    return 0.12 * math.sin(math.pi * (hour - 8) / 12) if 8 <= hour < 20 else 0.0


KINDS: Mapping[str, Kind] = {
    one.name: one
    for one in (
        Kind(
            name="bursty",
            says="a chatbot: busy by day, silent at night",
            advice="flex workers that scale to zero, with a window of seconds where starts are cheap",
            trace=lambda: poisson(_by_day, 0.12, DAY_SECONDS, 4.0, seed=1),
            holds=Holds(gpus=("A100-80GB",)),
            starts=(0.5, 1.0, 2.0),
        ),
        Kind(
            name="latency-critical",
            says="a recommender: traffic all day, an answer within 100 ms",
            advice="workers that are always on, active or dedicated, sized for the peak",
            trace=lambda: poisson(lambda at: 12.0, 12.0, 600.0, 0.05, seed=2),
            holds=Holds(gpus=("A100-80GB",)),
            starts=(5.0,),
            targets=Targets(wait_p95=0.05, cold_share=0.001),
        ),
        Kind(
            name="prototyping",
            says="an afternoon of comparing models: some calls, then none",
            advice="flex workers: nothing is held, and what is not called costs nothing",
            trace=lambda: poisson(lambda at: 0.01, 0.01, 4 * 3600.0, 15.0, seed=3),
            holds=Holds(gpus=("A100-80GB",)),
            starts=(8.0,),
            horizon=Horizon(recurs=False),
        ),
        Kind(
            name="hybrid",
            says="the same app on two clouds and a machine of one's own",
            advice="one's own machine for what is always there, flex workers elsewhere for what comes beside it",
            trace=lambda: poisson(lambda at: 0.2, 0.2, 2 * 3600.0, 4.0, seed=4),
            holds=Holds(gpus=("H100",)),
            starts=(2.0,),
            cards=("runpod", "modal", "own-h100"),
        ),
        Kind(
            name="training",
            says="an 8-hour training run",
            advice="one worker that is on for the length of it, charged by the second: no least term, and nothing idles",
            trace=lambda: Trace([0.0], [8 * 3600.0]),
            holds=Holds(cpu_millis=8000, memory_mib=65536, gpus=("H100",)),
            starts=(60.0,),
            horizon=Horizon(recurs=False),
        ),
    )
}
"""The five classes, by name."""


def plan_for(kind: Kind, cards: Mapping[str, Card]) -> Plan:
    """The plan of a class's own trace."""
    load = Workload(
        trace=kind.trace(), holds=kind.holds, starts=kind.starts, targets=kind.targets, horizon=kind.horizon
    )
    return make_plan(load, {name: cards[name] for name in kind.cards})


def provider_for(matters: str, cards: Mapping[str, Card], gpu: str) -> tuple[str, str]:
    """Which provider, for what matters most, and why in a sentence."""
    priced = sorted(
        (rate.flex, card.name, card.key)
        for card in cards.values()
        if not card.is_reserved
        and not card.is_assumed
        and (rate := card.gpu(gpu)) is not None
        and rate.flex is not None
    )
    cheapest = f"{priced[0][1]}, at {float(priced[0][0]) / 1e9:g} $ an hour" if priced else "nobody publishes one"
    return {
        "cost": (priced[0][2] if priced else "machine", f"the least price of a {gpu} is that of {cheapest}"),
        "latency": ("machine", "no start is quicker than a fork on a machine where the template is there already"),
        "portability": ("machine", "the same app runs here, on any Linux machine, and behind five providers' own APIs"),
        "existing models": ("replicate", "it has a library of models that are ready to be called"),
        "team skill": ("modal", "all of it is Python, without YAML; relight reads the same programs"),
    }[matters]
