"""Calls through a session: what comes back, what is raised, what is said, and what is survived."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from relight.protocol.api import Submit
from relight.protocol.calls import CallState
from relight.protocol.codec import unpack
from relight.protocol.errors import (
    CallCancelled,
    NotFound,
    RemoteError,
    Unavailable,
    ValueNotPortable,
)
from relight.sdk.call import Call
from relight.sdk.failures import RemoteTraceback
from relight.sdk.session import Callee, Session

F = Callee(function="f")


class Unbuildable(Exception):
    """Its pickle cannot be read: it takes two arguments and keeps one."""

    def __init__(self, lamp: str, _room: str) -> None:
        super().__init__(lamp)


def refuse(error: Exception) -> Callable[..., Any]:
    def function(*_args: Any) -> None:
        raise error

    return function


def run(session: Session, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return session.connection.do(session.run(session.request(F, args, kwargs)))


def spawn(session: Session, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    request = session.request(F, args, kwargs)
    session.connection.do(session.spawn((request,)))
    return request.id


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def session(platform: Any, said: list[str]) -> Session:
    return Session(platform.connection(), "app", "main", clock=platform, say=said.append)


def test_a_call_returns_what_its_function_returns(platform: Any, session: Session) -> None:
    platform.functions["f"] = lambda x, *, y: (x, y)

    assert run(session, (1,), {"y": {"a"}}) == (1, {"a"})


def test_large_values_travel_as_blobs_both_ways(platform: Any, session: Session) -> None:
    platform.functions["f"] = lambda data: data + b"!"

    assert run(session, (b"x" * 300_000,), {}) == b"x" * 300_000 + b"!"
    assert sorted(len(blob) // 1000 for blob in platform.blobs.values()) == [300, 300]


def test_a_blob_that_is_there_is_not_sent_again(platform: Any, session: Session) -> None:
    platform.functions["f"] = len

    for _ in range(2):
        run(session, (b"x" * 300_000,), {})

    assert [request.method for request in platform.requests if "blobs" in request.path] == ["HEAD", "PUT", "HEAD"]


def test_an_exception_is_raised_as_it_was_with_its_traceback_as_the_cause(platform: Any, session: Session) -> None:
    platform.functions["f"] = refuse(KeyError("lamp"))

    with pytest.raises(KeyError, match="lamp") as caught:
        run(session, (), {})

    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert caught.value.__cause__.text == "Traceback: there"


def test_an_exception_that_cannot_be_rebuilt_says_what_it_was(platform: Any, session: Session) -> None:
    platform.functions["f"] = refuse(Unbuildable("lamp", "hall"))

    with pytest.raises(RemoteError, match=r"it cannot be rebuilt here: .*; what it said: Unbuildable: lamp"):
        run(session, (), {})


def test_an_argument_that_cannot_be_sent_is_named(session: Session) -> None:
    with pytest.raises(ValueNotPortable, match=r"cannot send argument 'y' \(a generator\)"):
        run(session, (1,), {"y": (n for n in ())})


@pytest.mark.parametrize("faults", [["refused"], ["cut"], ["refused", "cut", "refused"], ["busy", "busy"], ["cut"] * 9])
def test_a_server_that_comes_back_loses_and_doubles_nothing(platform: Any, session: Session, faults: list[str]) -> None:
    ran: list[int] = []
    platform.functions["f"] = ran.append
    platform.faults = list(faults)

    run(session, (1,), {})

    assert ran == [1]


def test_a_submit_that_got_no_answer_says_that_it_is_asked_again(platform: Any, session: Session) -> None:
    platform.faults = ["cut", "busy", ""]

    spawn(session, (), {})

    assert [unpack(request.body, Submit).is_again for request in platform.requests] == [False, True]


def test_a_server_that_stays_away_is_given_up(platform: Any, session: Session) -> None:
    platform.faults = ["refused"] * 1000

    with pytest.raises(Unavailable, match=r"cannot reach the server at /nowhere for 30 s: it does not answer"):
        run(session, (), {})

    assert 30 < platform.seconds < 32


def test_why_a_call_waits_is_said_once_for_each_reason(platform: Any, session: Session, said: list[str]) -> None:
    platform.is_stuck, platform.reason = True, "no_capacity:gpu: no node has an A100"
    call = spawn(session, (), {})

    with pytest.raises(TimeoutError, match=f"cannot give the result of {call}: it is queued after 20 s"):
        session.connection.do(session.get(call, timeout=20))

    assert said == [f"relight: {call} is waiting: no_capacity:gpu: no node has an A100\n"]


def test_a_spawned_call_is_found_again_by_its_id(platform: Any, session: Session) -> None:
    platform.functions["f"] = lambda x: x * 2
    call: Call[int] = Call(spawn(session, (4,), {}), session)

    assert call.status() in (CallState.QUEUED, CallState.SUCCEEDED)
    assert call.get() == 8
    assert call.status() is CallState.SUCCEEDED


def test_a_cancelled_call_raises_that_it_was(platform: Any, session: Session) -> None:
    platform.is_stuck = True
    call: Call[None] = Call(spawn(session, (), {}), session)

    call.cancel()

    with pytest.raises(CallCancelled):
        call.get()


def test_a_call_the_server_does_not_know_is_not_waited_for(session: Session) -> None:
    with pytest.raises(NotFound, match="does not know it"):
        session.connection.do(session.get("call-01jd2m0000000000000000000000"))
