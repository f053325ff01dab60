"""Versions: what is tried before calls lead to it, canaries, ways back, and what changes between two."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from relight.blobs.store import BlobStore
from relight.clock import SystemClock, now_ms
from relight.control import deploys
from relight.control.catalog import Version
from relight.control.platform import Control, Rules, open_control
from relight.control.versions import changes
from relight.protocol import PROTOCOL
from relight.protocol.api import Deploy, Deployed, Submit
from relight.protocol.calls import CallRequest, CallState
from relight.protocol.errors import Conflict, DeployFailed, InvalidRequest, NotFound
from relight.protocol.ids import new_id
from relight.protocol.link import Hello, Orders, Reports, template_key
from relight.protocol.manifest import CodeBundle, FunctionSpec, GpuRequest, HostImage, Manifest, Resources
from relight.protocol.payload import Payload
from relight.protocol.templates import TemplateOutcome, TemplateState
from relight.protocol.versions import Change, How, Strategy, Switch
from relight.scheduler.loop import Timing
from relight.scheduler.queue import WINDOW
from relight.store.rows import NewVersion
from relight.store.store import open_store

WS = "default"
CODE = b"the code"
RULES = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))
DIGEST = hashlib.sha256(CODE).hexdigest()
IMAGE = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
F = FunctionSpec(name="f", module="m", qualname="f", image=IMAGE)


def manifest(*functions: FunctionSpec, app: str = "a") -> Manifest:
    code = CodeBundle(digest=DIGEST, size=len(CODE), folder="/a")
    return Manifest(app=app, code=code, functions=functions or (F,))


async def code() -> AsyncIterator[bytes]:
    yield CODE


class Place:
    """A platform, and a node that says of each template what a test has it say."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.outcome: TemplateOutcome | None = TemplateOutcome(key="", state=TemplateState.READY)
        self.asked: list[str] = []
        self.forgotten: list[str] = []
        self.has_forgotten = asyncio.Event()
        self.has_orders = asyncio.Event()
        self.has_node = False

    def connect(self) -> None:
        hello = Hello(node="n1", incarnation="i", protocol=PROTOCOL, cpu=2.0, memory_mib=1000)
        self.control.nodes.connect(hello, self._obey)
        self.has_node = True

    def _obey(self, orders: Orders) -> None:
        self.asked += [template_key(spec) for spec in orders.prepare]
        self.forgotten += orders.forget
        self.has_orders.set()
        if orders.forget:
            self.has_forgotten.set()
        if self.outcome is not None:
            for key in [template_key(spec) for spec in orders.prepare]:
                asyncio.get_running_loop().call_soon(self.say, replace(self.outcome, key=key))

    def say(self, outcome: TemplateOutcome) -> None:
        self.control.nodes.report("n1", Reports(templates=(outcome,)))

    async def deploy(self, *functions: FunctionSpec, environment: str = "main", **more: object) -> Deployed:
        asked = {"is_tried": self.has_node, "id": new_id("version", now_ms()), **more}
        message = Deploy(manifest=manifest(*functions), environment=environment, **asked)  # type: ignore[arg-type]
        return await self.control.deploys.deploy(WS, message, made_by="ci")

    async def percents(self, environment: str = "main") -> list[tuple[str, float]]:
        versions, _ = await self.control.versions.history(WS, "a", environment)
        return [(one.id, one.percent) for one in versions]

    async def submit(self, count: int, session: str = "") -> Counter[str]:
        """Which versions so many calls went to, of one session where it has a name."""
        views = await self.control.calls._views(WS, await self.calls(count, session=session))
        return Counter(view.version for view in views)

    async def calls(self, count: int, function: str = "f", session: str = "") -> list[str]:
        """So many calls, by their ids."""
        payload = Payload(format="json", data=b"{}", size=2)
        calls = tuple(
            CallRequest(
                id=new_id("call", now_ms() + 1),
                app="a",
                environment="main",
                function=function,
                payload=payload,
                session=session,
                is_strict=bool(session),
            )
            for _ in range(count)
        )
        await self.control.calls.submit(WS, Submit(calls=calls))
        return [call.id for call in calls]

    async def settle(self, is_so: Callable[[], bool]) -> None:
        """Let what goes on by itself go on, until it is so."""
        async with asyncio.timeout(10):
            while not is_so():
                await self.written()
        await self.written()

    async def written(self) -> None:
        """Return when what is to be written by now is: this is read in its turn."""
        await self.control.calls._store.calls.payload(WS, ())


