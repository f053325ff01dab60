"""A call's id can be used once: whoever uses it again changes nothing, and starts nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from relight.blobs.store import BlobStore
from relight.clock import SystemClock, now_ms
from relight.control.newness import Newness
from relight.control.platform import Control, Rules, open_control
from relight.protocol.api import Await, Cancel, Submit
from relight.protocol.calls import CallRequest, CallState
from relight.protocol.errors import Conflict, InvalidRequest, NotFound
from relight.protocol.ids import moment_of, new_id
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Manifest, MethodSpec
from relight.protocol.payload import Payload
from relight.protocol.views import FunctionStats
from relight.scheduler.loop import Timing
from relight.scheduler.queue import FunctionKey, WaitingCall
from relight.store.rows import NewCall, NewVersion
from relight.store.store import Store, open_store

WS = "default"
VERSION = "version-1"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path)
    image = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
    function = FunctionSpec(name="f", module="m", qualname="f", image=image)
    yields = replace(function, name="g", qualname="g", methods=(MethodSpec(name="", is_generator=True),))
    code = CodeBundle(digest="d" * 64, size=1, folder="/a")
    manifest = Manifest(app="a", code=code, functions=(function, yields))
    await opened.versions.deploy(
        NewVersion(workspace=WS, id=VERSION, app="a", environment="main", manifest=manifest, at=1.0)
    )
    yield opened
    await opened.close()


@pytest.fixture
async def control(store: Store, tmp_path: Path) -> Control:
    """A platform without a node: what it takes in stays in the queue, where it can be looked at."""
    rules = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))
    return await open_control(store, BlobStore(tmp_path / "blobs"), SystemClock(), rules)


def request(call_id: str, data: bytes) -> CallRequest:
    return CallRequest(id=call_id, app="a", function="f", payload=Payload(format="json", data=data, size=len(data)))


def submit(call_id: str, data: bytes, *, is_again: bool = False) -> Submit:
    return Submit(calls=(request(call_id, data),), is_again=is_again)


def queued(control: Control, call_id: str) -> WaitingCall:
    """Take a call out of its queue, where it must be."""
    found = control.scheduler.cancel(call_id, FunctionKey(VERSION, "f"))
    assert isinstance(found, WaitingCall)
    return found


def data_of(call: WaitingCall) -> bytes | None:
    return call.payload.data if call.payload is not None else None


async def test_results_of_what_yields_are_refused_at_once_and_nothing_is_kept(control: Control) -> None:
    call = replace(request(new_id("call", now_ms()), b"{}"), function="g")

    for asked in (Submit(calls=(call,), is_quiet=True, needs_results=True), Submit(calls=(call,), wait_seconds=9.0)):
        with pytest.raises(InvalidRequest, match=r"^cannot call g for what it returns: it yields; iterate over it"):
            await control.calls.submit(WS, asked)

    with pytest.raises(NotFound):
        await control.calls.show(WS, call.id)
    await control.calls.submit(WS, Submit(calls=(call,), is_quiet=True))
    assert (await control.calls.show(WS, call.id)).call.state is CallState.QUEUED


async def test_an_id_that_waits_is_refused_and_the_call_keeps_what_it_was_given(control: Control) -> None:
    call = new_id("call", now_ms() + 1)
    await control.calls.submit(WS, submit(call, b"first"))

    with pytest.raises(Conflict, match="the id was used before"):
        await control.calls.submit(WS, submit(call, b"second"))

    assert data_of(queued(control, call)) == b"first"


async def test_an_id_whose_call_has_ended_is_refused_and_nothing_starts(control: Control) -> None:
    call = new_id("call", now_ms() + 1)
    await control.calls.submit(WS, submit(call, b"first"))
    await control.calls.cancel(WS, call)

    with pytest.raises(Conflict):
        await control.calls.submit(WS, submit(call, b"second"))

    assert control.scheduler.cancel(call, FunctionKey(VERSION, "f")) is None


async def test_an_id_that_a_server_before_this_one_took_is_refused(store: Store, control: Control) -> None:
    call = new_id("call", now_ms() - 60_000)
    await store.calls.submit(WS, [NewCall(request=request(call, b"first"), version=VERSION, at=1.0)])

    with pytest.raises(Conflict):
        await control.calls.submit(WS, submit(call, b"second"))

    assert control.scheduler.cancel(call, FunctionKey(VERSION, "f")) is None


async def test_asking_again_is_answered_with_the_call_as_it_stands(control: Control) -> None:
    call = new_id("call", now_ms() + 1)
    await control.calls.submit(WS, submit(call, b"first"))

    views = await control.calls.submit(WS, submit(call, b"first", is_again=True))

    assert [(view.id, view.state) for view in views.calls] == [(call, CallState.QUEUED)]
    assert data_of(queued(control, call)) == b"first"


async def test_a_group_and_calls_by_name_are_cancelled_at_once_even_while_they_are_being_kept(control: Control) -> None:
    ids = [new_id("call", now_ms() + 1) for _ in range(4)]
    grouped = Submit(calls=tuple(replace(request(one, b"1"), group="group-1") for one in ids[:3]))
    named = Cancel(ids=(ids[3], "call-gone"), group="group-1")
    await control.calls.submit(WS, submit(ids[3], b"1"))

    async def cancel() -> int:
        return await control.calls.cancel_all(WS, await control.calls.unfinished(WS, named))

    _, cancelled = await asyncio.gather(control.calls.submit(WS, grouped), cancel())

    views = (await control.calls.wait(WS, Await(ids=tuple(ids)))).calls
    assert (cancelled, {view.state for view in views}) == (4, {CallState.CANCELLED})
    assert await control.calls.unfinished(WS, named) == ()


async def test_what_waits_of_a_function_is_counted(control: Control) -> None:
    for _ in range(2):
        await control.calls.submit(WS, submit(new_id("call", now_ms() + 1), b"1"))

    assert await control.deploys.stats(WS, "a", "main", "f") == FunctionStats(backlog=2)
    with pytest.raises(NotFound, match="it has 'f'"):
        await control.deploys.stats(WS, "a", "main", "F")


async def test_an_old_id_that_nobody_used_is_started_once_it_is_kept(control: Control) -> None:
    call = new_id("call", now_ms() - 60_000)

    await control.calls.submit(WS, submit(call, b"late", is_again=True))

    assert data_of(queued(control, call)) == b"late"


def test_an_id_is_new_when_it_was_made_since_the_beginning_and_not_taken_since() -> None:
    newness = Newness(since_ms=1000)
    before, after = new_id("call", 1000), new_id("call", 1001)

    assert (newness.take(WS, before), newness.take(WS, after), newness.take(WS, after)) == (False, True, False)
    assert newness.take("other", after)


def test_what_is_older_than_all_that_is_remembered_is_not_known_to_be_new() -> None:
    newness = Newness(since_ms=0, most=2)
    ids = [new_id("call", at) for at in (10, 20, 30)]
    for one in ids:
        newness.take(WS, one)

    assert not newness.take(WS, ids[0])
    assert not newness.take(WS, new_id("call", 10))
    assert newness.take(WS, new_id("call", 40))


def test_ids_say_when_they_were_made_so_that_they_can_be_compared() -> None:
    moments = [moment_of(new_id("call", at)) for at in (5, 31, 32, 1_790_000_000_123, 1_790_000_000_124)]

    assert moments == sorted(set(moments))
    assert moment_of(new_id("call", 7)) == moment_of(new_id("worker", 7))
