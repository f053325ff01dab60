"""The checker of the stress says what is wrong, and nothing of what is as promised."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from faults.witness import Asked, Kept, Run, check_call, witness

ASKED = Asked(result=9, seen=[9, 9])
KEPT = Kept(state="succeeded", code="", message="", charged=1, ended=10.0, outcomes=("succeeded",))
RUNS = [Run(began=1.0, ended=2.0)]
THRICE = [Run(began=float(n), ended=n + 0.5) for n in range(3)]
KILLED = Run(began=0.5)
CANCELLED = replace(KEPT, state="cancelled", code="cancelled", charged=0, outcomes=())
RAISED = replace(KEPT, state="failed", code="function_failed", charged=3, outcomes=("retried", "retried", "failed"))
LOST = replace(KEPT, state="failed", code="worker_lost", charged=4, outcomes=("lease_lost",) * 3 + ("failed",))


def asked(result: object, *seen: object, retries: int = 0, is_cancelled: bool = False) -> Asked:
    return Asked(result=result, seen=list(seen), retries=retries, is_cancelled=is_cancelled)


@pytest.mark.parametrize(
    ("what", "kept", "runs"),
    [
        (ASKED, KEPT, RUNS),
        (ASKED, replace(KEPT, outcomes=("lease_lost", "succeeded")), RUNS),
        (ASKED, replace(KEPT, charged=2, outcomes=("lease_lost", "succeeded")), [KILLED, *RUNS]),
        (asked(9, "cancelled", is_cancelled=True), CANCELLED, []),
        (asked(9, "cancelled", is_cancelled=True), replace(CANCELLED, charged=1, outcomes=("cancelled",)), RUNS),
        (asked(9, 9, is_cancelled=True), KEPT, RUNS),
        (asked(None, "function_failed", retries=2), RAISED, THRICE),
        (asked(9, "worker_lost"), LOST, [KILLED] * 4),
    ],
)
def test_what_delivery_allows_is_not_held_against_it(what: Asked, kept: Kept, runs: list[Run]) -> None:
    assert check_call(what, kept, runs) == []


@pytest.mark.parametrize(
    ("what", "kept", "runs", "why"),
    [
        (ASKED, replace(KEPT, state="running", outcomes=("",)), RUNS, "never ended"),
        (asked(9, 9, "worker_lost"), KEPT, RUNS, r"kept as 9, and was seen as \[9, 'worker_lost'\]"),
        (asked(9, 8), KEPT, RUNS, "kept as 9, and was seen as"),
        (asked(None), KEPT, RUNS, "was to raise"),
        (asked(9, "cancelled"), CANCELLED, [], "nobody cancelled it"),
        (asked(9, "function_failed"), RAISED, THRICE, "failed and was not to"),
        (asked(9, "worker_lost"), replace(LOST, charged=2, outcomes=("failed",)), RUNS, "failed and was not to"),
        (ASKED, replace(KEPT, state="expired", code="x", outcomes=("expired",)), [], "all the time there is"),
        (ASKED, KEPT, [KILLED, *RUNS], "ran 2 times, and 1 of its tries"),
        (asked(9, "cancelled", is_cancelled=True), CANCELLED, RUNS, "ran 1 times, and 0"),
        (ASKED, KEPT, [], "never ran"),
        (
            asked(9, "cancelled", is_cancelled=True),
            replace(CANCELLED, charged=1, outcomes=("cancelled",), message="it had not begun"),
            RUNS,
            "is said not to have begun",
        ),
        (ASKED, replace(KEPT, charged=2), [*RUNS, Run(began=10.1)], "begun after its end"),
        (ASKED, replace(KEPT, charged=2), [*RUNS, Run(began=1.5)], "at the same time"),
        (ASKED, replace(KEPT, outcomes=("succeeded", "succeeded")), RUNS, "its tries ended as"),
        (ASKED, replace(KEPT, outcomes=("failed",)), RUNS, "its tries ended as"),
        (asked(None, "function_failed", retries=1), RAISED, THRICE, "tried again 2 times after it raised"),
        (asked(None, "function_failed", retries=3), RAISED, THRICE, "tried again 2 times only, of 3"),
    ],
)
def test_what_delivery_does_not_allow_is_said(what: Asked, kept: Kept, runs: list[Run], why: str) -> None:
    assert re.search(why, "; ".join(check_call(what, kept, runs)))


def test_a_run_that_a_server_had_no_time_to_keep_is_not_held_against_it() -> None:
    runs = [Run(began=0.2, ended=0.3), *RUNS]

    assert check_call(ASKED, KEPT, runs, [0.4]) == []
    assert check_call(ASKED, KEPT, runs, [-0.4]) != []
    assert check_call(ASKED, KEPT, runs, [3.0]) != []


def test_the_witness_tells_runs_by_their_call_the_earliest_first() -> None:
    with witness() as heard:
        for datagram in ("began call-1 b 5.0", "began call-1 a 1.0", "ended call-1 a 2.0", "began call-2 c 3.0"):
            heard.hear(datagram)

    assert heard.runs("call-1") == [Run(began=1.0, ended=2.0), Run(began=5.0)]
    assert heard.runs("call-3") == []
