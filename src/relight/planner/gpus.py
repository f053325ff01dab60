"""Which GPU: by what a model needs, by what each costs on the cards, and by what it does for that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from relight.metering.cards import Card, GpuRate
from relight.metering.money import whole

BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5}
"""Bytes of one parameter."""

OVERHEAD = 1.2
"""What a model needs beside its weights: activations and the cache of keys and values, for a few requests at once."""

SPLIT_GIB = 80
"""A model is split over devices of so much memory, and not over smaller ones: those have no quick way to each other."""

_GB_PER_GIB = 1.073741824


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """So many of one GPU on one card.  `per_work` is nano-dollars an hour and TFLOP: what throughput costs there."""

    gpu: str
    count: int
    card: str
    hour: int
    per_work: float | None
    note: str = ""


def memory_gb(billions: float, precision: str = "fp16") -> float:
    """What the weights of a model take, in GB: 70 billion parameters in fp16 are 140."""
    return billions * BYTES[precision]


def choose_gpus(
    billions: float, cards: Mapping[str, Card], precision: str = "fp16", *, wants_throughput: bool = False
) -> list[Choice]:
    """The GPUs that hold a model, best first: the least an hour, or the least for what they do (`wants_throughput`)."""
    choices = [
        choice
        for card in cards.values()
        for rate in card.gpus
        if (choice := _choice(card, rate, memory_gb(billions, precision) * OVERHEAD)) is not None
    ]
    if wants_throughput:
        return sorted(choices, key=lambda one: (one.per_work is None, one.per_work or 0, one.hour))
    return sorted(choices, key=lambda one: (one.hour, one.count))


def advise(billions: float, precision: str = "fp16") -> str:
    """What to know of a model of that size, in a sentence."""
    weights = memory_gb(billions, precision)
    needed = math.ceil(weights * OVERHEAD / (80 * _GB_PER_GIB))
    if needed > 1:
        return (
            f"{billions:g}B in {precision} is {weights:g} GB of weights: take {needed} devices of 80 GB, or quantise "
            f"(int4: {memory_gb(billions, 'int4'):g} GB)"
        )
    return f"{billions:g}B in {precision} is {weights:g} GB of weights: one device is enough"


def _choice(card: Card, rate: GpuRate, needed_gb: float) -> Choice | None:
    if rate.flex is None or rate.memory_gib is None:
        return None
    count = max(1, math.ceil(needed_gb / (rate.memory_gib * _GB_PER_GIB)))
    if count > 1 and rate.memory_gib < SPLIT_GIB:
        return None
    hour = whole(rate.flex * count)
    per_work = hour / (rate.fp16_tflops * count) if rate.fp16_tflops else None
    return Choice(gpu=rate.kind, count=count, card=card.key, hour=hour, per_work=per_work)
