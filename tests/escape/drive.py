"""Has everything tried on a server, and prints what came of it as JSON.  Run as whoever runs the server, from a copy of this folder."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import app_escape
import app_hogs
import app_imports

import relight


def told(ask: Callable[[], Any]) -> Any:
    """What a call answers, or how it ended."""
    try:
        return ask()
    except relight.RelightError as error:
        return f"{type(error).__name__}: {error}"


def escapes() -> dict[str, Any]:
    """Each place, and what became of the attempts there."""
    app = app_escape.app
    app.deploy()
    return {name: told(function.remote) for name, function in app.functions.items()}


def templates() -> dict[str, Any]:
    """Those whose templates hog or lie, one app after the other, and how the neighbour was meanwhile."""
    app_hogs.app.deploy()
    found: dict[str, Any] = {}
    waits = []
    for what, app in app_imports.APPS.items():
        failed = told(lambda app=app: app.deploy() and None)
        began = time.perf_counter()
        beside = told(app_hogs.ping.remote)
        waits.append({"answer": beside, "seconds": time.perf_counter() - began})
        found[what] = failed or told(app.functions[f"{what}_at_import"].remote)
    return {**found, "neighbour": waits}


def hogs() -> dict[str, Any]:
    """Each hog and liar, and how the neighbour was right after it."""
    app = app_hogs.app
    app.deploy()
    neighbour = app_hogs.ping.spawn()
    neighbour.get()
    found: dict[str, Any] = {}
    for name, function in app.functions.items():
        arguments = (
            (neighbour.id,) if name in ("end_of_anothers_call", "item_of_anothers_stream", "ask_for_more") else ()
        )
        began = time.perf_counter()
        answer = told(lambda function=function, arguments=arguments: function.remote(*arguments))
        took = time.perf_counter() - began
        began = time.perf_counter()
        beside = told(app_hogs.ping.remote)
        waited = time.perf_counter() - began
        found[name] = {"answer": answer, "seconds": took, "neighbour": beside, "neighbour_seconds": waited}
    return found


json.dump({"escapes": escapes, "hogs": hogs, "templates": templates}[sys.argv[1]](), sys.stdout)
