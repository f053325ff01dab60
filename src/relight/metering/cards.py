"""Rate cards: what a provider, or a machine of one's own, charges for what.

A card is a TOML file with a date and a source.  A price that it does not name is unknown: it is never guessed, and a sum
that would need it is unknown too.  Where sources read a price in two ways the card carries both, as `readings`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from importlib import resources
from pathlib import Path

import tomllib

from relight.metering.hardware import Hardware, prices_of, read_hardware
from relight.metering.money import nanodollars, up_to
from relight.metering.terms import Terms, read_terms
from relight.protocol.errors import InvalidRequest, NotFound
from relight.protocol.workers import STATES, WorkerKind, WorkerState

DEFAULT_CARD = "machine"
"""The card that prices what runs here, until another is chosen."""

QUANTA = {"microsecond": 1, "millisecond": 1000, "second": 10**6, "minute": 60 * 10**6, "hour": 3600 * 10**6}
"""What billed time is rounded up to, in microseconds."""

_KEYS = frozenset(
    (
        *("id", "name", "dated", "source", "note", "is_assumed", "per", "minimum_seconds", "is_reserved"),
        *("bills_flex", "bills_active", "cpu_core_hour", "memory_gib_hour", "call", "egress_gib"),
        *("million_tokens_in", "million_tokens_out", "active_discount", "gpus", "regions", "readings", "reading"),
        *("hardware", "terms", "includes_cpu"),
    )
)
_GPU_KEYS = frozenset(("kind", "also", "memory_gib", "flex_hour", "active_hour", "fp16_tflops"))


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRate:
    """What one GPU costs, in nano-dollars an hour; None where the card does not say.

    `also` are other names that mean it.  `fp16_tflops` and `memory_gib` are its maker's, for choosing between GPUs.
    """

    kind: str
    also: tuple[str, ...] = ()
    memory_gib: int | None = None
    flex: Fraction | None = None
    active: Fraction | None = None
    fp16_tflops: int | None = None

    def rate(self, kind: WorkerKind) -> Fraction | None:
        """The price for a worker of that kind."""
        return self.active if kind is WorkerKind.ACTIVE else self.flex


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One rate card.  Prices are nano-dollars, None where unknown; time is rounded up to `quantum_us` once for each worker.

    `is_assumed`: the numbers are an example to be replaced by one's own.  `is_reserved`: capacity is held by the hour,
    whether it is used or not.  `includes_cpu`: CPU and memory come with a GPU, for its price.  `reading` says which of `readings` this is, "" where there is one only; the default has the card's plain name.
    """

    id: str
    name: str
    dated: date
    source: str
    note: str = ""
    is_assumed: bool = False
    is_reserved: bool = False
    includes_cpu: bool = False
    quantum_us: int = 1
    minimum_us: int = 0
    bills: Mapping[WorkerKind, frozenset[WorkerState]]
    cpu: Fraction | None = None
    memory: Fraction | None = None
    call: Fraction | None = None
    egress: Fraction | None = None
    tokens_in: Fraction | None = None
    tokens_out: Fraction | None = None
    active_discount: Fraction | None = None
    gpus: tuple[GpuRate, ...] = ()
    regions: Mapping[str, Fraction] = field(default_factory=dict)
    region: str = ""
    reading: str = ""
    readings: tuple[str, ...] = ()
    default_reading: str = ""
    terms: Terms = field(default_factory=Terms)
    hardware: Hardware | None = None

    @property
    def key(self) -> str:
        """How it is asked for; the region it is priced in is said behind it."""
        own = self.id if not self.reading or self.reading == self.default_reading else f"{self.id}@{self.reading}"
        return f"{own}/{self.region}" if self.region else own

    def gpu(self, kind: str) -> GpuRate | None:
        """The rate of a GPU, by its name or another that means it."""
        wanted = kind.upper()
        return next((one for one in self.gpus if wanted == one.kind or wanted in one.also), None)

    def billed_us(self, kind: WorkerKind, times: Iterable[tuple[WorkerState, int]]) -> int:
        """What of a worker's life is charged, rounded up as the card says; 0 stays 0."""
        states = self.bills[WorkerKind.FLEX if kind is WorkerKind.SHADOW else kind]
        billed = sum(microseconds for state, microseconds in times if state in states)
        return max(up_to(billed, self.quantum_us), self.minimum_us) if billed else 0

    def in_region(self, region: str) -> Card:
        """The card where its prices are those of a region.  Raises NotFound."""
        if region not in self.regions:
            known = ", ".join(sorted(self.regions)) or "no regions"
            what = "name one of those" if self.regions else "leave the region away, or name another card"
            raise NotFound(f"cannot price region {region!r} on card {self.id!r}: it has {known}; {what}")
        factor = self.regions[region]
        return replace(
            self,
            region=region,
            cpu=_times(self.cpu, factor),
            memory=_times(self.memory, factor),
            gpus=tuple(
                replace(gpu, flex=_times(gpu.flex, factor), active=_times(gpu.active, factor)) for gpu in self.gpus
            ),
        )


