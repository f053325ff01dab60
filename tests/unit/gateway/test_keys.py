"""Calls under a caller's own name for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from relight.protocol.payload import Payload

if TYPE_CHECKING:
    from conftest import Api

SQUARE = "/v1/apps/a/functions/square"


async def test_the_same_body_under_the_same_key_is_the_same_call(api: Api) -> None:
    api.platform.calls.result = Payload(format="json", data=b"49")

    replies = [
        await api.ask("POST", f"{SQUARE}/{verb}", b'{"x": 7}', Idempotency_Key="order-1")
        for verb in ("call", "call", "submit")
    ]

    assert len({reply.json.id for reply in replies}) == 1
    assert len(api.platform.calls.views) == 1
    assert (replies[1].status, replies[1].json.result) == (200, 49)


async def test_another_body_under_the_same_key_is_422(api: Api) -> None:
    await api.ask("POST", f"{SQUARE}/submit", b'{"x": 7}', Idempotency_Key="order-1")

    reply = await api.ask("POST", f"{SQUARE}/submit", b'{"x": 8}', Idempotency_Key="order-1")

    assert (reply.status, reply.json.code, len(api.platform.calls.views)) == (422, "key_reused", 1)


async def test_a_key_belongs_to_the_token_and_to_the_function(api: Api) -> None:
    for path, token in ((SQUARE, "rl_test"), (SQUARE, "call"), ("/v1/apps/a/functions/cube", "call")):
        reply = await api.ask_tcp("POST", f"{path}/submit", b"{}", Idempotency_Key="k", Authorization=f"Bearer {token}")
        assert reply.status == 202

    assert len(api.platform.calls.views) == 3


@pytest.mark.parametrize("key", ["k" * 256, "caf\xe9", "a\tb"])
async def test_what_is_no_key_is_refused(api: Api, key: str) -> None:
    reply = await api.ask("POST", f"{SQUARE}/submit", b"{}", Idempotency_Key=key)

    assert (reply.status, reply.json.code, api.platform.calls.views) == (400, "invalid_request", {})


async def test_who_asks_for_bytes_gets_what_the_function_returned(api: Api) -> None:
    api.platform.calls.result = Payload(format="raw", data=b"\x89PNG")

    reply = await api.ask("POST", f"{SQUARE}/call", b"{}", Accept="application/octet-stream")

    assert (reply.status, reply.headers["content-type"], reply.body) == (200, "application/octet-stream", b"\x89PNG")
