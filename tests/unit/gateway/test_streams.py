"""Logs, runs and blobs: what is streamed."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from relight.protocol.views import LogQuery

if TYPE_CHECKING:
    from conftest import Api

RUN = "run-01kb0000000000000000000000"
DATA = b"0123456789" * 20_000
DIGEST = hashlib.sha256(DATA).hexdigest()


async def test_logs_are_one_json_object_a_line(api: Api) -> None:
    reply = await api.ask("GET", "/v1/logs?call=c&after=4&limit=10&search=two%20words")

    assert [json.loads(line)["text"] for line in reply.body.splitlines()] == ["line 1", "line 2"]
    assert api.platform.logs.asked == [LogQuery(call="c", after=4, limit=10, search="two words")]


async def test_logs_are_asked_for_by_time_source_and_number(api: Api) -> None:
    await api.ask("GET", "/v1/logs?source=stderr&since=1.5&until=9&tail=7&ignore_case=1&worker=w&function=f")

    assert api.platform.logs.asked == [
        LogQuery(source="stderr", since=1.5, until=9.0, tail=7, ignore_case=True, worker="w", function="f")
    ]


@pytest.mark.parametrize("wrong", ["source=elsewhere", "since=yesterday", "tail=10001", "limit=-1", "until=nan"])
async def test_a_question_about_logs_that_makes_no_sense_is_refused(api: Api, wrong: str) -> None:
    reply = await api.ask("GET", f"/v1/logs?{wrong}")

    assert (reply.status, reply.json.code) == (400, "invalid_request")
    assert wrong.partition("=")[0] in reply.json.detail


async def test_followed_logs_come_at_once_and_stop_when_the_reader_leaves(api: Api) -> None:
    reader, writer = await api.open()

    writer.write(b"GET /v1/logs?follow=1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b'"line 2"'), 10)
    assert not api.platform.logs.closed.is_set()
    writer.close()

    await asyncio.wait_for(api.platform.logs.closed.wait(), 10)


async def test_followed_logs_do_not_hold_up_a_server_that_stops(api: Api) -> None:
    reader, writer = await api.open()
    writer.write(b"GET /v1/logs?follow=1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b'"line 2"'), 10)

    api.server.stop()

    await asyncio.wait_for(api.serving, 10)
    assert api.platform.logs.closed.is_set()
    writer.close()


async def test_a_run_streams_its_lines_and_its_end(api: Api) -> None:
    reply = await api.ask("GET", f"/v1/runs/{RUN}/attach?after=6")

    lines = [json.loads(line) for line in reply.body.splitlines()]
    assert (lines[0]["log"]["text"], lines[1]) == ("line 7", {"event": "ended"})


async def test_a_run_that_is_not_there_is_404_before_its_stream_begins(api: Api) -> None:
    assert (await api.ask("GET", "/v1/runs/run-9/attach")).status == 404


async def test_a_run_is_stopped_with_or_without_its_calls(api: Api) -> None:
    reply = await api.ask("POST", f"/v1/runs/{RUN}/stop", b'{"cancel": false}')

    assert reply.json.unfinished == 2
    assert api.platform.runs.stops == [(RUN, False)]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"cancel": 1}', b"[]"])
async def test_a_run_is_not_stopped_by_half_a_word(api: Api, body: bytes) -> None:
    assert (await api.ask("POST", f"/v1/runs/{RUN}/stop", body)).status == 400
    assert api.platform.runs.stops == []


async def test_a_blob_goes_up_and_comes_back(api: Api) -> None:
    before = await api.ask("HEAD", f"/v1/blobs/{DIGEST}")
    put = await api.ask("PUT", f"/v1/blobs/{DIGEST}", DATA)
    after = await api.ask("HEAD", f"/v1/blobs/{DIGEST}")
    got = await api.ask("GET", f"/v1/blobs/{DIGEST}")

    assert (before.status, put.status, after.status, got.body) == (404, 201, 200, DATA)
    assert (after.headers["content-length"], after.body) == (str(len(DATA)), b"")


async def test_bytes_that_are_not_those_of_the_name_are_refused(api: Api) -> None:
    reply = await api.ask("PUT", f"/v1/blobs/{DIGEST}", b"other")

    assert (reply.status, reply.json.code) == (400, "invalid_request")
    assert api.platform.blobs.kept == {}


@pytest.mark.parametrize("name", ["abc", "..%2f..%2fetc%2fpasswd", "A" * 64])
async def test_what_is_no_digest_names_no_blob(api: Api, name: str) -> None:
    assert (await api.ask("GET", f"/v1/blobs/{name}")).status == 400


async def test_an_upload_that_breaks_off_keeps_nothing(api: Api) -> None:
    _, writer = await api.open()

    writer.write(
        f"PUT /v1/blobs/{DIGEST} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(DATA)}\r\n\r\n".encode() + DATA[:100]
    )
    await writer.drain()
    writer.close()

    await asyncio.wait_for(api.platform.blobs.broken_off.wait(), 10)
    assert api.platform.blobs.kept == {}


async def test_an_upload_in_chunks_is_bounded_too(api: Api) -> None:
    reader, writer = await api.open()

    writer.write(f"PUT /v1/blobs/{DIGEST} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode())
    for _ in range(11):
        writer.write(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
    answer = await asyncio.wait_for(reader.readline(), 10)
    writer.close()

    assert answer.startswith(b"HTTP/1.1 413 ")
