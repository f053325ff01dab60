"""What was used, priced: pure, one line for each thing that costs.

A line is rounded to the nano-dollar once, and a price is the sum of its lines.  What a worker used is priced as a whole, from
its first moment to its last: the posting of a stretch is the price up to its end less the price up to its beginning, so a
life costs the same however often it was sealed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from relight.metering.cards import Card
from relight.metering.money import HOUR_US, whole
from relight.protocol.usage import StateTimes
from relight.protocol.workers import WorkerKind

GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What one worker used.  `cpu_millis` are thousandths of a core; `gpus` are kinds, one for each GPU it holds, of each of
    which `gpu_micros` millionths are its own.
    """

    kind: WorkerKind = WorkerKind.FLEX
    times: StateTimes = ()
    cpu_millis: int = 0
    memory_mib: int = 0
    gpus: tuple[str, ...] = ()
    gpu_micros: int = 1_000_000
    calls: int = 0
    egress_bytes: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that costs: how much of it, and what for; None where the card does not know its price."""

    what: str
    quantity: str
    nanos: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The lines, and their sum: None where one of them is unknown.  `billed_us` is the time that was charged."""

    lines: tuple[Line, ...]
    billed_us: int

    @property
    def nanos(self) -> int | None:
        """What it costs."""
        return None if self.unknown else self.known_nanos

    @property
    def known_nanos(self) -> int:
        """What the lines with a price cost: all of it, or the least that it can."""
        return sum(line.nanos for line in self.lines if line.nanos is not None)

    @property
    def unknown(self) -> tuple[str, ...]:
        """What the card has no price for."""
        return tuple(line.what for line in self.lines if line.nanos is None)


def price(card: Card, use: Use) -> Price:
    """What a use costs on a card."""
    return price_billed(card, use, card.billed_us(use.kind, use.times))


def price_billed(card: Card, use: Use, billed_us: int) -> Price:
    """The same, for workers alike whose time to be charged is `billed_us` together."""
    hours = Fraction(billed_us, HOUR_US)
    seconds = f"{billed_us / 10**6:,.6f} s"
    lines = []
    if hours and not (card.includes_cpu and use.gpus):
        lines += _processor(card, use, hours, seconds)
    for kind, count in Counter(use.gpus).items() if hours else ():
        rate = card.gpu(kind)
        amount = rate.rate(use.kind) if rate is not None else None
        held = Fraction(count * use.gpu_micros, 10**6)
        lines.append(_line(f"{float(held):g} × {kind}", seconds, amount, hours * held))
    for what, count, per, rate_each in (
        ("calls", use.calls, 1, card.call),
        ("egress", use.egress_bytes, GIB, card.egress),
        ("tokens in", use.tokens_in, 10**6, card.tokens_in),
        ("tokens out", use.tokens_out, 10**6, card.tokens_out),
    ):
        if count and not (what != "egress" and rate_each is None):  # who names no price for these asks for time alone
            lines.append(_line(what, f"{count:,}", rate_each, Fraction(count, per)))
    return Price(lines=tuple(lines), billed_us=billed_us)


def _processor(card: Card, use: Use, hours: Fraction, seconds: str) -> list[Line]:
    """CPU and memory."""
    cores, gib = Fraction(use.cpu_millis, 1000), Fraction(use.memory_mib, 1024)
    return [
        _line(f"{float(cores):g} cores", seconds, card.cpu, hours * cores),
        _line(f"{float(gib):g} GiB", seconds, card.memory, hours * gib),
    ]


def _line(what: str, quantity: str, rate: Fraction | None, many: Fraction) -> Line:
    return Line(what=what, quantity=quantity, nanos=None if rate is None else whole(rate * many))
