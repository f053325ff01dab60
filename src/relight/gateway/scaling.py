"""The workers and the queue of a function: what is asked of them, and what comes of it."""

from __future__ import annotations

from relight.gateway.exchange import Answer, Ask, json_answer
from relight.gateway.platform import Platform
from relight.gateway.render import plain
from relight.gateway.schemas import environment_of
from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import Json

MAX_RERUN = 10_000
"""So many calls one request makes once more at most."""


async def show(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/apps/{app}/functions/{function}/scaling"""
    return json_answer(plain(await platform.tunings.show(_name(ask))))


async def update(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/apps/{app}/functions/{function}/scaling"""
    return json_answer(plain(await platform.tunings.update(_name(ask), await _object(ask))))


async def report(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/apps/{app}/functions/{function}/metrics"""
    await platform.tunings.report(_name(ask), ask.worker, await _object(ask))
    return json_answer({})


async def show_queue(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/apps/{app}/functions/{function}/queue"""
    return json_answer(plain(await platform.queues.show(_name(ask))))


async def pause(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/apps/{app}/functions/{function}/queue/pause"""
    return json_answer(plain(await platform.queues.pause(_name(ask), is_paused=True)))


async def resume(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/apps/{app}/functions/{function}/queue/resume"""
    return json_answer(plain(await platform.queues.pause(_name(ask), is_paused=False)))


async def purge(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/apps/{app}/functions/{function}/queue/purge"""
    return json_answer({"cancelled": await platform.queues.purge(_name(ask))})


async def dead(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/apps/{app}/functions/{function}/queue/dead"""
    return json_answer(plain(await platform.queues.dead(_name(ask), ask.whole("limit", 50, most=1000))))


async def rerun(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/apps/{app}/functions/{function}/queue/rerun"""
    calls = await platform.queues.rerun(_name(ask), ask.whole("limit", MAX_RERUN, most=MAX_RERUN))
    return json_answer({"calls": list(calls)})


def _name(ask: Ask) -> tuple[str, str, str, str]:
    return ask.workspace, ask.params["app"], environment_of(ask), ask.params["function"].partition(".")[0]


async def _object(ask: Ask) -> dict[str, Json]:
    _, said = await ask.json()
    if not isinstance(said, dict):
        raise InvalidRequest(
            f'cannot read a body of {str(said)[:40]}: it is no object; send one, such as {{"max_workers": 5}}'
        )
    return said
