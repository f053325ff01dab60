"""The checker finds each thing that must not happen, and nothing else."""

from __future__ import annotations

import pytest

from faults.history import History, What, check

S, A, R, V = What.SUBMITTED, What.ACKNOWLEDGED, What.STARTED, What.SEEN


def history(*events: tuple[What, float, str]) -> History:
    made = History()
    for what, at, value in events:
        made.add(what, "call-1", at, value=value, attempts=1 if what is V else 0)
    return made


def test_a_call_that_was_tried_twice_and_seen_twice_with_one_result_is_as_promised() -> None:
    assert check(history((S, 0, ""), (A, 1, ""), (R, 2, ""), (R, 3, ""), (V, 4, "x"), (V, 5, "x"))) == []


def test_a_call_that_was_never_acknowledged_may_be_lost() -> None:
    assert check(history((S, 0, ""))) == []


@pytest.mark.parametrize(
    ("events", "wrong"),
    [
        (((S, 0, ""), (A, 1, "")), "is lost"),
        (((A, 1, ""), (R, 2, ""), (V, 3, "x")), "never submitted"),
        (((S, 0, ""), (R, 1, ""), (V, 2, "x"), (V, 3, "y")), "2 different results"),
        (((S, 0, ""), (V, 2, "x")), "never started"),
        (((S, 0, ""), (R, 1, ""), (V, 2, "x"), (R, 3, "")), "started after its result"),
    ],
)
def test_each_broken_promise_is_found(events: tuple[tuple[What, float, str], ...], wrong: str) -> None:
    (found,) = check(history(*events))

    assert wrong in found


def test_more_attempts_than_starts_is_found() -> None:
    made = history((S, 0, ""), (R, 1, ""))
    made.add(V, "call-1", 2, value="x", attempts=3)

    assert check(made) == ["call-1 counts 3 attempts and started 1 times"]


@pytest.mark.parametrize("tokens", [[(1, 2), (1, 2)], [(1, 2), (1, 1)], [(2, 1), (1, 9)]])
def test_a_token_that_is_not_newer_than_the_one_before_is_found(tokens: list[tuple[int, int]]) -> None:
    made = history((S, 0, ""))
    for at, token in enumerate(tokens):
        made.add_start("call-1", at, token)

    assert check(made) == [f"call-1 was started with tokens that do not grow: {tokens}"]


def test_tokens_that_grow_over_epochs_are_as_promised_and_calls_do_not_share_them() -> None:
    made = history((S, 0, ""))
    made.add(S, "call-2", 0)
    for call, token in (("call-1", (1, 2)), ("call-2", (1, 1)), ("call-1", (2, 1))):
        made.add_start(call, 1, token)

    assert check(made) == []