def read_card(text: str, where: str, reading: str = "") -> Card:
    """A card from its TOML.  Raises InvalidRequest, which names the key, when it is not one."""
    try:
        written = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"cannot read rate card {where}: {error}; see docs/costs.md") from error
    try:
        return _card(_as_read(written, reading))
    except (InvalidRequest, KeyError, TypeError, ValueError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise InvalidRequest(f"cannot read rate card {where}: {what}; see docs/costs.md") from error


def load_cards(folder: Path | None = None) -> dict[str, Card]:
    """Every card, by id: those that come with relight, then the `*.toml` of a folder, which may replace them.

    A reading that is not the default is there as `id@reading`.
    """
    shipped = sorted((resources.files("relight.metering") / "rates").iterdir(), key=lambda file: file.name)
    texts = [(file.name, file.read_text()) for file in shipped if file.name.endswith(".toml")]
    if folder is not None and folder.is_dir():
        texts += [(str(path), path.read_text()) for path in sorted(folder.glob("*.toml"))]
    cards: dict[str, Card] = {}
    for where, text in texts:
        card = read_card(text, where)
        cards[card.id] = card
        for reading in card.readings:
            if reading != card.reading:
                cards[f"{card.id}@{reading}"] = read_card(text, where, reading)
    return cards


def cards_against(cards: Mapping[str, Card], names: Iterable[str], region: str = "") -> list[Card]:
    """The cards of these names, `all` for every one; with a region those of `all` that have it.

    Raises NotFound for one that is not there, or has no such region.
    """
    if "all" not in names:
        found = [find_card(cards, name) for name in names]
        return [card.in_region(region) for card in found] if region else found
    if not region:
        return list(cards.values())
    there = [card.in_region(region) for card in cards.values() if region in card.regions]
    if not there:
        known = ", ".join(sorted({name for card in cards.values() for name in card.regions})) or "none"
        raise NotFound(f"cannot price region {region!r}: no rate card has it; they have {known}; name one of those")
    return there


def find_card(cards: Mapping[str, Card], name: str) -> Card:
    """A card by its id.  Raises NotFound, which names those there are."""
    if name not in cards:
        raise NotFound(f"cannot find rate card {name!r}: there are {', '.join(cards)}; name one, or write a TOML file")
    return cards[name]


def _as_read(written: dict[str, object], reading: str) -> dict[str, object]:
    """The keys of a card as one of its readings has them."""
    _refuse_unknown(written, _KEYS)
    readings = written.get("readings", {})
    if not isinstance(readings, dict):
        raise ValueError("readings is no table")
    chosen = reading or str(written.get("reading", ""))
    if chosen and chosen not in readings:
        raise ValueError(f"it has no reading {chosen!r}")
    changed = {key: value for key, value in readings.get(chosen, {}).items() if key != "says"}
    _refuse_unknown(changed, _KEYS)
    return {
        **written,
        **changed,
        "reading": chosen,
        "readings": tuple(readings),
        "default_reading": written.get("reading", ""),
    }


def _card(written: dict[str, object]) -> Card:
    discount = _fraction(written.get("active_discount"))
    hardware = read_hardware(written["hardware"]) if "hardware" in written else None
    own = prices_of(hardware) if hardware is not None else None
    gpus = tuple(_gpu(one, discount) for one in _list(written.get("gpus", [])))
    if own is not None and hardware is not None and hardware.gpu:
        gpus += (GpuRate(kind=hardware.gpu.upper(), flex=own.gpu, active=own.gpu, memory_gib=hardware.gpu_memory_gib),)
    dated = written["dated"]
    if not isinstance(dated, date):
        raise ValueError(f"dated={dated!r} is no date; write for example 2026-11-24")
    return Card(
        id=str(written["id"]),
        name=str(written["name"]),
        dated=dated,
        source=str(written["source"]),
        note=str(written.get("note", "")),
        is_assumed=bool(written.get("is_assumed", False)),
        is_reserved=bool(written.get("is_reserved", False)),
        includes_cpu=bool(written.get("includes_cpu", False)),
        quantum_us=_quantum(str(written.get("per", "microsecond"))),
        minimum_us=int(nanodollars(written.get("minimum_seconds", 0)) / 1000),
        bills={
            WorkerKind.FLEX: _states(written.get("bills_flex"), WorkerKind.FLEX),
            WorkerKind.ACTIVE: _states(written.get("bills_active"), WorkerKind.ACTIVE),
        },
        cpu=own.cpu if own is not None else _price(written.get("cpu_core_hour")),
        memory=own.memory if own is not None else _price(written.get("memory_gib_hour")),
        call=_price(written.get("call")),
        egress=_price(written.get("egress_gib")),
        tokens_in=_price(written.get("million_tokens_in")),
        tokens_out=_price(written.get("million_tokens_out")),
        active_discount=discount,
        gpus=gpus,
        regions={str(name): Fraction(factor) for name, factor in _table(written.get("regions", {})).items()},
        reading=str(written["reading"]),
        readings=tuple(str(one) for one in _list(written["readings"])),
        default_reading=str(written["default_reading"]),
        terms=read_terms(_table(written.get("terms", {}))),
        hardware=hardware,
    )


def _gpu(written: object, discount: Fraction | None) -> GpuRate:
    gpu = _table(written)
    _refuse_unknown(gpu, _GPU_KEYS)
    flex, active = _price(gpu.get("flex_hour")), _price(gpu.get("active_hour"))
    if active is None and flex is not None and discount is not None:
        active = flex * (1 - discount)
    return GpuRate(
        kind=str(gpu["kind"]).upper(),
        also=tuple(str(one).upper() for one in _list(gpu.get("also", []))),
        memory_gib=int(gpu["memory_gib"]) if "memory_gib" in gpu else None,
        flex=flex,
        active=active,
        fp16_tflops=int(gpu["fp16_tflops"]) if "fp16_tflops" in gpu else None,
    )


def _states(written: object, kind: WorkerKind) -> frozenset[WorkerState]:
    """The states that are billed: those of the one table, unless the card names its own."""
    if written is None:
        is_flex = kind is WorkerKind.FLEX
        return frozenset(
            state for state, rule in STATES.items() if (rule.billed_flex if is_flex else rule.billed_active)
        )
    return frozenset(WorkerState(str(one)) for one in _list(written))


def _quantum(per: str) -> int:
    if per not in QUANTA:
        raise ValueError(f"per={per!r} is none of {', '.join(QUANTA)}")
    return QUANTA[per]


def _price(written: object) -> Fraction | None:
    return None if written is None or written == "unknown" else nanodollars(written)


def _fraction(written: object) -> Fraction | None:
    return None if written is None else nanodollars(written) / 10**9


def _times(price: Fraction | None, factor: Fraction) -> Fraction | None:
    return None if price is None else price * factor


def _list(written: object) -> list[object]:
    if not isinstance(written, (list, tuple)):
        raise ValueError(f"{written!r} is no list")
    return list(written)


def _table(written: object) -> dict[str, Decimal]:
    """A table; its values are checked by whoever takes them."""
    if not isinstance(written, dict):
        raise ValueError(f"{written!r} is no table")
    return written


def _refuse_unknown(written: Mapping[str, object], known: frozenset[str]) -> None:
    strange = sorted(set(written) - known)
    if strange:
        raise ValueError(f"it has {', '.join(strange)}, which no card has")
