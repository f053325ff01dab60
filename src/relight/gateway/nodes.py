"""Workers, nodes, and whether the server is well."""

from __future__ import annotations

from relight.gateway.exchange import Answer, Ask, json_answer
from relight.gateway.platform import Platform
from relight.gateway.render import plain
from relight.protocol.workers import WorkerState


async def health(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/health"""
    return json_answer({"status": "ok"})


async def workers(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/workers"""
    workers = platform.nodes.workers(ask.workspace)
    if ask.query("gone") == "true":
        here = {one.id for one in workers}
        gone = [one for one in await platform.nodes.past_workers(ask.workspace) if one.id not in here]
        workers = (*(one for one in gone if one.state is WorkerState.GONE), *workers)
    return json_answer({"workers": plain([one for one in workers if ask.app in ("", one.app)])})


async def nodes(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/nodes"""
    return json_answer({"nodes": plain(platform.nodes.nodes()), "now": platform.nodes.now()})
