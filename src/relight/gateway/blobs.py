"""Bytes by their SHA-256, streamed both ways."""

from __future__ import annotations

from relight.gateway.exchange import BYTES_TYPE, Answer, Ask, StreamAnswer
from relight.gateway.platform import Platform
from relight.protocol.errors import InvalidRequest, NotFound

_HEX = frozenset("0123456789abcdef")


async def head(platform: Platform, ask: Ask) -> StreamAnswer:
    """HEAD /v1/blobs/{digest}"""
    return await get(platform, ask)  # the server of HTTP leaves the body out


async def get(platform: Platform, ask: Ask) -> StreamAnswer:
    """GET /v1/blobs/{digest}"""
    digest = _digest(ask)
    if not platform.blobs.has(digest):
        raise NotFound(f"cannot find blob {digest}: it is not kept here; upload it with PUT")
    return StreamAnswer(parts=platform.blobs.read(digest), type=BYTES_TYPE, length=platform.blobs.size(digest))


async def put(platform: Platform, ask: Ask) -> Answer:
    """PUT /v1/blobs/{digest}"""
    digest = _digest(ask)
    await platform.blobs.put(ask.stream(ask.limits.blob_bytes), digest)
    return Answer(status=201)


def _digest(ask: Ask) -> str:
    digest = ask.params["digest"]
    if len(digest) != 64 or not _HEX.issuperset(digest):
        raise InvalidRequest(
            f"cannot name a blob {digest[:80]!r}: that is no SHA-256; name it by that of its bytes, in 64 hex digits"
        )
    return digest
