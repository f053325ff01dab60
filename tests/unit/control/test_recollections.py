"""What a server would forget, and the one after it knows: decisions with their reasons, and that a function is paused."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relight.blobs.store import BlobStore
from relight.clock import SystemClock
from relight.control.platform import Control, Rules, open_control
from relight.protocol import PROTOCOL
from relight.protocol.api import Deploy
from relight.protocol.link import Hello
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Manifest, Scaling
from relight.scheduler.autoscale import KEPT_DECISIONS, Load, Observation
from relight.scheduler.loop import Timing
from relight.store.recollections import Recollection
from relight.store.store import Store, open_store

CODE = b"the code"
DIGEST = hashlib.sha256(CODE).hexdigest()
IMAGE = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
NAME = ("default", "a", "main", "f")
RULES = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))


async def code() -> AsyncIterator[bytes]:
    yield CODE


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await open_store(tmp_path)
    yield store
    await store.close()


async def served(store: Store, folder: Path) -> Control:
    """A server over what is kept, with a node."""
    blobs = BlobStore(folder / "blobs")
    await blobs.put(code(), DIGEST)
    control = await open_control(store, blobs, SystemClock(), RULES)
    hello = Hello(node="n1", incarnation="i", protocol=PROTOCOL, cpu=2.0, memory_mib=1000)
    control.nodes.connect(hello, lambda orders: None)
    return control


async def deployed(store: Store, folder: Path) -> Control:
    control = await served(store, folder)
    function = FunctionSpec(name="f", module="m", qualname="f", image=IMAGE, scaling=Scaling(min_workers=1))
    bundle = CodeBundle(digest=DIGEST, size=len(CODE), folder="/a")
    await control.deploys.deploy("default", Deploy(manifest=Manifest(app="a", code=bundle, functions=(function,))))
    return control


async def kept(store: Store) -> tuple[Recollection, ...]:
    """All of it, once what is to be written by now is."""
    await store.recollections.forget(0.0)
    return await store.recollections.all()


async def test_decisions_are_shown_with_their_reasons_after_a_restart(store: Store, tmp_path: Path) -> None:
    before = await deployed(store, tmp_path)
    await before.tunings.update(NAME, {"min_workers": 2})
    told = (await before.tunings.show(NAME)).history
    before.recollections.keep()

    after = await served(store, tmp_path)
    await after.tunings.update(NAME, {"min_workers": 3})
    history = (await after.tunings.show(NAME)).history

    assert (told[0].before, told[-1].workers) == (0, 2)
    assert history[: len(told)] == told
    assert history[-1].reason == "min_workers: the floor is min_workers=3"


async def test_a_change_that_goes_on_after_it_was_kept_is_kept_again(store: Store, tmp_path: Path) -> None:
    control = await deployed(store, tmp_path)
    function = control.scheduler.functions_of((await control.tunings.show(NAME)).version, "f")[0]
    began = function.autoscaler.history[-1].at
    for stuck in (3, 5):
        load = Load(waiting=0, stuck=stuck)
        function.autoscaler.decide(Observation(now=0.0, unix=began, load=load))  # in the run that the deploy began
        control.recollections.keep()

    after = await served(store, tmp_path)

    assert [(one.before, one.workers) for one in (await after.tunings.show(NAME)).history][:1] == [(0, 5)]


async def test_nothing_is_written_when_nothing_has_changed(store: Store, tmp_path: Path) -> None:
    control = await deployed(store, tmp_path)
    control.recollections.keep()
    written = await kept(store)

    control.recollections.keep()
    await control.tunings.show(NAME)
    control.recollections.keep()

    assert len(written) == 1
    assert await kept(store) == written


async def test_no_more_is_kept_than_is_shown(store: Store, tmp_path: Path) -> None:
    control = await deployed(store, tmp_path)
    for number in range(KEPT_DECISIONS):
        await control.tunings.update(NAME, {"min_workers": 1 + number % 2})
        await control.tunings.show(NAME)
    control.recollections.keep()

    again = await served(store, tmp_path)
    await again.tunings.update(NAME, {"min_workers": 4})

    assert len((await again.tunings.show(NAME)).history) == KEPT_DECISIONS


async def test_what_has_not_changed_for_a_month_is_dropped(store: Store, tmp_path: Path) -> None:
    now = SystemClock().now()
    old = Recollection(workspace="default", kind="decisions", name="v/f", text="[]", at=now - 31 * 86_400)
    new = Recollection(workspace="default", kind="of another version", name="v/g", text="?", at=now)
    await store.recollections.put([old, new])

    await served(store, tmp_path)

    assert await store.recollections.all() == (new,)


async def test_a_function_that_is_paused_is_so_after_a_restart(store: Store, tmp_path: Path) -> None:
    control = await deployed(store, tmp_path)
    await control.queues.pause(NAME, is_paused=True)

    again = await served(store, tmp_path)

    assert (await again.queues.show(NAME)).is_paused
    assert (await again.tunings.show(NAME)).is_paused
    await again.queues.pause(NAME, is_paused=False)
    assert not (await (await served(store, tmp_path)).queues.show(NAME)).is_paused
