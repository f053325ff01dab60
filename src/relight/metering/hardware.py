"""A machine of one's own: what an hour of it costs, from its price, its life, its power, its keepers and how much of it is used.

    hour = (purchase ÷ hours of its life + kW × price of a kWh × what cooling adds + staff ÷ hours of a month) ÷ utilisation

An hour that nobody uses is paid too, so an hour that somebody uses costs so much more.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from relight.metering.money import NANOS, nanodollars

YEAR_HOURS = 8760
MONTH_HOURS = 730

_KEYS = (
    *("cores", "memory_gib", "purchase", "life_years", "watts", "kwh", "pue", "staff_per_month", "utilisation"),
    *("cpu_share", "memory_share", "gpu_share", "gpu", "gpus", "gpu_memory_gib"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A machine.  Money is nano-dollars; the shares say which part of its cost is whose, and add up to 1."""

    cores: int
    memory_gib: int
    purchase: Fraction
    life_years: Fraction
    watts: Fraction
    kwh: Fraction
    pue: Fraction
    staff_per_month: Fraction
    utilisation: Fraction
    cpu_share: Fraction
    memory_share: Fraction
    gpu_share: Fraction = Fraction(0)
    gpu: str = ""
    gpus: int = 0
    gpu_memory_gib: int | None = None

    @property
    def hour(self) -> Fraction:
        """What an hour that is used costs, the whole machine."""
        bought = self.purchase / (self.life_years * YEAR_HOURS)
        power = self.watts / 1000 * self.kwh * self.pue
        return (bought + power + self.staff_per_month / MONTH_HOURS) / self.utilisation


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """An hour of a core, of a GiB, and of a GPU (None: it has none), in nano-dollars."""

    cpu: Fraction
    memory: Fraction
    gpu: Fraction | None


def prices_of(machine: Hardware) -> Prices:
    """What the parts of a machine cost."""
    return Prices(
        cpu=machine.hour * machine.cpu_share / machine.cores,
        memory=machine.hour * machine.memory_share / machine.memory_gib,
        gpu=machine.hour * machine.gpu_share / machine.gpus if machine.gpus else None,
    )


def read_hardware(written: object) -> Hardware:
    """A machine as its card describes it.  Raises ValueError, KeyError."""
    if not isinstance(written, dict):
        raise ValueError("hardware is no table")
    strange = sorted(set(written) - set(_KEYS))
    if strange:
        raise ValueError(f"hardware has {', '.join(strange)}, which no machine has")

    def number(key: str, default: object = None) -> Fraction:
        return nanodollars(written[key] if default is None else written.get(key, default)) / NANOS

    machine = Hardware(
        cores=int(written["cores"]),
        memory_gib=int(written["memory_gib"]),
        purchase=number("purchase") * NANOS,
        life_years=number("life_years"),
        watts=number("watts"),
        kwh=number("kwh") * NANOS,
        pue=number("pue", 1),
        staff_per_month=number("staff_per_month", 0) * NANOS,
        utilisation=number("utilisation"),
        cpu_share=number("cpu_share"),
        memory_share=number("memory_share"),
        gpu_share=number("gpu_share", 0),
        gpu=str(written.get("gpu", "")),
        gpus=int(written.get("gpus", 0)),
        gpu_memory_gib=int(written["gpu_memory_gib"]) if "gpu_memory_gib" in written else None,
    )
    if machine.cpu_share + machine.memory_share + machine.gpu_share != 1:
        raise ValueError("cpu_share, memory_share and gpu_share do not add up to 1")
    if not 0 < machine.utilisation <= 1 or machine.life_years <= 0:
        raise ValueError("utilisation must be above 0 and at most 1, and life_years above 0")
    return machine
