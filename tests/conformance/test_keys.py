"""Keys of callers, in every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from relight.protocol.calls import CallKey, CallRequest
from relight.protocol.payload import Payload
from relight.store.rows import NamedCall, NewCall
from relight.store.store import Store, open_store

WS = "default"
KEY = CallKey(owner="token-1", function="main/a/f", key="order-1", digest="of 7")


def call(name: str, at: float = 100.0) -> NewCall:
    """A call."""
    request = CallRequest(id=name, app="a", function="f", payload=Payload(format="json", data=b"{}"))
    return NewCall(request=request, version="v", at=at)


async def test_of_many_that_ask_at_once_one_is_kept(store: Store) -> None:
    named = await asyncio.gather(*(store.keys.submit(WS, KEY, call(f"call-{n}"), expired=0.0) for n in range(20)))

    assert [one.is_new for one in named] == [True] + [False] * 19
    assert {one.call for one in named} == {"call-0"}
    assert set(await store.calls.existing(WS, [f"call-{n}" for n in range(20)])) == {"call-0"}


async def test_a_key_of_another_owner_function_or_workspace_is_another_key(store: Store) -> None:
    others = (replace(KEY, owner="token-2"), replace(KEY, function="main/a/g"), replace(KEY, key="order-2"))
    await store.keys.submit(WS, KEY, call("call-0"), expired=0.0)

    named = [await store.keys.submit(WS, key, call(f"call-{n}"), expired=0.0) for n, key in enumerate(others, 1)]

    assert all(one.is_new for one in named)
    assert await store.keys.named("other", KEY, expired=0.0) is None


async def test_a_key_says_what_was_asked_under_it(store: Store) -> None:
    await store.keys.submit(WS, KEY, call("call-0"), expired=0.0)

    again = await store.keys.submit(WS, replace(KEY, digest="of 8"), call("call-1"), expired=0.0)

    assert again == NamedCall(call="call-0", digest="of 7")


async def test_a_key_that_has_expired_is_taken_anew_and_forgotten(store: Store) -> None:
    await store.keys.submit(WS, KEY, call("call-0", at=100.0), expired=0.0)
    await store.keys.submit(WS, replace(KEY, key="order-2"), call("call-1", at=300.0), expired=0.0)

    assert await store.keys.named(WS, KEY, expired=100.0) is None
    assert (await store.keys.submit(WS, KEY, call("call-2", at=200.0), expired=100.0)).is_new
    assert [await store.keys.forget(250.0), await store.keys.forget(250.0)] == [1, 0]


async def test_a_key_outlives_the_store_that_kept_it(tmp_path: Path) -> None:
    first = await open_store(tmp_path)
    await first.keys.submit(WS, KEY, call("call-0"), expired=0.0)
    await first.close()

    second = await open_store(tmp_path)
    named = await second.keys.named(WS, KEY, expired=0.0)
    await second.close()

    assert named == NamedCall(call="call-0", digest="of 7")
