"""How a worker ended, in words."""

from __future__ import annotations

import pickle

import pytest

from relight.protocol.errors import Failure, WorkerLost, error_of
from relight.protocol.exits import EXITS, WorkerExit


@pytest.mark.parametrize(
    ("ending", "how"),
    [
        (WorkerExit(reason="exited:3", code=3), "exited with code 3"),
        (WorkerExit(reason="signal:SIGSEGV", signal=11), "was killed by SIGSEGV"),
        (WorkerExit(reason="killed:protocol", signal=9), "was killed (protocol)"),
        (
            WorkerExit(reason="out_of_memory", signal=9, peak_memory_bytes=256 << 20),
            "ran out of memory (out_of_memory); it held 256 MiB",
        ),
        (WorkerExit(reason="exited:1", peak_memory_bytes=256 << 20), "exited with code 1"),
        (WorkerExit(reason="abducted:by whom"), "ended"),
    ],
)
def test_a_reason_is_said_as_a_sentence_goes_on(ending: WorkerExit, how: str) -> None:
    assert ending.how == how


@pytest.mark.parametrize("reason", EXITS)
def test_every_reason_has_advice(reason: str) -> None:
    assert WorkerExit(reason=reason).advice


def test_a_reason_of_a_newer_agent_counts_as_a_crash() -> None:
    assert WorkerExit(reason="abducted").is_crash
    assert WorkerExit(reason="abducted").is_own_fault


def test_who_was_evicted_is_charged_with_nothing_and_not_started_at_once_again_and_again() -> None:
    assert not WorkerExit(reason="evicted").is_own_fault
    assert WorkerExit(reason="evicted").is_crash


def test_an_error_knows_how_the_worker_ended_wherever_it_goes() -> None:
    ending = WorkerExit(reason="out_of_memory", signal=9, peak_memory_bytes=1, last_lines=("x",))

    error = pickle.loads(pickle.dumps(error_of(Failure(code="worker_lost", message="m", exit=ending))))

    assert isinstance(error, WorkerLost)
    assert error.exit == ending
    assert WorkerLost("m").exit is None
