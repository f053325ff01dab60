"""`.map`: order, laziness, bounds, failures, and what happens to the rest."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from relight.protocol.calls import CallState
from relight.protocol.errors import InvalidRequest
from relight.sdk.mapping import WINDOW, MapOptions, Mapping, results
from relight.sdk.progress import showing
from relight.sdk.session import Callee, Session

F = Callee(function="f")


@pytest.fixture
def session(platform: Any) -> Session:
    platform.functions["f"] = lambda x: x * x
    return Session(platform.connection(), "app", "main", clock=platform, say=lambda _: None)


def mapped(session: Session, inputs: Any, **options: bool) -> Iterator[Any]:
    return results(Mapping(session, F, MapOptions(**options)), ((item,) for item in inputs))


def test_results_come_in_the_order_of_the_input(session: Session) -> None:
    assert list(mapped(session, range(2_500))) == [n * n for n in range(2_500)]


def test_results_may_come_as_they_end(session: Session) -> None:
    results = list(mapped(session, range(50), order_outputs=False))

    assert sorted(results) == [n * n for n in range(50)]
    assert results != sorted(results)


def test_nothing_in_nothing_out(session: Session) -> None:
    assert list(mapped(session, ())) == []


def test_an_endless_input_is_read_no_further_than_the_window(platform: Any, session: Session) -> None:
    read = itertools.count()
    results = mapped(session, read)

    assert [next(results) for _ in range(3_000)] == [n * n for n in range(3_000)]

    assert next(read) - 3_000 <= WINDOW
    assert platform.most_unfinished <= WINDOW


def test_a_window_that_is_full_waits(platform: Any, session: Session) -> None:
    platform.is_stuck = True
    read = itertools.count()

    class Enough(Exception):
        pass

    def work() -> None:
        raise Enough

    results = mapped(session, read)
    submitted = 0
    original = platform._wait

    def wait(query: Any) -> Any:
        nonlocal submitted
        if query.wait_seconds > 0:
            submitted = len(platform.calls)
            work()
        return original(query)

    platform._wait = wait
    with pytest.raises(Enough):
        next(results)

    assert submitted == WINDOW


def test_a_slow_input_is_sent_as_it_comes(platform: Any, session: Session) -> None:
    def slow() -> Iterator[int]:
        for n in range(5):
            platform.seconds += 1
            yield n

    results = mapped(session, slow())

    assert next(results) == 0
    assert len(platform.calls) == 1


def test_the_first_failure_is_raised_in_its_place_and_the_rest_is_cancelled(platform: Any, session: Session) -> None:
    platform.functions["f"] = lambda x: 1 // (x - 2)
    results = mapped(session, itertools.count())

    assert [next(results), next(results)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert all(view.state.is_final for view in platform.calls.values())


def test_failures_may_be_results(platform: Any, session: Session) -> None:
    platform.functions["f"] = lambda x: 1 // (x - 1)

    results = list(mapped(session, range(3), return_exceptions=True))

    assert [results[0], results[2]] == [-1, 1]
    assert isinstance(results[1], ZeroDivisionError)


def test_a_map_that_is_left_cancels_what_it_submitted(platform: Any, session: Session) -> None:
    results = mapped(session, range(300))
    next(results)
    platform.is_stuck = True
    next(results)

    results.close()  # type: ignore[attr-defined]  # it is a generator

    assert {view.state for view in platform.calls.values()} <= {CallState.SUCCEEDED, CallState.CANCELLED}


def test_a_server_that_restarts_in_the_middle_loses_and_doubles_nothing(platform: Any, session: Session) -> None:
    ran: list[int] = []
    platform.functions["f"] = lambda x: ran.append(x) or x
    results = mapped(session, range(1_500))
    got = []
    for number, result in enumerate(results):
        if number % 100 == 7:
            platform.faults = ["cut", "refused", "cut"]
        got.append(result)

    assert got == list(range(1_500))
    assert sorted(ran) == got


def test_an_input_that_raises_ends_the_map(platform: Any, session: Session) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("no more lamps")

    with pytest.raises(LookupError, match="no more lamps"):
        list(mapped(session, broken()))


class Watcher:
    """Keeps what it is told of maps."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def begin(self, what: str) -> Watcher:
        self.told.append(what)
        return self

    def tell(self, submitted: int, done: int, total: int | None) -> None:
        self.told.append((submitted, done, total))

    def end(self) -> None:
        self.told.append("end")


def test_whoever_shows_maps_is_told_how_far_each_has_come(session: Session) -> None:
    watcher = Watcher()

    with showing(watcher):
        assert len(list(mapped(session, range(2_500)))) == 2_500

    assert (watcher.told[0], watcher.told[-1]) == ("f", "end")
    steps = [step for step in watcher.told if isinstance(step, tuple)]
    assert steps[-1] == (2_500, 2_500, 2_500)
    assert steps[0][2] is None
    assert all(before[1] <= after[1] for before, after in itertools.pairwise(steps))


def test_a_map_that_is_left_is_shown_no_more(session: Session) -> None:
    watcher = Watcher()

    with showing(watcher):
        results = mapped(session, itertools.count())
        next(results)
        results.close()

    assert watcher.told[-1] == "end"


def test_calls_that_the_server_refuses_raise_what_it_says(platform: Any, session: Session) -> None:
    def refuse(_message: Any) -> Any:
        raise InvalidRequest("cannot call f for what it returns: it yields; iterate over it")

    platform._submit = refuse

    with pytest.raises(InvalidRequest, match="it yields; iterate over it"):
        list(mapped(session, range(3)))
