"""Calling a deployed function in JSON: an object is its keyword arguments, an array its positional ones."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from relight.clock import now_ms
from relight.gateway import events, items
from relight.gateway.calls import check_success, inlined, pending_answer, python_only, value_answer
from relight.gateway.exchange import BYTES_TYPE, Answer, Ask, StreamAnswer, json_answer
from relight.gateway.platform import Platform
from relight.gateway.render import json_value, plain
from relight.gateway.schemas import check_body, environment_of
from relight.protocol.api import MAX_WAIT_SECONDS, Await
from relight.protocol.calls import CallKey, CallRequest, CallView
from relight.protocol.errors import InvalidRequest
from relight.protocol.ids import new_id
from relight.protocol.payload import INLINE_BYTES, JSON, RAW, Payload

SOFT, STRICT = "soft", "strict"
KEY_LETTERS = 255
"""No Idempotency-Key is longer."""


async def call(platform: Platform, ask: Ask) -> Answer | StreamAnswer:
    """POST /v1/apps/{app}/functions/{function}/call"""
    patience = _preferred_wait(ask.header(b"prefer"))
    if patience != 0 and await _makes_items(platform, ask):
        return await items.stream(platform, ask, await _submit(platform, ask))
    seconds = 0.0 if ask.header(b"idempotency-key") else _at_most(patience)
    view = await _submit(platform, ask, seconds)
    left = None if patience is None else patience - seconds
    view = await ask.unless_gone(_wait(platform, ask.workspace, view, left))
    if not view.state.is_final:
        return pending_answer(view)
    check_success(view)
    payload = view.result or Payload(format=JSON, data=b"null")
    if _wants_bytes(ask):
        return await value_answer(platform, view, payload)
    payload = await inlined(platform, payload, ask.limits.json_bytes)
    is_value, value = json_value(payload)
    if not is_value:
        return python_only(view, payload)
    return json_answer({"id": view.id, "state": view.state.value, "result": value})


async def submit(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/apps/{app}/functions/{function}/submit"""
    return pending_answer(await _submit(platform, ask))


async def stream(platform: Platform, ask: Ask) -> StreamAnswer:
    """POST /v1/apps/{app}/functions/{function}/stream"""
    view = await _submit(platform, ask)
    return events.stream(platform, ask, view, makes_items=await _makes_items(platform, ask))


