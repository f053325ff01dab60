"""Circles of calls that wait for one another, by example and against a simulation that tries everything."""

from __future__ import annotations

from collections.abc import Collection

from hypothesis import given, settings
from hypothesis import strategies as st

from relight.scheduler.deadlock import Line, Picture, Runner, Stuck, Wait, find_deadlocks
from relight.scheduler.queue import FunctionKey

F, G = FunctionKey("version-1", "f"), FunctionKey("version-1", "g")


def picture(*parts: Runner | Line, room: bool = False, leavers: Collection[str] = ()) -> Picture:
    return Picture(
        runners=[one for one in parts if isinstance(one, Runner)],
        lines=[one for one in parts if isinstance(one, Line)],
        fits=lambda key, gone: room,
        leavers=leavers,
    )


def full(key: FunctionKey, *calls: str, workers: tuple[str, ...], at_most: int = 1) -> Line:
    return Line(key=key, calls=calls, workers=workers, max_workers=at_most)


def waits(call: str, key: FunctionKey, worker: str, *calls: str, needs_all: bool = True) -> Runner:
    return Runner(call=call, key=key, worker=worker, waits=(Wait(calls=calls, needs_all=needs_all),))


def ended(found: tuple[Stuck, ...]) -> list[str]:
    return sorted(call for one in found for call, _ in one.calls)


def test_a_call_that_waits_for_another_of_its_own_full_function_is_stuck() -> None:
    found = find_deadlocks(picture(waits("a", F, "w1", "b"), full(F, "b", workers=("w1",))))

    assert ended(found) == ["b"]
    assert found[0].failure.code == "deadlock"
    assert found[0].failure.message == (
        "cannot start f: its only worker runs a call that waits for one that cannot start either (max_workers=1): "
        "a (f) waits for b; raise max_workers= of f, call it as a plain function there, or spawn it instead of waiting"
    )


def test_a_circle_over_two_functions_is_broken_where_its_last_link_was_made() -> None:
    found = find_deadlocks(
        picture(
            waits("a", F, "w1", "b"), waits("b", G, "w2", "c"), full(F, "c", workers=("w1",)), full(G, workers=("w2",))
        )
    )

    assert ended(found) == ["c"]
    assert found[0].waiter == "b"


def test_a_worker_that_is_at_work_will_come_free() -> None:
    at_work = Runner(call="z", key=F, worker="w2")

    found = find_deadlocks(picture(waits("a", F, "w1", "b"), at_work, full(F, "b", workers=("w1", "w2"), at_most=2)))

    assert found == ()


def test_what_will_start_by_itself_is_not_stuck() -> None:
    line = Line(key=F, calls=("b",), workers=("w1",), max_workers=1, is_open=True)

    assert find_deadlocks(picture(waits("a", F, "w1", "b"), line)) == ()


def test_room_that_only_waiting_calls_hold_does_not_come() -> None:
    line = Line(key=G, calls=("b",), may_grow=True)

    found = find_deadlocks(picture(waits("a", F, "w1", "b"), line))

    assert ended(found) == ["b"]
    assert "all room on the nodes is held by calls that wait" in found[0].failure.message


def test_room_that_a_call_at_work_holds_will_come() -> None:
    asked: list[list[str]] = []

    def fits(key: FunctionKey, gone: frozenset[str]) -> bool:
        asked.append(sorted(gone))
        return "w2" in gone

    runners = [waits("a", F, "w1", "b"), Runner(call="z", key=F, worker="w2")]
    line = Line(key=G, calls=("b",), may_grow=True)

    found = find_deadlocks(Picture(runners=runners, lines=[line], fits=fits, leavers=("w3",)))

    assert found == ()
    assert asked[-1] == ["w2", "w3"]


def test_one_of_several_is_enough_where_one_is_waited_for() -> None:
    parts = (Runner(call="x", key=G, worker="w2"), full(F, "b", workers=("w1",)))

    assert find_deadlocks(picture(waits("a", F, "w1", "b", "x", needs_all=False), *parts)) == ()
    assert ended(find_deadlocks(picture(waits("a", F, "w1", "b", "x"), *parts))) == ["b"]


