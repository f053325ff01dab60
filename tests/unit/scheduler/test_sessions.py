"""Calls of a session go to the worker that served it."""

from __future__ import annotations

from relight.protocol.calls import Token
from relight.protocol.manifest import Concurrency, Scaling
from relight.protocol.payload import Payload
from relight.protocol.workers import WorkerExit, WorkerState
from relight.scheduler.queue import WaitingCall
from relight.scheduler.sessions import Sessions
from scheduled import World


def world(workers: int = 2, **more: object) -> World:
    made = World(scaling=Scaling(min_workers=workers, max_workers=workers), **more)
    made.node()
    made.ready(workers)
    return made


def submit(made: World, name: str, session: str = "s", *, is_strict: bool = False, last_worker: str = "") -> None:
    payload = Payload(format="json", data=b"1")
    made.scheduler.submit(
        [
            WaitingCall(
                id=name,
                workspace="default",
                key=made.key,
                payload=payload,
                session=session,
                is_strict=is_strict,
                last_worker=last_worker,
            )
        ]
    )


def run(made: World, name: str, session: str = "s", *, is_strict: bool = False) -> str:
    """Let a call run to its end; the worker that had it."""
    submit(made, name, session, is_strict=is_strict)
    worker = worker_of(made, name)
    end(made, name)
    return worker


def worker_of(made: World, name: str) -> str:
    lease = made.scheduler.lease(name)
    return "" if lease is None else lease.worker


def end(made: World, name: str) -> None:
    lease = made.scheduler.lease(name)
    assert lease is not None
    made.end((name, lease.token))


def gone(made: World, worker: str) -> None:
    made.report(worker, WorkerState.GONE, exit=WorkerExit(reason="signal:SIGKILL"))


def test_a_session_stays_with_its_worker_while_others_are_free() -> None:
    made = world(3)

    for session in ("a", "b"):
        first = run(made, f"{session}-1", session)
        for other in range(3):
            run(made, f"other-{session}-{other}", f"o{session}{other}")
        assert [run(made, f"{session}-{n}", session) for n in (2, 3)] == [first, first]


def test_a_soft_one_goes_on_elsewhere_when_its_worker_has_no_room_and_stays_there() -> None:
    made = world(2)
    submit(made, "first")
    first = worker_of(made, "first")

    submit(made, "second")
    second = worker_of(made, "second")
    end(made, "first")
    end(made, "second")

    assert second not in ("", first)
    assert run(made, "third") == second


def test_a_strict_one_waits_for_its_worker_and_lets_others_pass() -> None:
    made = world(2)
    submit(made, "first", is_strict=True)
    first = worker_of(made, "first")

    submit(made, "second", is_strict=True)
    submit(made, "other", "o")
    waiting = (worker_of(made, "second"), worker_of(made, "other"))
    end(made, "first")

    assert waiting[0] == ""
    assert waiting[1] not in ("", first)
    assert worker_of(made, "second") == first


def test_what_waits_for_one_worker_starts_no_other() -> None:
    made = World(scaling=Scaling(max_workers=5))
    made.node()
    submit(made, "first", is_strict=True)
    made.ready()

    for number in range(4):
        submit(made, f"call-{number}", is_strict=True)

    assert made.started() == []


def test_a_strict_one_whose_worker_is_gone_fails_once_and_then_begins_anew() -> None:
    made = world(2)
    first = run(made, "first", is_strict=True)
    gone(made, first)

    submit(made, "second", is_strict=True)
    submit(made, "third", is_strict=True)

    assert [name for name, _ in made.failed] == ["second"]
    assert made.failed[0][1].startswith("cannot run second in session 's': the worker that had it is gone")
    assert worker_of(made, "third") not in ("", first)


def test_those_that_wait_for_a_worker_that_dies_fail() -> None:
    made = world(2)
    submit(made, "first", is_strict=True)
    first = worker_of(made, "first")
    for name in ("second", "third"):
        submit(made, name, is_strict=True)

    gone(made, first)

    assert {name for name, _ in made.failed} == {"second", "third"}


def test_a_call_that_waits_for_its_worker_can_be_cancelled() -> None:
    made = world(1)
    submit(made, "first", is_strict=True)
    submit(made, "second", is_strict=True)

    assert made.scheduler.cancel("second", made.key) is not None
    end(made, "first")

    assert worker_of(made, "second") == ""


def test_a_wide_worker_takes_several_of_a_session_at_once() -> None:
    made = world(2, concurrency=Concurrency(max_inputs=4, target_inputs=1))

    for name in ("a", "b", "c"):
        submit(made, name, is_strict=True)

    assert len({worker_of(made, name) for name in ("a", "b", "c")}) == 1


def test_a_new_scheduler_is_told_who_had_a_session() -> None:
    made = world(2)
    there, *_ = [worker.id for worker in made.scheduler.workers()]

    submit(made, "known", "x", is_strict=True, last_worker=there)
    submit(made, "lost", "y", is_strict=True, last_worker="worker-of-before")

    assert worker_of(made, "known") == there
    assert [name for name, _ in made.failed] == ["lost"]
    assert (made.scheduler.knows_session(made.key, "x"), made.scheduler.knows_session(made.key, "z")) == (True, False)


def test_the_session_that_was_used_longest_ago_is_forgotten() -> None:
    sessions = Sessions(most=2)
    for name in ("a", "b", "c"):
        call = WaitingCall(id=name, workspace="w", key=World().key, session=name, token=Token(1, 1))
        sessions.serve(call, f"worker-of-{name}")

    assert [sessions.knows(name) for name in ("a", "b", "c")] == [False, True, True]