@pytest.fixture
async def apart(tmp_path: Path) -> AsyncIterator[Place]:
    """A platform without a node: what is called waits."""
    store = await open_store(tmp_path)
    blobs = BlobStore(tmp_path / "blobs")
    await blobs.put(code(), DIGEST)
    yield Place(await open_control(store, blobs, SystemClock(), RULES))
    await store.close()


@pytest.fixture
async def place(apart: Place) -> Place:
    apart.connect()
    return apart


async def test_what_loads_takes_the_place_of_the_version_before(place: Place) -> None:
    first = await place.deploy()
    second = await place.deploy()

    assert (first.replaced, second.replaced, second.is_live) == ("", first.version, True)
    assert await place.percents() == [(first.version, 0), (second.version, 100)]


async def test_what_does_not_load_changes_nothing_and_its_template_is_forgotten(place: Place) -> None:
    first = await place.deploy()
    place.outcome = TemplateOutcome(key="", state=TemplateState.NONE, why="failed: ImportError: no module named x")

    with pytest.raises(
        DeployFailed, match="cannot deploy 'a': workers of f do not start: ImportError: no module named x"
    ):
        await place.deploy(id=(broken := new_id("version", now_ms())))
    await place.has_forgotten.wait()

    assert await place.percents() == [(first.version, 100)]
    assert place.forgotten == [broken]
    assert await place.submit(3) == {first.version: 3}


async def test_what_loads_slowly_is_asked_for_again_and_the_version_before_serves_meanwhile(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploys, "TRY_SECONDS", 0.01)
    first = await place.deploy()
    place.outcome = None
    slow = new_id("version", now_ms())
    early = await place.deploy(id=slow)
    meanwhile = await place.submit(2)

    place.say(TemplateOutcome(key=place.asked[-1], state=TemplateState.READY))
    late = await place.deploy(id=slow)
    again = await place.deploy(id=slow)

    assert (early.is_live, late.is_live, again.is_live) == (False, True, True)
    assert meanwhile == {first.version: 2}
    assert await place.percents() == [(first.version, 0), (slow, 100)]
    assert len(place.asked) == 2


async def test_one_that_still_loads_gives_way_to_the_next(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploys, "TRY_SECONDS", 0.01)
    place.outcome = None
    slow = await place.deploy()
    place.outcome = TemplateOutcome(key="", state=TemplateState.READY)

    quick = await place.deploy()
    await place.has_forgotten.wait()

    assert await place.percents() == [(quick.version, 100)]
    assert place.forgotten == [slow.version]


async def test_so_many_calls_lead_to_a_canary_and_each_always_to_the_same_version(place: Place) -> None:
    stable = await place.deploy()
    canary = await place.deploy(canary_percent=10.0)

    went = await place.submit(5000)

    assert set(went) == {stable.version, canary.version}
    assert 400 <= went[canary.version] <= 600
    route = await place.control.deploys._catalog.route(WS, "a", "main")
    assert len({route.of("call-1").id for _ in range(10)}) == 1


async def test_all_calls_of_a_session_lead_to_one_version(place: Place) -> None:
    stable = await place.deploy()
    canary = await place.deploy(canary_percent=50.0)

    went = [await place.submit(20, session=f"user-{number}") for number in range(20)]

    assert all(len(versions) == 1 for versions in went)
    assert {version for versions in went for version in versions} == {stable.version, canary.version}


async def test_a_canary_takes_over_or_is_taken_back(place: Place) -> None:
    stable = await place.deploy()
    canary = await place.deploy(canary_percent=10.0)

    led = await place.control.versions.shift(WS, "a", "main", 60.0)
    assert (led.version, led.canary, led.canary_percent) == (stable.version, canary.version, 60.0)
    await place.control.versions.shift(WS, "a", "main", 100.0)
    assert await place.percents() == [(stable.version, 0), (canary.version, 100)]
    with pytest.raises(Conflict, match="it has none"):
        await place.control.versions.shift(WS, "a", "main", 50.0)

    other = await place.deploy(canary_percent=10.0)
    back = await place.control.versions.rollback(WS, "a", "main")
    assert back.id == canary.version
    assert await place.submit(50) == {canary.version: 50}
    assert (other.version, 0.0) in await place.percents()


