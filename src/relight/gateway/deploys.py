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
    work = platform.deploys.deploy(ask.workspace, message, made_by=_who(platform, ask))
    return frame_answer(await work)


async def plan(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/deploys/plan"""
    message = await ask.frame(Deploy)
    ask.check_app(message.manifest.app)
    return json_answer(plain(await platform.deploys.plan(ask.workspace, message)))


async def apps(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/apps"""
    apps = await platform.deploys.apps(ask.workspace)
    return json_answer({"apps": plain([one for one in apps if ask.app in ("", one.app)])})


async def templates(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/apps/{app}/templates"""
    seconds = ask.whole("wait", 0, most=int(MAX_WAIT_SECONDS))
    work = platform.deploys.templates(ask.workspace, ask.params["app"], _environment(ask), seconds)
    return json_answer(plain(await ask.unless_gone(work)))


async def stop(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/apps/{app}/stop"""
    work = platform.deploys.stop(ask.workspace, ask.params["app"], _environment(ask), made_by=_who(platform, ask))
    return json_answer({"cancelled": await work})


async def versions(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/apps/{app}/versions"""
    history, switches = await platform.versions.history(ask.workspace, ask.params["app"], _environment(ask))
    return json_answer({"versions": plain(history), "switches": plain(switches)})


async def diff(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/apps/{app}/diff"""
    work = platform.versions.difference(
        ask.workspace, ask.params["app"], _environment(ask), ask.query("before"), ask.query("after")
    )
    return json_answer(plain(await work))


async def rollback(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/apps/{app}/rollback"""
    work = platform.versions.rollback(
        ask.workspace, ask.params["app"], _environment(ask), ask.query("to"), _who(platform, ask)
    )
    return json_answer(plain(await work))


async def promote(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/apps/{app}/promote"""
    work = platform.deploys.promote(
        ask.workspace,
        ask.params["app"],
        ask.query("from", "staging"),
        _environment(ask),
        version=ask.query("id"),
        made_by=_who(platform, ask),
    )
    return json_answer(plain(await work))


async def canary(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/apps/{app}/canary"""
    percent = ask.number("percent", 100.0, most=100.0)
    work = platform.versions.shift(ask.workspace, ask.params["app"], _environment(ask), percent, _who(platform, ask))
    return json_answer(plain(await work))


def _environment(ask: Ask) -> str:
    return ask.query("environment", "main") or "main"


def _who(platform: Platform, ask: Ask) -> str:
    """The name of the token that was shown, "" where none was needed."""
    token = platform.tokens.get(ask.principal)
    return token.name if token is not None else ""
