"""Deploys, and what is deployed."""

from __future__ import annotations

from relight.gateway.exchange import Answer, Ask, frame_answer, json_answer
from relight.gateway.platform import Platform
from relight.gateway.render import plain
from relight.protocol.api import MAX_WAIT_SECONDS, Deploy


async def deploy(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/deploys"""
    message = await ask.frame(Deploy)
    ask.check_app(message.manifest.app)
    return frame_answer(await platform.deploys.deploy(ask.workspace, message))


async def apps(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/apps"""
    apps = await platform.deploys.apps(ask.workspace)
    return json_answer({"apps": plain([one for one in apps if ask.app in ("", one.app)])})


async def templates(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/apps/{app}/templates"""
    seconds = ask.whole("wait", 0, most=int(MAX_WAIT_SECONDS))
    environment = ask.query("environment", "main") or "main"
    work = platform.deploys.templates(ask.workspace, ask.params["app"], environment, seconds)
    return json_answer(plain(await ask.unless_gone(work)))


async def stop(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/apps/{app}/stop"""
    environment = ask.query("environment", "main") or "main"
    return json_answer({"cancelled": await platform.deploys.stop(ask.workspace, ask.params["app"], environment)})
