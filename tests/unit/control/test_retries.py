"""A call made once more has the same input, and goes where the name leads now."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relight.blobs.store import BlobStore
from relight.clock import SystemClock, now_ms
from relight.control.platform import Control, Rules, open_control
from relight.protocol.api import Submit
from relight.protocol.calls import CallRequest, CallState
from relight.protocol.errors import NotFound
from relight.protocol.ids import new_id
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Manifest
from relight.protocol.payload import Payload
from relight.protocol.views import CallQuery
from relight.scheduler.loop import Timing
from relight.store.rows import NewCall, NewVersion
from relight.store.store import Store, open_store

WS = "default"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def control(store: Store, tmp_path: Path) -> Control:
    """A platform without a node: what it takes in stays in the queue."""
    rules = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))
    control = await open_control(store, BlobStore(tmp_path / "blobs"), SystemClock(), rules)
    await deploy(store, control, "version-1")
    return control


async def deploy(store: Store, control: Control, version: str) -> None:
    image = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
    function = FunctionSpec(name="f", module="m", qualname="f", image=image)
    manifest = Manifest(app="a", code=CodeBundle(digest="d" * 64, size=1, folder="/a"), functions=(function,))
    row = NewVersion(workspace=WS, id=version, app="a", environment="main", manifest=manifest, at=1.0)
    await store.versions.deploy(row)
    await control.deploys.recover((WS,))


def request(**fields: str) -> CallRequest:
    payload = Payload(format="json", data=b'{"args":[7]}', size=12)
    return CallRequest(id=new_id("call", now_ms()), app="a", function="f", payload=payload, accept=("json",), **fields)


async def test_a_retry_is_a_new_call_with_the_same_input(store: Store, control: Control) -> None:
    first = request(group="group-1", parent="call-0")
    await control.calls.submit(WS, Submit(calls=(first,)))
    await control.calls.cancel(WS, first.id)

    again = await control.retries.retry(WS, first.id)

    kept = await store.calls.request(WS, again.id, first.id)
    assert kept == CallRequest(id=first.id, app="a", function="f", payload=first.payload, accept=("json",))
    assert (again.state, again.group, again.parent) == (CallState.QUEUED, "", "")
    assert (await control.calls.show(WS, first.id)).call.state is CallState.CANCELLED


async def test_a_call_that_is_not_kept_cannot_be_retried(control: Control) -> None:
    with pytest.raises(NotFound, match="cannot retry call 'call-x'"):
        await control.retries.retry(WS, "call-x")


async def test_a_retry_of_a_stopped_app_says_so(control: Control) -> None:
    first = request()
    await control.calls.submit(WS, Submit(calls=(first,)))
    await control.deploys.stop(WS, "a", "main")

    with pytest.raises(NotFound, match="cannot find app 'a'"):
        await control.retries.retry(WS, first.id)


async def test_calls_are_listed_by_their_parent_and_by_when_they_were_submitted(store: Store, control: Control) -> None:
    parent, child = request(), request(parent="call-p")
    view = (await control.calls.submit(WS, Submit(calls=(parent,)))).calls[0]
    at = view.submitted_at
    await store.calls.submit(WS, [NewCall(request=child, version=view.version, at=at)])

    assert [view.id for view in await control.calls.list(WS, CallQuery(parent="call-p"))] == [child.id]
    assert await control.calls.list(WS, CallQuery(parent="call-p", function="g")) == ()
    assert len(await control.calls.list(WS, CallQuery(since=at))) == 2
    assert await control.calls.list(WS, CallQuery(since=at + 1)) == ()
