"""A run that is deployed again while it runs: what the version before still has belongs to the run too."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relight.blobs.store import BlobStore
from relight.clock import SystemClock, now_ms
from relight.control.platform import Control, Rules, open_control
from relight.protocol.api import Deploy, Submit
from relight.protocol.calls import CallRequest, CallState
from relight.protocol.ids import new_id
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Manifest
from relight.protocol.payload import Payload
from relight.scheduler.loop import Timing
from relight.store.store import open_store

WS = "default"
CODE = b"the code"
DIGEST = hashlib.sha256(CODE).hexdigest()


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    """A platform without a node: what it takes in stays in the queue."""
    store = await open_store(tmp_path)
    blobs = BlobStore(tmp_path / "blobs")
    await blobs.put(code(), DIGEST)
    rules = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))
    yield await open_control(store, blobs, SystemClock(), rules)
    await store.close()


async def code() -> AsyncIterator[bytes]:
    yield CODE


async def deploy(control: Control, run: str) -> None:
    image = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
    function = FunctionSpec(name="f", module="m", qualname="f", image=image)
    manifest = Manifest(app="a", code=CodeBundle(digest=DIGEST, size=len(CODE), folder="/a"), functions=(function,))
    await control.deploys.deploy(WS, Deploy(manifest=manifest, environment=run))


async def submit(control: Control, run: str) -> str:
    payload = Payload(format="json", data=b"{}", size=2)
    call = CallRequest(id=new_id("call", now_ms() + 1), app="a", environment=run, function="f", payload=payload)
    await control.calls.submit(WS, Submit(calls=(call,)))
    return call.id


async def test_a_run_ends_with_the_calls_of_all_its_versions(control: Control) -> None:
    run = new_id("run", now_ms())
    await deploy(control, run)
    early = await submit(control, run)
    await deploy(control, run)
    late = await submit(control, run)

    waiting = await control.runs.stop(WS, run, cancel=False)
    cancelled = await control.runs.stop(WS, run, cancel=True)

    assert (waiting, cancelled) == (2, 2)
    for call in (early, late):
        assert (await control.calls.show(WS, call)).call.state is CallState.CANCELLED