def test_only_as_many_calls_end_as_let_the_others_go_on() -> None:
    found = find_deadlocks(
        picture(
            waits("a", F, "w1", "c"), waits("b", F, "w2", "d"), full(F, "c", "d", "e", workers=("w1", "w2"), at_most=2)
        )
    )

    assert ended(found) == ["d"]


def test_calls_that_wait_for_what_has_ended_go_on() -> None:
    assert find_deadlocks(picture(waits("a", F, "w1", "gone"), full(F, "b", workers=("w1",)))) == ()


# -- against a simulation


@st.composite
def situations(draw: st.DrawFn) -> tuple[dict[str, tuple[int, tuple[Wait, ...]]], dict[str, int], list[int], int]:
    """Running calls with what they wait for, queued calls, how many workers each function may have, and room in all."""
    functions = draw(st.integers(1, 3))
    limits = draw(st.lists(st.integers(1, 3), min_size=functions, max_size=functions))
    names = [f"c{number}" for number in range(draw(st.integers(1, 7)))]
    cut = draw(st.integers(0, len(names)))
    queued = {name: draw(st.integers(0, functions - 1)) for name in names[cut:]}
    running: dict[str, tuple[int, tuple[Wait, ...]]] = {}
    free = list(limits)
    for name in names[:cut]:
        open_to = [number for number in range(functions) if free[number]]
        if not open_to:
            break
        function = draw(st.sampled_from(open_to))
        free[function] -= 1
        target = st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)
        wait = st.builds(lambda calls, needs_all: Wait(calls=tuple(calls), needs_all=needs_all), target, st.booleans())
        running[name] = (function, tuple(draw(st.lists(wait, max_size=2))))
    room = draw(st.integers(len(running), len(running) + 3))
    return running, queued, limits, room


def reachable_ends(
    running: dict[str, tuple[int, tuple[Wait, ...]]], queued: dict[str, int], limits: list[int], room: int
) -> set[str]:
    """Every call that ends in some course of events; a worker leaves with its call, and what starts waits for nothing."""
    waiting_for = {name: waits for name, (_, waits) in running.items()}
    function_of = {**{name: function for name, (function, _) in running.items()}, **queued}
    first = (frozenset(running), frozenset(queued))
    seen, todo, ends = {first}, [first], set[str]()
    while todo:
        now, later = todo.pop()
        here = set(now) | set(later)

        def is_over(wait: Wait, here: set[str] = here) -> bool:
            return (all if wait.needs_all else any)(call not in here for call in wait.calls)

        steps = []
        for call in now:
            if not waiting_for.get(call) or any(map(is_over, waiting_for[call])):
                ends.add(call)
                steps.append((now - {call}, later))
        for call in later:
            others = sum(function_of[one] == function_of[call] for one in now)
            if others < limits[function_of[call]] and len(now) < room:
                steps.append((now | {call}, later - {call}))
        for step in steps:
            if step not in seen:
                seen.add(step)
                todo.append(step)
    return ends


@given(situations())
@settings(max_examples=300, deadline=None)
def test_a_deadlock_is_said_exactly_where_no_course_of_events_leads_out(
    situation: tuple[dict[str, tuple[int, tuple[Wait, ...]]], dict[str, int], list[int], int],
) -> None:
    running, queued, limits, room = situation
    keys = [FunctionKey("version-1", f"f{number}") for number in range(len(limits))]
    runners = [
        Runner(call=name, key=keys[function], worker=f"w-{name}", waits=waits)
        for name, (function, waits) in running.items()
    ]
    lines = [
        Line(
            key=key,
            calls=tuple(call for call, function in queued.items() if function == number),
            workers=tuple(one.worker for one in runners if one.key == key),
            max_workers=limits[number],
            may_grow=sum(one.key == key for one in runners) < limits[number],
        )
        for number, key in enumerate(keys)
    ]

    def fits(key: FunctionKey, gone: frozenset[str]) -> bool:
        return len(runners) - len(gone) < room

    found = find_deadlocks(Picture(runners=runners, lines=lines, fits=fits))

    ends = reachable_ends(running, queued, limits, room)
    stuck = {
        name
        for name, (_, waits) in running.items()
        if name not in ends and any(call in queued and call not in ends for wait in waits for call in wait.calls)
    }
    assert bool(found) == bool(stuck)
    assert {one.waiter for one in found} <= stuck
    assert set(ended(found)).isdisjoint(ends)