async def show(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/apps/{app}/functions/{function}"""
    function = ask.params["function"].partition(".")[0]
    spec = await platform.deploys.function(ask.workspace, ask.params["app"], environment_of(ask), function)
    return json_answer(plain(spec))


async def stats(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/apps/{app}/functions/{function}/stats"""
    function = ask.params["function"].partition(".")[0]
    return json_answer(
        plain(await platform.deploys.stats(ask.workspace, ask.params["app"], environment_of(ask), function))
    )


async def urls(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/apps/{app}/urls"""
    return json_answer({"urls": await platform.web.urls_of(ask.workspace, ask.params["app"], environment_of(ask))})


async def _submit(platform: Platform, ask: Ask, wait_seconds: float = 0.0) -> CallView:
    """Submit what was asked for; wait for its end, which one with an Idempotency-Key is not."""
    body, said = await ask.json()
    key = _key(ask, body)
    known = await platform.calls.named(ask.workspace, key) if key is not None else None
    if known is not None:
        return known
    data = arguments(body, said)
    await check_body(platform, ask, body, said)
    function, _, method = ask.params["function"].partition(".")
    request = CallRequest(
        id=new_id("call", now_ms()),
        app=ask.params["app"],
        function=function,
        method=method,
        environment=environment_of(ask),
        binding=ask.query("binding", ""),
        payload=await _payload(platform, data),
        accept=(RAW, JSON) if _wants_bytes(ask) else (JSON,),
        session=ask.header(b"relight-session"),
        is_strict=_is_strict(ask),
        priority=_priority(ask.query("priority", "0")),
        key=ask.query("key"),
    )
    work = platform.calls.submit_once(ask.workspace, request, key, wait_seconds=wait_seconds, worker=ask.worker)
    return await (ask.unless_gone(work) if wait_seconds else work)


def _key(ask: Ask, body: bytes) -> CallKey | None:
    """What the caller named the call; None where nothing.  Raises InvalidRequest for what is no name."""
    key = ask.header(b"idempotency-key")
    if not key:
        return None
    if len(key) > KEY_LETTERS or not key.isascii() or not key.isprintable():
        raise InvalidRequest(
            f"cannot read Idempotency-Key {key[:40]!r}: it has {len(key)} characters; "
            f"send 1 to {KEY_LETTERS} printable ones of ASCII, a UUID say"
        )
    place = f"{environment_of(ask)}/{ask.params['app']}/{ask.params['function']}"
    asked = hashlib.sha256(b"\0".join((ask.query("binding").encode(), body))).hexdigest()
    owner = "worker" if ask.worker else ask.principal.token_id
    return CallKey(owner=owner, function=place, key=key, digest=asked)


def _is_strict(ask: Ask) -> bool:
    affinity = ask.header(b"relight-affinity").lower() or SOFT
    if affinity not in (SOFT, STRICT):
        raise InvalidRequest(
            f"cannot read Relight-Affinity {affinity[:40]!r}: it is {SOFT!r} or {STRICT!r}; send one of them"
        )
    return affinity == STRICT


def _wants_bytes(ask: Ask) -> bool:
    """Whether the caller asks for the result as the bytes that it is."""
    return ask.header(b"accept").partition(",")[0].partition(";")[0].strip().lower() == BYTES_TYPE


def _priority(text: str) -> int:
    """Raises InvalidRequest when it is no whole number."""
    try:
        return int(text[:5])
    except ValueError:
        raise InvalidRequest(
            f"cannot read priority={text[:40]!r}: it is no whole number; give one from -100 to 100"
        ) from None


def arguments(body: bytes, said: object) -> bytes:
    """What users post as an input payload.  The text is kept as it came, so that no number changes on the way."""
    if isinstance(said, dict):
        return b'{"args":[],"kwargs":' + body + b"}"
    if isinstance(said, list):
        return b'{"args":' + body + b',"kwargs":{}}'
    if not body:
        return b'{"args":[],"kwargs":{}}'
    raise InvalidRequest(
        f"cannot call with a body of {str(said)[:40]}: it holds no arguments; "
        "send an object (keyword arguments) or an array (positional ones)"
    )


async def _payload(platform: Platform, data: bytes) -> Payload:
    if len(data) <= INLINE_BYTES:
        return Payload(format=JSON, data=data, size=len(data))
    digest = hashlib.sha256(data).hexdigest()
    if not platform.blobs.has(digest):
        await platform.blobs.put(_once(data), digest)
    return Payload(format=JSON, blob=digest, size=len(data))


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _makes_items(platform: Platform, ask: Ask) -> bool:
    function, _, name = ask.params["function"].partition(".")
    spec = await platform.deploys.function(ask.workspace, ask.params["app"], environment_of(ask), function)
    method = spec.method(name)
    return method is not None and method.is_generator


async def _wait(platform: Platform, workspace: str, view: CallView, patience: float | None) -> CallView:
    """Wait for the end, `patience` seconds at most; None is without bound, as long as the caller is there."""
    left = patience
    while not view.state.is_final and (left is None or left > 0):
        seconds = _at_most(left)
        left = None if left is None else left - seconds
        view = (await platform.calls.wait(workspace, Await(ids=(view.id,), wait_seconds=seconds))).calls[0]
    return view


def _at_most(patience: float | None) -> float:
    """For how long one look at a call may wait."""
    return MAX_WAIT_SECONDS if patience is None else min(patience, MAX_WAIT_SECONDS)


def _preferred_wait(header: str) -> float | None:
    """`Prefer: wait=5`, or `respond-async`, which is not to wait at all (RFC 7240)."""
    for part in header.lower().split(","):
        name, _, value = part.partition(";")[0].strip().partition("=")
        if name == "respond-async":
            return 0.0
        if name == "wait" and value.strip('"').isdecimal():
            return float(value.strip('"')[:6])
    return None