async def test_an_app_is_rolled_back_to_what_served_before_or_to_what_is_named(place: Place) -> None:
    first, second, third = [(await place.deploy()).version for _ in range(3)]

    back = await place.control.versions.rollback(WS, "a", "main", made_by="ann")
    assert (back.id, back.number, back.percent) == (second, 2, 100)
    assert (await place.control.versions.rollback(WS, "a", "main", "1")).id == first
    assert (await place.control.versions.rollback(WS, "a", "main", third)).id == third
    with pytest.raises(Conflict, match=f"it is at {third} already"):
        await place.control.versions.rollback(WS, "a", "main", third)
    with pytest.raises(NotFound, match="cannot find version '9': there are 3"):
        await place.control.versions.rollback(WS, "a", "main", "9")

    _, switches = await place.control.versions.history(WS, "a", "main")
    assert [(one.how, one.version, one.made_by) for one in switches[:3]] == [
        (How.ROLLBACK, third, ""),
        (How.ROLLBACK, first, ""),
        (How.ROLLBACK, second, "ann"),
    ]


async def test_there_is_nothing_to_roll_a_first_version_back_to(place: Place) -> None:
    await place.deploy()

    with pytest.raises(Conflict, match="no version served before this one"):
        await place.control.versions.rollback(WS, "a", "main")


async def test_what_serves_in_one_environment_is_promoted_to_another(place: Place) -> None:
    staged = await place.deploy(environment="staging")

    live = await place.control.deploys.promote(WS, "a", "staging", "main", made_by="ann")

    versions, switches = await place.control.versions.history(WS, "a", "main")
    assert [(one.id, one.source, one.made_by) for one in versions] == [(live.version, staged.version, "ann")]
    assert switches[0].how is How.PROMOTE
    with pytest.raises(InvalidRequest, match="it is to go from 'main' to 'main'"):
        await place.control.deploys.promote(WS, "a", "main", "main")


async def test_a_version_that_is_led_to_again_keeps_its_workers(place: Place) -> None:
    kept = replace(F, scaling=replace(F.scaling, min_workers=1))
    first = await place.deploy(kept)
    await place.deploy(kept)
    before = _floors(place.control)

    await place.control.versions.rollback(WS, "a", "main")

    assert before[first.version] == 0
    assert _floors(place.control)[first.version] == 1


def _floors(control: Control) -> dict[str, int]:
    return {one.key.version: one.floor() for one in control.scheduler._functions.values()}


async def test_what_was_led_to_in_part_still_is_after_a_restart(place: Place, tmp_path: Path) -> None:
    stable = await place.deploy()
    canary = await place.deploy(canary_percent=25.0)
    rules = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))

    again = Place(await open_control(await open_store(tmp_path), BlobStore(tmp_path / "blobs"), SystemClock(), rules))

    assert await again.percents() == [(stable.version, 75), (canary.version, 25)]
    assert set(await again.submit(200)) == {stable.version, canary.version}


async def test_a_plan_says_what_would_change_and_where_it_could_run_and_changes_nothing(place: Place) -> None:
    first = await place.deploy()
    large = replace(F, resources=Resources(cpu=1.5), timeout_seconds=5.0)
    lost = replace(F, name="g", resources=Resources(gpu=(GpuRequest(kind="A100"),)))

    plan = await place.control.deploys.plan(WS, Deploy(manifest=manifest(large, lost)))

    assert plan.difference.before == first.version
    assert Change(function="f", field="timeout_seconds", before=600.0, after=5.0) in plan.difference.changes
    assert Change(function="g", field="", before=False, after=True) in plan.difference.changes
    mine, other = plan.functions
    assert (mine.nodes, mine.why_nowhere, mine.cpu) == (("n1",), "", 1.5)
    assert other.nodes == ()
    assert other.why_nowhere.startswith("no_capacity:gpu: it asks for 1 × A100")
    assert await place.percents() == [(first.version, 100)]


async def test_two_versions_are_told_apart_field_by_field(place: Place) -> None:
    await place.deploy()
    await place.deploy(replace(F, timeout_seconds=5.0))
    await place.deploy(replace(F, timeout_seconds=5.0, grace_seconds=1.0))

    difference = await place.control.versions.difference(WS, "a", "main", "1", "2")

    assert difference.changes == (Change(function="f", field="timeout_seconds", before=600.0, after=5.0),)
    assert (await place.control.versions.difference(WS, "a", "main")).after != difference.after


