"""Who may ask, from where, and how much."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from relight.gateway import connection
from relight.gateway.exchange import Ask, Body, Head, Limits, Peer
from relight.gateway.guard import Hosts, authenticate
from relight.protocol.errors import Forbidden

if TYPE_CHECKING:
    from conftest import Api, FakeTokens

BEARER = "Bearer rl_test"


async def test_over_tcp_a_request_without_a_token_is_401_in_problem_json(api: Api) -> None:
    reply = await api.ask_tcp("GET", "/v1/apps")

    assert reply.status == 401
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert (reply.json.code, reply.json.status, reply.json.title) == ("unauthenticated", 401, "Unauthorized")


@pytest.mark.parametrize("header", ["Bearer wrong", "Basic rl_test", "rl_test", "Bearer"])
async def test_over_tcp_only_the_right_token_lets_in(api: Api, header: str) -> None:
    refused = await api.ask_tcp("GET", "/v1/apps", Authorization=header)
    taken = await api.ask_tcp("GET", "/v1/apps", Authorization=BEARER)

    assert (refused.status, taken.status) == (401, 200)


async def test_over_the_local_socket_the_servers_own_user_needs_no_token(api: Api) -> None:
    assert (await api.ask("GET", "/v1/apps")).status == 200


def test_another_user_of_the_machine_is_refused_on_the_local_socket() -> None:
    ask = Ask(Head(method="GET", path="/v1/apps"), Body(), Peer(uid=os.geteuid() + 1), Limits())

    with pytest.raises(Forbidden, match="use its URL and a token"):
        authenticate(ask, _NoTokens())


async def test_the_health_of_the_server_needs_no_token(api: Api) -> None:
    reply = await api.ask_tcp("GET", "/v1/health")

    assert (reply.status, reply.json.status) == (200, "ok")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8700", "10.0.0.1", "0.0.0.0", ""])
async def test_a_name_led_to_this_machine_is_not_answered(api: Api, host: str) -> None:
    reply = await api.ask_tcp("GET", "/v1/health", Host=host)

    assert (reply.status, reply.json.code) == (421, "forbidden")


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8700", "LOCALHOST", "relight.example"])
async def test_this_servers_own_names_are_answered(api: Api, host: str) -> None:
    assert (await api.ask_tcp("GET", "/v1/health", Host=host)).status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
async def test_a_page_of_another_origin_is_refused_even_with_a_token(api: Api, origin: str) -> None:
    reply = await api.ask_tcp("POST", "/v1/apps/a/stop", Authorization=BEARER, Origin=origin)

    assert (reply.status, reply.json.code) == (403, "forbidden")
    assert api.platform.deploys.stopped == []


async def test_a_page_of_this_server_is_answered(api: Api) -> None:
    origin = f"http://127.0.0.1:{api.port}"

    assert (await api.ask_tcp("GET", "/v1/apps", Authorization=BEARER, Origin=origin)).status == 200


def test_a_server_on_every_address_takes_addresses_but_no_foreign_names() -> None:
    hosts = Hosts.of("0.0.0.0", ())

    assert hosts.take("192.168.1.4:8700")
    assert hosts.take("[2001:db8::1]:8700")
    assert not hosts.take("evil.example")


def test_a_server_on_one_address_takes_its_name() -> None:
    assert Hosts.of("192.168.1.4", ()).take("192.168.1.4:8700")
    assert not Hosts.of("192.168.1.4", ()).take("192.168.1.5:8700")


async def test_a_body_longer_than_announced_is_refused_before_it_is_read(api: Api) -> None:
    reply = await api.ask("PUT", "/v1/blobs/" + "0" * 64, b"x" * 1_000_001)

    assert (reply.status, reply.json.code) == (413, "too_large")
    assert "1000000" in reply.json.detail


async def test_a_json_body_over_the_limit_is_413(api: Api) -> None:
    reply = await api.ask("POST", "/v1/apps/a/functions/square/submit", b"[" + b" " * 400_000 + b"]")

    assert (reply.status, reply.json.code) == (413, "too_large")


async def test_a_head_over_the_limit_is_431_and_ends_the_connection(api: Api) -> None:
    reader, writer = await api.open()

    writer.write(b"GET /v1/health HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 70_000 + b"\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"application/problem+json" in answer


async def test_a_head_that_does_not_come_is_408(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.05)
    reader, writer = await api.open()

    writer.write(b"GET /v1/health HTTP/1.1\r\nhost: local")
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()

    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_what_is_not_http_is_a_problem_too(api: Api) -> None:
    reader, writer = await api.open()

    writer.write(b"\x16\x03\x01 hello\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"invalid_request"' in answer


async def test_a_connection_too_many_is_503_and_the_others_go_on(api: Api) -> None:
    first = await api.open()
    others = [await api.open() for _ in range(19)]
    reader, writer = await api.open()

    refused = await asyncio.wait_for(reader.read(), 10)
    first[1].write(b"GET /v1/health HTTP/1.1\r\nhost: localhost\r\n\r\n")
    taken = await asyncio.wait_for(first[0].readline(), 10)
    for _, one in [first, *others, (reader, writer)]:
        one.close()

    assert refused.startswith(b"HTTP/1.1 503 ")
    assert taken.startswith(b"HTTP/1.1 200 ")


async def test_an_unknown_path_is_404_in_problem_json(api: Api) -> None:
    reply = await api.ask("GET", "/v1/nothing")

    assert (reply.status, reply.json.code) == (404, "not_found")
    assert "/openapi.json" in reply.json.detail


async def test_a_wrong_method_is_405_and_names_the_right_ones(api: Api) -> None:
    reply = await api.ask("DELETE", "/v1/calls")

    assert (reply.status, reply.headers["allow"]) == (405, "GET, POST")


async def test_a_fault_of_ours_is_500_without_its_inside(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    reply = await api.ask("POST", "/v1/apps/a/functions/broken/call", b"{}")

    assert (reply.status, reply.json.code) == (500, "internal")
    assert "a fault of ours" not in reply.json.detail
    assert "a fault of ours" in caplog.text


class _NoTokens:
    def verify(self, token: str, /) -> FakeTokens:
        raise AssertionError("not asked")

    def local(self) -> FakeTokens:
        raise AssertionError("not asked")
