"""Deploys, and what is deployed."""

from __future__ import annotations

from relight.gateway.exchange import Answer, Ask, frame_answer, json_answer
from relight.gateway.platform import Platform
from relight.gateway.render import plain
from relight.protocol.api import Deploy


async def deploy(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/deploys"""
    return frame_answer(await platform.deploys.deploy(ask.workspace, await ask.frame(Deploy)))


async def apps(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/apps"""
    return json_answer({"apps": plain(await platform.deploys.apps(ask.workspace))})


async def stop(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/apps/{app}/stop"""
    environment = ask.query("environment", "main") or "main"
    return json_answer({"cancelled": await platform.deploys.stop(ask.workspace, ask.params["app"], environment)})
