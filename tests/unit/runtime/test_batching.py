"""When a batch begins, and what it is given, under a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from relight.runtime.batching import Gathering, Rule, apart, check_fit, together


@dataclass
class Timer:
    at: float
    act: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class Time:
    now: float = 0.0
    timers: list[Timer] = field(default_factory=list)

    def later(self, seconds: float, act: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.now + seconds, act))
        return self.timers[-1]

    def pass_to(self, moment: float) -> None:
        """Let what is due by then happen."""
        while due := [one for one in self.timers if one.at <= moment and not one.is_cancelled]:
            first = min(due, key=lambda one: one.at)
            first.is_cancelled = True
            self.now = first.at
            first.act()
        self.now = moment


def gathering(time: Time, *, size: int = 3, wait: float = 1.0, most: int = 1) -> tuple[Gathering[str], list[str]]:
    begun: list[str] = []

    def begin(calls: Sequence[str]) -> None:
        begun.append("".join(calls))

    rule = Rule(size=size, wait_seconds=wait, most=most)
    return Gathering(rule, begin, lambda: time.now, time.later), begun


def test_a_batch_begins_as_soon_as_it_is_whole() -> None:
    batches, begun = gathering(Time())

    for call in "abcd":
        batches.add(call)

    assert begun == ["abc"]


def test_one_that_is_not_whole_begins_when_its_first_has_waited_long_enough() -> None:
    time = Time()
    batches, begun = gathering(time)
    batches.add("a")
    time.pass_to(0.9)
    batches.add("b")
    before = list(begun)

    time.pass_to(1.0)

    assert (before, begun) == ([], ["ab"])


def test_while_one_runs_the_next_is_gathered_and_then_begins_at_once() -> None:
    time = Time()
    batches, begun = gathering(time)
    for call in "abcde":
        batches.add(call)
    time.pass_to(5.0)
    before = list(begun)

    batches.over()

    assert (before, begun) == (["abc"], ["abc", "de"])


def test_the_next_waits_for_company_when_the_last_ends_early() -> None:
    time = Time()
    batches, begun = gathering(time)
    for call in "abcd":
        batches.add(call)
    time.pass_to(0.5)

    batches.over()
    before = list(begun)
    time.pass_to(1.0)

    assert (before, begun) == (["abc"], ["abc", "d"])


def test_as_many_run_as_may() -> None:
    batches, begun = gathering(Time(), size=1, most=2)

    for call in "abc":
        batches.add(call)
    batches.over()

    assert begun == ["a", "b", "c"]


def test_one_that_waits_is_taken_out_and_one_that_runs_is_not() -> None:
    time = Time()
    batches, begun = gathering(time, size=2)
    for call in ("a", "b", "c"):
        batches.add(call)

    assert (batches.remove("c"), batches.remove("a")) == (True, False)
    batches.over()
    time.pass_to(10.0)
    assert begun == ["ab"]


def test_each_parameter_is_a_list_with_the_default_where_a_call_leaves_it_out() -> None:
    def f(x: object, /, y: object = 5, *, z: object = None) -> None: ...

    assert together(f, [((1,), {}), ((2, 3), {})]) == ([[1, 2]], {"y": [5, 3]})
    assert together(f, [((1,), {"z": 7}), ((2,), {})]) == ([[1, 2]], {"z": [7, None]})
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        check_fit(f, (), {})


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ([1], "batched and returned 1; return one for each call"),
        ("ab", "batched and returned a str; return a list"),
        (None, "batched and returned a NoneType; return a list"),
        ({1: 2, 3: 4}, "batched and returned a dict; return a list"),
    ],
)
def test_what_is_no_list_with_one_for_each_is_refused(returned: object, said: str) -> None:
    def f() -> None: ...

    with pytest.raises(ValueError, match=said):
        list(apart(f, returned, 2))

    assert list(apart(f, (1, 2), 2)) == [1, 2]