def test_the_same_code_with_the_same_functions_changes_nothing() -> None:
    assert list(changes(manifest(), manifest())) == []


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"canary_percent": 101.0}, "that is no part of them"),
        ({"id": "v1"}, "no id of the form version-"),
        ({"tags": (("a", "1"), ("a", "2"))}, "each name once"),
        ({"commit": "x" * 300}, "200 at most"),
    ],
)
async def test_a_deploy_that_makes_no_sense_is_refused(place: Place, more: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        await place.deploy(**more)


async def test_a_node_that_comes_before_a_version_is_kept_makes_its_templates(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    rules = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))
    place = Place(await open_control(store, BlobStore(tmp_path / "blobs"), SystemClock(), rules))
    version = Version(workspace=WS, id="version-1", app="a", environment="main", manifest=manifest())

    place.control.scheduler.prepare([version.worker_spec(version.bind("f"))])
    place.connect()
    await place.has_orders.wait()

    assert len(place.asked) == 1
    await store.close()


async def test_a_promotion_is_held_to_the_labels_of_the_web_as_a_deploy_is(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.deploy(environment="staging")
    checked: list[str] = []
    monkeypatch.setattr(place.control.web, "check_labels", lambda version: checked.append(version.environment))

    await place.control.deploys.promote(WS, "a", "staging", "main")

    assert checked == ["main"]


async def test_what_waits_for_a_version_that_is_recreated_is_for_the_one_after_it(apart: Place) -> None:
    """In memory and in the store alone; what the new one has no function for is told so."""
    first = await apart.deploy(F, replace(F, name="gone"))
    waiting = await apart.calls(WINDOW + 50)
    lost = await apart.calls(1, function="gone")

    second = await apart.deploy(F, strategy=Strategy.RECREATE)
    await apart.settle(lambda: apart.control.scheduler.beyond_of(first.version) == 0)

    stored = await apart.control.calls._store.calls.existing(WS, waiting)
    assert {view.version for view in stored.values()} == {second.version}
    assert {view.state for view in stored.values()} == {CallState.QUEUED}
    assert apart.control.scheduler.backlog(second.version, "f") == WINDOW + 50
    assert apart.control.scheduler.backlog(first.version, "f") == 0
    (view,) = (await apart.control.calls._store.calls.existing(WS, lost)).values()
    assert view.state is CallState.FAILED
    assert view.failure is not None
    assert "cannot find function 'gone'" in view.failure.message


async def test_the_way_back_from_a_recreated_version_is_recreated_too(apart: Place) -> None:
    first = await apart.deploy()
    await apart.deploy(strategy=Strategy.RECREATE)
    waiting = await apart.calls(3)

    await apart.control.versions.rollback(WS, "a", "main")
    await apart.written()

    _, switches = await apart.control.versions.history(WS, "a", "main")
    assert [one.strategy for one in switches] == [Strategy.RECREATE, Strategy.RECREATE, Strategy.ROLLING]
    stored = await apart.control.calls._store.calls.existing(WS, waiting)
    assert {view.version for view in stored.values()} == {first.version}


async def test_a_server_that_comes_back_in_the_middle_of_it_goes_on(apart: Place) -> None:
    await apart.deploy()
    waiting = await apart.calls(3)
    store = apart.control.calls._store
    version = NewVersion(
        workspace=WS, id=new_id("version", now_ms()), app="a", environment="main", manifest=manifest(), at=1.0
    )
    led = Switch(at=2.0, how=How.DEPLOY, version=version.id, strategy=Strategy.RECREATE)
    await store.versions.deploy(version, led)  # and then it was killed

    again = await open_control(store, apart.control.blobs, SystemClock(), RULES)
    await apart.settle(lambda: again.scheduler.backlog(version.id, "f") == 3)

    stored = await store.calls.existing(WS, waiting)
    assert {view.version for view in stored.values()} == {version.id}


async def test_a_canary_and_strategies_that_have_none_are_not_for_one_deploy(apart: Place) -> None:
    with pytest.raises(InvalidRequest, match="with strategy recreate no worker of the version before is there"):
        await apart.deploy(strategy=Strategy.RECREATE, canary_percent=10.0)
    with pytest.raises(InvalidRequest, match="nothing serves in 'main' whose calls it could get copies of"):
        await apart.deploy(strategy=Strategy.SHADOW)
