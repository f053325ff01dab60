"""What the store promises of versions, workers, tokens and lines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from relight.protocol.errors import Unavailable
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Manifest
from relight.protocol.versions import How, Switch
from relight.protocol.workers import WorkerState, WorkerView
from relight.store.database import Database
from relight.store.faults import Faults
from relight.store.rows import NewVersion, RouteRow, TokenRow, WorkerRow
from relight.store.store import Store

WS = "default"
IMAGE = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")


def manifest(name: str) -> Manifest:
    function = FunctionSpec(name=name, module="m", qualname=name, image=IMAGE)
    return Manifest(app="a", code=CodeBundle(digest="d" * 64, size=1, folder="/app"), functions=(function,))


def version(n: int, environment: str = "main") -> NewVersion:
    return NewVersion(
        workspace=WS, id=f"v{n}", app="a", environment=environment, manifest=manifest(f"f{n}"), at=float(n)
    )


def entered(state: WorkerState, at: float) -> WorkerRow:
    view = WorkerView(id="w1", node="n", app="a", environment="main", version="v", function="f", state=state, since=at)
    return WorkerRow(view=view, at=at, detail=state.value)


async def test_a_deploy_leads_the_name_to_the_new_version(store: Store) -> None:
    await store.versions.deploy(version(1))
    await store.versions.deploy(version(2))
    await store.versions.deploy(version(3, "staging"))

    assert await store.versions.route(WS, "a", "main") == RouteRow(version="v2", manifest=manifest("f2"))
    assert await store.versions.manifest(WS, "v1") == manifest("f1")
    assert [(view.environment, view.functions) for view in await store.versions.list(WS)] == [
        ("main", ("f2",)),
        ("staging", ("f3",)),
    ]


async def test_a_name_leads_in_part_to_a_canary(store: Store) -> None:
    await store.versions.deploy(version(1))
    switch = Switch(at=2.0, how=How.CANARY, version="v1", canary="v2", canary_percent=10.0, made_by="ci")
    await store.versions.deploy(version(2), switch)

    route = await store.versions.route(WS, "a", "main")

    assert route == RouteRow(
        version="v1", manifest=manifest("f1"), canary="v2", canary_manifest=manifest("f2"), canary_percent=10.0
    )
    assert [(one.id, one.percent) for one in await store.versions.history(WS, "a", "main")] == [("v1", 90), ("v2", 10)]
    assert (await store.versions.switches(WS, "a", "main"))[0] == switch


async def test_who_made_a_version_and_of_what_is_kept_in_the_order_of_deploys(store: Store) -> None:
    row = replace(version(2), made_by="ci", commit="abc", tags=(("team", "a"),), source="v0")
    await store.versions.deploy(version(1))
    await store.versions.deploy(row)
    await store.versions.deploy(version(3, "staging"))

    first, second = await store.versions.history(WS, "a", "main")

    assert (first.number, first.percent, second.number, second.percent) == (1, 0, 2, 100)
    assert (second.made_by, second.commit, second.tags, second.source, second.at) == (
        "ci",
        "abc",
        (("team", "a"),),
        "v0",
        2,
    )


async def test_a_name_can_be_led_back_and_nowhere(store: Store) -> None:
    await store.versions.deploy(version(1))
    await store.versions.deploy(version(2))
    await store.versions.switch(WS, "a", "main", Switch(at=3.0, how=How.ROLLBACK, version="v1"))
    back = await store.versions.route(WS, "a", "main")
    await store.versions.switch(WS, "a", "main", Switch(at=4.0, how=How.STOP, version=""))

    assert back == RouteRow(version="v1", manifest=manifest("f1"))
    assert await store.versions.route(WS, "a", "main") is None
    history = await store.versions.switches(WS, "a", "main")
    assert [(one.how, one.version) for one in history] == [
        (How.STOP, ""),
        (How.ROLLBACK, "v1"),
        (How.DEPLOY, "v2"),
        (How.DEPLOY, "v1"),
    ]


async def test_a_deploy_that_fails_changes_nothing(store: Store) -> None:
    await store.versions.deploy(version(1))

    with pytest.raises(Unavailable):
        await store.versions.deploy(version(1))

    assert await store.versions.route(WS, "a", "main") == RouteRow(version="v1", manifest=manifest("f1"))


async def test_a_removed_route_leads_nowhere_and_its_version_is_kept(store: Store) -> None:
    await store.versions.deploy(version(1))
    await store.versions.switch(WS, "a", "main", Switch(at=2.0, how=How.STOP, version=""))

    assert await store.versions.route(WS, "a", "main") is None
    assert await store.versions.manifest(WS, "v1") == manifest("f1")


async def test_the_intervals_of_a_worker_tile_its_life_even_when_clocks_go_back(store: Store) -> None:
    states = [
        (WorkerState.REQUESTED, 1.0),
        (WorkerState.STARTING, 3.0),
        (WorkerState.READY, 2.0),
        (WorkerState.GONE, 9.0),
    ]
    for state, at in states:
        await store.workers.record(WS, [entered(state, at)])

    intervals = await store.workers.intervals(WS, "w1")

    assert [one.state for one in intervals] == [state for state, _ in states]
    assert [one.since for one in intervals[1:]] == [one.until for one in intervals[:-1]]
    assert intervals[-1].until == intervals[-1].since
    assert await store.workers.list(WS) == ()
    assert [view.state for view in await store.workers.list(WS, include_gone=True)] == [WorkerState.GONE]


async def test_a_long_life_is_shown_by_its_beginning_and_what_overlaps_a_time(store: Store) -> None:
    states = [WorkerState.REQUESTED, WorkerState.PLACING, WorkerState.PULLING, WorkerState.STARTING, WorkerState.READY]
    states += [WorkerState.BUSY, WorkerState.IDLE] * 20
    await store.workers.record(WS, [entered(state, float(at)) for at, state in enumerate(states)])

    whole = await store.workers.intervals(WS, "w1")
    middle = await store.workers.intervals(WS, "w1", since=20.5, until=22.5)
    now = await store.workers.intervals(WS, "w1", since=44.5)

    assert [one.since for one in whole] == [float(at) for at in range(45)]
    assert [one.since for one in middle] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 20.0, 21.0, 22.0]
    assert [one.since for one in now] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 44.0]


async def test_each_scheduler_begins_a_greater_epoch(store: Store) -> None:
    assert await store.epochs.begin() < await store.epochs.begin()


async def test_a_token_is_known_until_it_is_removed(store: Store) -> None:
    row = TokenRow(workspace=WS, id="t1", hash="h", at=1.0)
    await store.tokens.add(row)
    await store.tokens.add(TokenRow(workspace=WS, id="t2", hash="h", at=2.0))
    before = await store.tokens.all()

    await store.tokens.remove(WS, "t1")

    assert before == (row,)
    assert await store.tokens.all() == ()


async def test_a_token_is_kept_with_all_it_is_good_for_and_when_it_was_used(store: Store) -> None:
    row = TokenRow(workspace=WS, id="t1", hash="h", at=1.0, name="ci", scope="call", app="shop", expires_at=9.0)
    await store.tokens.add(row)

    await store.tokens.use([(WS, "t1", 5.0), ("other", "t1", 8.0)])
    await store.tokens.use([(WS, "t1", 4.0)])

    assert await store.tokens.all() == (replace(row, last_used_at=5.0),)


async def test_a_token_of_no_known_scope_is_refused(store: Store) -> None:
    with pytest.raises(Unavailable, match="CHECK constraint"):
        await store.tokens.add(TokenRow(workspace=WS, id="t1", hash="h", at=1.0, scope="root"))


async def test_a_store_that_a_newer_relight_wrote_is_refused(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", schema="main", synchronous="FULL", faults=Faults())
    await database.write("version", lambda connection: connection.execute("PRAGMA user_version = 99").rowcount)
    await database.close()

    with pytest.raises(Unavailable, match="newer relight"):
        Database(tmp_path / "x.db", schema="main", synchronous="FULL", faults=Faults())
