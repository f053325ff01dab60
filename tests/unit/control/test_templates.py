"""What became of a version's templates: from a node's words to what a deploy says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from relight.blobs.store import BlobStore
from relight.clock import SystemClock
from relight.control.platform import Control, Rules, open_control
from relight.protocol import PROTOCOL
from relight.protocol.link import Hello, Orders, Reports, template_key
from relight.protocol.manifest import (
    ClassParameter,
    CodeBundle,
    FunctionSpec,
    GpuRequest,
    HostImage,
    Manifest,
    Resources,
)
from relight.protocol.templates import TemplateOutcome, TemplateState, TemplateView
from relight.scheduler.loop import Timing
from relight.store.rows import NewVersion
from relight.store.store import open_store

WS = "default"
IMAGE = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
SQUARE = FunctionSpec(name="square", module="m", qualname="square", image=IMAGE)
SIZED = replace(
    SQUARE,
    name="Sized",
    module="c",
    is_class=True,
    has_snap=True,
    parameters=(ClassParameter(name="size", type="str"),),
)
FUNCTIONS = (
    SQUARE,
    replace(SQUARE, name="cube"),  # of the same module
    replace(SQUARE, name="alone", uses_template=False),
    replace(SQUARE, name="big", module="other", resources=Resources(gpu=(GpuRequest(kind="A100"),))),
    SIZED,
)


class Place:
    """A platform with an app, and nodes that say what a test has them say."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.key = ""
        self.keys: list[str] = []
        self.has_orders = asyncio.Event()

    def connect(self, node: str = "n1", *outcomes: TemplateOutcome) -> None:
        hello = Hello(
            node=node,
            incarnation="i",
            protocol=PROTOCOL,
            cpu=2.0,
            memory_mib=1000,
            templates=outcomes,
        )
        self.control.nodes.connect(hello, self._obey)

    def _obey(self, orders: Orders) -> None:
        self.has_orders.set()
        for spec in orders.prepare:
            self.keys.append(template_key(spec))
            if spec.function.name == "square":
                self.key = template_key(spec)

    async def views(self, wait: float = 0.0) -> dict[str, TemplateView]:
        answer = await self.control.deploys.templates(WS, "shop", "main", wait)
        return {view.function: view for view in answer.templates}

    async def activate(self) -> None:
        version = (await self.control.deploys._catalog.route(WS, "shop", "main")).stable
        self.control.scheduler.prepare(version.worker_spec(bound) for bound in version.all_unbound())
        await self.has_orders.wait()

    def say(self, state: TemplateState, why: str = "", node: str = "n1", **more: float) -> None:
        outcome = TemplateOutcome(key=self.key, state=state, why=why, **more)  # type: ignore[arg-type]  # shorthand
        self.control.nodes.report(node, Reports(templates=(outcome,)))

    def say_of_others(self, node: str = "n1") -> None:
        others = [TemplateOutcome(key=key, state=TemplateState.READY) for key in self.keys if key != self.key]
        self.control.nodes.report(node, Reports(templates=tuple(others)))


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    store = await open_store(tmp_path)
    manifest = Manifest(app="shop", code=CodeBundle(digest="d" * 64, size=1, folder="/a"), functions=FUNCTIONS)
    row = NewVersion(workspace=WS, id="version-1", app="shop", environment="main", manifest=manifest, at=1.0)
    await store.versions.deploy(row)
    rules = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))
    yield Place(await open_control(store, BlobStore(tmp_path / "blobs"), SystemClock(), rules))
    await store.close()


async def test_a_template_that_is_being_made_is_waited_for_until_its_node_says_what_became_of_it(place: Place) -> None:
    place.connect()
    await place.activate()
    before = await place.views()
    waiting = asyncio.create_task(place.views(wait=60))
    done, _ = await asyncio.wait([waiting], timeout=0.01)
    assert not done

    place.say(TemplateState.READY, seconds=0.4, memory_bytes=38 << 20)
    place.say_of_others()
    after = await waiting

    assert before["square"].state is TemplateState.MAKING
    ready = TemplateView(function="square", state=TemplateState.READY, node="n1", seconds=0.4, memory_mib=38.0)
    assert (after["square"], after["cube"]) == (ready, replace(ready, function="cube"))


async def test_a_wait_ends_though_a_template_is_still_being_made(place: Place) -> None:
    place.connect()
    await place.activate()

    assert (await place.views(wait=0.01))["square"].state is TemplateState.MAKING


async def test_why_there_is_none_is_said_of_each_function_by_itself(place: Place) -> None:
    place.connect()
    await place.activate()
    place.say(TemplateState.NONE, "unsafe: polars has 4 threads")

    views = await place.views()

    assert {name: view.why.partition(":")[0] for name, view in views.items()} == {
        "square": "unsafe",
        "cube": "unsafe",
        "alone": "asked",
        "big": "",
        "Sized": "parameters",
    }
    assert {name for name, view in views.items() if view.state is not TemplateState.NONE} == {"big"}


async def test_one_node_that_has_it_is_enough_and_one_that_is_away_has_nothing(place: Place) -> None:
    place.connect("n1")
    place.connect("n2")
    await place.activate()
    place.say(TemplateState.NONE, "evicted: it was", node="n1")
    place.say(TemplateState.READY, node="n2", seconds=1.0)
    both = await place.views()

    place.control.nodes.died("n2", "it is dead")
    one = await place.views()

    assert (both["square"].node, both["square"].state) == ("n2", TemplateState.READY)
    assert (one["square"].node, one["square"].why) == ("n1", "evicted: it was")


async def test_what_a_node_has_when_it_comes_is_known_again(place: Place) -> None:
    place.connect()
    await place.activate()
    ready = TemplateOutcome(key=place.key, state=TemplateState.READY, seconds=2.0)

    place.connect("n1", ready)

    assert (await place.views(wait=60))["square"].seconds == 2.0


@pytest.mark.parametrize(("has_node", "code"), [(False, "no_node"), (True, "first")])
async def test_where_no_node_is_or_none_was_asked_that_is_said(place: Place, has_node: bool, code: str) -> None:
    if has_node:
        place.connect()

    assert (await place.views(wait=0.01))["square"].why.partition(":")[0] == code


async def test_what_is_deployed_while_there_is_no_node_is_made_by_the_first_that_comes(place: Place) -> None:
    version = (await place.control.deploys._catalog.route(WS, "shop", "main")).stable
    place.control.scheduler.prepare(version.worker_spec(bound) for bound in version.all_unbound())
    assert (await place.views())["square"].state is TemplateState.MAKING

    place.connect()
    await place.has_orders.wait()
    place.say(TemplateState.READY, seconds=0.4)
    place.say_of_others()

    assert (await place.views(wait=60))["square"].seconds == 0.4
