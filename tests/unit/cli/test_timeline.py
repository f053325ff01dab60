"""What happened to a call, step by step."""

from __future__ import annotations

from relight.cli.timeline import Life, Row, Step, timeline


def call(state: str, *, ended: float | None = None, reason: str = "", failure: Row | None = None) -> Row:
    return {
        "state": state,
        "submitted_at": 100.0,
        "ended_at": ended,
        "pending_reason": reason,
        "failure": failure,
    }


def attempt(number: int, started: float, ended: float | None = None, outcome: str = "", detail: str = "") -> Row:
    return {
        "number": number,
        "worker": f"w{number}",
        "node": "here",
        "started_at": started,
        "ended_at": ended,
        "outcome": outcome,
        "detail": detail,
    }


def interval(state: str, since: float, until: float | None, detail: str = "") -> Row:
    return {"worker": "w1", "state": state, "since": since, "until": until, "detail": detail}


def told(steps: list[Step]) -> list[tuple[int, str, float | None]]:
    return [(step.level, step.what, step.seconds) for step in steps]


def test_a_call_that_waits_is_one_step_with_its_reason() -> None:
    (step,) = timeline(call("queued", reason="no_capacity:gpu"), [], Life())

    assert (step.what, step.detail, step.seconds) == ("queued", "no_capacity:gpu", None)


def test_the_start_of_its_worker_is_part_of_its_wait() -> None:
    intervals = [
        interval("requested", 100.0, 100.5),
        interval("placing", 100.5, 101.0),
        interval("starting", 101.0, 103.0, "imports"),
        interval("ready", 103.0, 104.0),
        interval("busy", 104.0, 106.0),
    ]

    steps = timeline(call("succeeded", ended=106.0), [attempt(1, 104.0, 106.0, "succeeded")], Life(intervals=intervals))

    assert told(steps) == [
        (0, "queued", 4.0),
        (1, "requested", 0.5),
        (1, "placing", 0.5),
        (1, "starting", 2.0),
        (0, "attempt 1", 2.0),
        (0, "succeeded", 0.0),
    ]
    assert [step.detail for step in steps if step.detail] == ["imports", "w1 on here: succeeded"]


def test_a_worker_that_was_there_before_adds_nothing() -> None:
    intervals = [interval("starting", 10.0, 12.0), interval("idle", 12.0, 100.1), interval("busy", 100.1, 101.0)]

    steps = timeline(call("succeeded", ended=101.0), [attempt(1, 100.1, 101.0, "succeeded")], Life(intervals=intervals))

    assert [step.what for step in steps] == ["queued", "attempt 1", "succeeded"]


def test_each_attempt_is_told_with_how_it_ended_and_what_was_waited_between() -> None:
    attempts = [attempt(1, 101.0, 102.0, "lease_lost", "the node is gone\nlong ago"), attempt(2, 105.0, None)]

    steps = timeline(call("running"), attempts, Life(intervals=[interval("starting", 102.0, 104.0)]))

    assert told(steps) == [
        (0, "queued", 1.0),
        (0, "attempt 1", 1.0),
        (0, "queued", 3.0),
        (1, "starting", 2.0),
        (0, "attempt 2", None),
    ]
    assert steps[1].detail == "w1 on here: lease_lost, the node is gone"
    assert steps[-1].detail == "w2 on here: runs"


def test_a_call_that_was_never_begun_ends_out_of_its_queue() -> None:
    failure: Row = {"code": "cancelled", "message": "its app was stopped", "exception": "", "traceback": ""}

    steps = timeline(call("cancelled", ended=107.0, failure=failure), [], Life())

    assert told(steps) == [(0, "queued", 7.0), (0, "cancelled", 0.0)]
    assert steps[-1].detail == "its app was stopped"


def test_an_attempt_nobody_closed_ends_with_its_call() -> None:
    steps = timeline(call("failed", ended=103.0), [attempt(1, 101.0, None)], Life())

    assert steps[1].seconds == 2.0


def test_the_phases_of_a_start_stand_in_the_states_they_were_passed_in() -> None:
    intervals = [
        interval("placing", 100.0, 101.0),
        interval("pulling", 101.0, 103.0),
        interval("starting", 103.0, 104.0, "Python 3.11"),
        interval("ready", 104.0, 104.5),
    ]
    start: Row = {
        "level": "fetch",
        "why": "not_here: there was none",
        "phases": [
            {"name": "place", "seconds": 0.25},
            {"name": "fetch", "seconds": 2.0},
            {"name": "fork", "seconds": 1.0},
            {"name": "enter", "seconds": 0.00001},
        ],
    }
    ended = [attempt(1, 104.5, 106.0, "succeeded")]

    steps = timeline(call("succeeded", ended=106.0), ended, Life(intervals=intervals, start=start))

    assert [(step.level, step.what) for step in steps[:-2]] == [
        (0, "queued"),
        (1, "placing"),
        (2, "place"),
        (1, "pulling"),
        (2, "fetch"),
        (1, "starting"),
        (2, "fork"),
    ]
    assert steps[5].detail == "level 5 fetch (not_here: there was none), Python 3.11"
    phases = [step for step in steps if step.level == 2]
    assert [round(step.at, 3) for step in phases] == [100.75, 101.0, 103.0]
    assert phases[-1].until is not None
    assert round(phases[-1].until, 3) == 104.0


def test_the_start_of_a_worker_that_was_there_before_is_not_told() -> None:
    start: Row = {"level": "fork", "why": "", "phases": [{"name": "fork", "seconds": 2.0}]}
    life = Life(intervals=[interval("starting", 10.0, 12.0), interval("idle", 12.0, 100.1)], start=start)

    steps = timeline(call("succeeded", ended=101.0), [attempt(1, 100.1, 101.0, "succeeded")], life)

    assert [step.what for step in steps] == ["queued", "attempt 1", "succeeded"]
