"""What a function's history says of it: when calls came and how long they ran, what its workers hold, how they started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relight.cli.rates import rates_folder
from relight.cli.tables import number, objects
from relight.clock import SystemClock
from relight.metering.cards import Card, find_card, load_cards
from relight.planner.costs import Holds
from relight.planner.traces import Trace, trace_of
from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import Json, Resources
from relight.sdk.connection import Connection
from relight.sdk.requests import query, quoted

PAGE = 1000
MOST_CALLS = 100_000
"""No more of a function's history than this is planned by."""

WARM_START = 0.005
"""What a start takes where none was measured yet: a fork of a template, in seconds."""


SMALL_CPU_MILLIS, SMALL_MEMORY_MIB = 125, 128
"""What a worker holds that asks for nothing, as the scheduler places it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A function, and the environment that is looked at; "" is all of them."""

    app: str
    function: str
    environment: str = ""

    def __str__(self) -> str:
        return f"{self.app}/{self.function}"

    @property
    def fields(self) -> dict[str, str | int]:
        """As a query asks for it."""
        named: dict[str, str | int] = {"app": self.app, "function": self.function}
        return named | ({"environment": self.environment} if self.environment else {})

    def path(self, rest: str = "") -> str:
        """Where it is, in the environment it is deployed to."""
        where = query({"environment": self.environment}) if self.environment else ""
        return f"/v1/apps/{quoted(self.app)}/functions/{quoted(self.function)}{rest}{where}"


def name_of(what: str, environment: str = "") -> Name:
    """APP/FUNCTION, read.  Raises InvalidRequest where no function is named."""
    app, _, function = what.partition("/")
    if not function:
        raise InvalidRequest("cannot plan: nothing says for what; name APP/FUNCTION, or a --trace file")
    return Name(app=app, function=function, environment=environment)


def history(connection: Connection, name: Name, since: float = 0.0) -> Trace:
    """When calls came, and how long they ran; those that began and ended."""
    calls: list[tuple[float, float]] = []
    asked = name.fields | {"limit": PAGE} | ({"since": f"{since:.3f}"} if since else {})
    before = ""
    while len(calls) < MOST_CALLS:
        page = objects(connection.json("GET", f"/v1/calls{query({**asked, 'before': before})}"), "calls")
        begun = [call for call in page if call["started_at"] is not None and call["ended_at"] is not None]
        calls += [(number(one["submitted_at"]), number(one["ended_at"]) - number(one["started_at"])) for one in begun]
        if len(page) < PAGE:
            break
        before = str(page[-1]["id"])
    return trace_of(calls)


def holds_of(function: Json, gpu: str = "") -> Holds:
    """What a worker of a function holds, as it is deployed; with another GPU where one is named."""
    resources = function["resources"] if isinstance(function, dict) else {}
    assert isinstance(resources, dict)
    asked = objects(resources, "gpu")
    kinds = (gpu.upper(),) if gpu else (str(asked[0]["kind"]),) * int(number(asked[0]["count"])) if asked else ()
    cpu, memory = resources.get("cpu"), resources.get("memory_mib")
    return _holds(None if cpu is None else number(cpu), None if memory is None else int(number(memory)), kinds)


def holds_for(resources: Resources) -> Holds:
    """The same of what a function asks for before it is deployed."""
    gpu = next(iter(resources.gpu), None)
    return _holds(resources.cpu, resources.memory_mib, (gpu.kind,) * gpu.count if gpu is not None else ())


def _holds(cpu: float | None, memory_mib: int | None, gpus: tuple[str, ...]) -> Holds:
    return Holds(
        cpu_millis=SMALL_CPU_MILLIS if cpu is None else round(cpu * 1000),
        memory_mib=SMALL_MEMORY_MIB if memory_mib is None else memory_mib,
        gpus=gpus,
    )


def measured_starts(connection: Connection, name: Name) -> tuple[float, ...]:
    """The median of each level, as often as it was."""
    groups = objects(connection.json("GET", f"/v1/starts/summary{query(name.fields)}"), "groups")
    starts = [number(group["p50"]) for group in groups for _ in range(min(100, int(number(group["count"]))))]
    return tuple(starts) or (WARM_START,)


def card_in_force(connection: Connection) -> str:
    """The rate card that the server prices by."""
    answer = connection.json("GET", f"/v1/costs{query({'since': f'{SystemClock().now():.3f}'})}")
    return str(answer["card"]) if isinstance(answer, dict) else ""


def every_card() -> dict[str, Card]:
    """The cards that come with relight, and the user's own."""
    return load_cards(rates_folder())


def chosen_cards(names: Sequence[str]) -> dict[str, Card]:
    """The cards that are named; else all but those of assumed hardware, which is nobody's machine."""
    cards = every_card()
    if names:
        return {name: find_card(cards, name) for name in names}
    return {name: card for name, card in cards.items() if not (card.is_assumed and card.hardware)}
