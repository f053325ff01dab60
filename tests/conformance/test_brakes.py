"""What holds up the starts of functions is kept, replaced, and forgotten."""

from __future__ import annotations

from dataclasses import replace

from relight.store.brakes import BrakeRow
from relight.store.store import Store

ROW = BrakeRow(
    workspace="w",
    version="v",
    function="f",
    binding="",
    crashes=2,
    crashed_at=10.0,
    blocked_until=10.1,
    reason="out_of_memory",
    message="a worker of f ran out of memory",
)


async def test_the_newest_is_kept_of_each_function(store: Store) -> None:
    await store.brakes.put(ROW)
    await store.brakes.put(replace(ROW, crashes=3, blocked_until=10.2))
    await store.brakes.put(replace(ROW, binding="{}"))

    assert await store.brakes.all() == (replace(ROW, crashes=3, blocked_until=10.2), replace(ROW, binding="{}"))


async def test_one_that_is_well_again_is_not_kept(store: Store) -> None:
    await store.brakes.put(ROW)
    await store.brakes.put(replace(ROW, function="g"))
    await store.brakes.remove(ROW)

    assert [row.function for row in await store.brakes.all()] == ["g"]


async def test_what_is_long_past_is_forgotten(store: Store) -> None:
    await store.brakes.put(ROW)
    await store.brakes.put(replace(ROW, function="g", blocked_until=20.0))
    await store.brakes.forget(15.0)

    assert [row.function for row in await store.brakes.all()] == ["g"]
