"""Each reason for which a call may wait, told of a call in a system that is in that state."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import relight
from relight.metering.budgets import Budget
from relight.protocol.calls import PENDING_REASONS
from relight.protocol.exits import WorkerExit
from relight.protocol.manifest import Queueing, RateLimit, Resources, Scaling
from relight.protocol.payload import Payload
from relight.protocol.workers import WorkerState
from relight.scheduler.brake import START_ATTEMPTS
from relight.scheduler.deadlock import Wait
from relight.scheduler.placement import Quota
from relight.scheduler.queue import FunctionKey, WaitingCall
from relight.scheduler.state import Tuning
from relight.scheduler.succession import REASON
from relight.scheduler.waits import LOOK_SECONDS
from scheduled import World

NO_REASONS = frozenset({"signal", "killed", "read"})
"""How workers end, and a piece of an error: other text of that form."""

Reached = tuple[World, str]
"""A system, and the reason of the call that waits in it."""


def why(world: World, call: str) -> Reached:
    return world, world.scheduler.why_waiting(call, world.key)


def one_more(world: World, **more: object) -> None:
    """A call that is not like the others."""
    payload = Payload(format="json", data=b"1")
    world.scheduler.submit([WaitingCall(id="x", workspace="default", key=world.key, payload=payload, **more)])  # type: ignore[arg-type]  # shorthand


def next_in_line() -> Reached:
    """Its calls are short: the one worker comes to this one in a moment."""
    world = World()
    world.node()
    world.submit("first")
    world.ready()
    world.end(*world.runs(), seconds=0.004)
    world.submit("a", "b", "x")
    return why(world, "x")


def being_started() -> Reached:
    world = World()
    world.node()
    world.submit("x")
    return why(world, "x")


def at_the_ceiling() -> Reached:
    world = World(scaling=Scaling(max_workers=1))
    world.node()
    world.submit("a")
    world.ready()
    world.submit("x")
    return why(world, "x")


def without_room() -> Reached:
    world = World(resources=Resources(cpu=2.0))
    world.node()
    world.submit("a")
    world.ready()
    world.submit("x")
    return why(world, "x")


def without_a_node() -> Reached:
    world = World()
    world.submit("x")
    return why(world, "x")


def after_failed_starts() -> Reached:
    world = World()
    world.node()
    world.submit("x")
    (worker,) = world.started()
    world.report(worker, WorkerState.GONE, exit=WorkerExit(reason="exited: 1"))
    return why(world, "x")


def above_its_rate() -> Reached:
    world = World(queue=Queueing(rate_limit=RateLimit(calls=1, seconds=60.0)))
    world.node()
    world.submit("a", "x")
    return why(world, "x")


def over_the_quota() -> Reached:
    world = World(quota=Quota(workers=1))
    world.node()
    world.submit("a")
    world.ready()
    world.submit("x")
    return why(world, "x")


def behind_its_key() -> Reached:
    world = World()
    world.node()
    payload = Payload(format="json", data=b"1")
    for name in ("a", "x"):
        call = WaitingCall(id=name, workspace="default", key=world.key, payload=payload, order_key="user-7")
        world.scheduler.submit([call])
    return why(world, "x")


def tried_again_later() -> Reached:
    world = World()
    world.node()
    one_more(world, attempts=1, not_before=world.clock.time + 5.0)
    return why(world, "x")


def asked_for_later() -> Reached:
    world = World()
    world.node()
    one_more(world, not_before=world.clock.time + 5.0)
    return why(world, "x")


def paused() -> Reached:
    world = World()
    world.node()
    world.tunings["f"] = Tuning(scaling=Scaling(), queue=Queueing(), is_paused=True)
    world.scheduler.retune()
    world.submit("x")
    return why(world, "x")


def in_a_circle() -> Reached:
    """The only worker's call waits for one that waits for the only worker."""
    world = World(scaling=Scaling(max_workers=1))
    world.node()
    world.submit("a")
    world.ready()
    world.submit("x")
    world.scheduler.wait_begins("a", Wait(calls=("x",)))
    world.advance(LOOK_SECONDS)
    return why(world, "x")


def over_budget() -> Reached:
    world = World()
    world.node()
    reason = Budget(nanos=10).reason(11, "app 'a'")
    world.scheduler.blocks.set({("default", "a"): reason})
    world.submit("x")
    return why(world, "x")


def before_the_one_before_is_gone() -> Reached:
    world = World()
    world.node()
    world.submit("a")
    world.ready()
    function = world.scheduler.function(world.key)
    assert function is not None
    before, world.key = world.key, FunctionKey("v-2", "f")
    world.scheduler.serve_version("v-2", is_alone=True)
    world.scheduler.add_function(world.key, replace(function.spec, version="v-2"))
    world.scheduler.replace_version(before.version, "v-2")
    world.submit("x")
    return why(world, "x")


STATES: dict[str, Callable[[], Reached]] = {
    "no_worker": next_in_line,
    "starting": being_started,
    "at_max_workers": at_the_ceiling,
    "no_capacity": without_room,
    "no_node": without_a_node,
    "crash_loop": after_failed_starts,
    "rate_limited": above_its_rate,
    "quota": over_the_quota,
    "behind_key": behind_its_key,
    "retry_backoff": tried_again_later,
    "not_before": asked_for_later,
    "paused": paused,
    "budget": over_budget,
    "replacing": before_the_one_before_is_gone,
    "deadlock": in_a_circle,
}


def test_every_reason_there_is_has_a_state_here() -> None:
    assert STATES.keys() == PENDING_REASONS.keys()


def test_every_reason_that_the_code_can_give_is_in_the_table() -> None:
    """What is returned as a reason begins, in the source, with `"code: ` or `"code:`."""
    source = Path(relight.__file__).parent
    rooms = ("scheduler", "metering/budgets.py")
    files = [file for room in rooms for file in (source / room, *(source / room).glob("*.py")) if file.suffix == ".py"]
    given = {code for file in files for code in re.findall(r'f?"([a-z]+(?:_[a-z]+)*):[ {a-z]', file.read_text())}
    given |= {REASON}

    assert given - NO_REASONS == PENDING_REASONS.keys()


@pytest.mark.parametrize("reason", STATES)
def test_a_call_that_waits_says_why(reason: str) -> None:
    _, said = STATES[reason]()

    assert said.partition(":")[0] == reason
    assert said.partition(": ")[2], f"{said!r} has no sentence"


def test_what_ends_after_too_many_failed_starts_is_ended_and_not_told_to_wait() -> None:
    world = World()
    world.node()
    world.submit("x")
    for _ in range(START_ATTEMPTS):
        (worker,) = world.started()
        world.report(worker, WorkerState.GONE, exit=WorkerExit(reason="exited: 1"))
        world.advance(60.0)

    assert [call for call, _ in world.failed] == ["x"]
