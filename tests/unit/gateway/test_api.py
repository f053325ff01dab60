"""Apps, deploys, workers and nodes; and the document that describes the whole API."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from relight.gateway.table import ROUTES
from relight.protocol.api import MEDIA_TYPE, Deploy, Deployed
from relight.protocol.codec import pack, unpack
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Manifest

if TYPE_CHECKING:
    from conftest import Api

DOCS = Path(__file__).parents[3] / "docs" / "api.md"


async def test_a_deploy_is_a_frame(api: Api) -> None:
    image = HostImage(python="/p", prefix="/", base_prefix="/", version="3.11.7")
    function = FunctionSpec(name="square", module="hello", qualname="square", image=image)
    manifest = Manifest(app="hello", code=CodeBundle(digest="0" * 64, size=1, folder="/x"), functions=(function,))

    reply = await api.ask("POST", "/v1/deploys", pack(Deploy(manifest=manifest)), Content_Type=MEDIA_TYPE)

    assert unpack(reply.body, Deployed) == Deployed(version="version-1", app="hello", environment="main")


async def test_workers_that_are_gone_are_listed_when_asked_for(api: Api) -> None:
    workers = (await api.ask("GET", "/v1/workers?gone=true")).json.workers

    assert [(one.id, one.state) for one in workers] == [("v", "gone"), ("w", "busy")]
    assert workers[0].exit.reason == "out_of_memory"


async def test_apps_workers_and_nodes_are_listed(api: Api) -> None:
    apps = (await api.ask("GET", "/v1/apps")).json.apps
    workers = (await api.ask("GET", "/v1/workers")).json.workers
    nodes = (await api.ask("GET", "/v1/nodes")).json.nodes

    assert [(app.app, app.functions) for app in apps] == [("a", ["square"])]
    assert [(worker.id, worker.state, worker.kind, worker.exit) for worker in workers] == [("w", "busy", "flex", None)]
    assert [(node.id, node.gpus[0].kind, node.gpus[0].is_simulated) for node in nodes] == [("n", "A100", True)]


async def test_a_function_is_shown_with_all_its_fields(api: Api) -> None:
    shown = (await api.ask("GET", "/v1/apps/a/functions/Reader.read")).json

    assert (shown.name, shown.timeout_seconds, shown.retries.count) == ("Reader", 600.0, 0)


async def test_how_much_of_a_function_waits_and_runs_is_told(api: Api) -> None:
    stats = (await api.ask("GET", "/v1/apps/a/functions/Reader.read/stats?environment=staging")).json

    assert (stats.backlog, stats.running, stats.workers) == (1, len("staging"), len("Reader"))


async def test_an_app_is_stopped_where_it_is_named(api: Api) -> None:
    reply = await api.ask("POST", "/v1/apps/a%2Fb/stop?environment=staging")

    assert reply.json.cancelled == 3
    assert api.platform.deploys.stopped == [("a/b", "staging")]


async def test_the_document_describes_every_route_and_resolves(api: Api) -> None:
    reply = await api.ask_tcp("GET", "/openapi.json")

    document = json.loads(reply.body)
    told = {(method.upper(), path) for path, at in document["paths"].items() for method in at}
    assert told == {(route.method, route.path) for route in ROUTES} | {("GET", "/openapi.json")}
    for name in re.findall(r'"#/components/schemas/(\w+)"', reply.body.decode()):
        assert document["components"]["schemas"][name], name
    call = document["components"]["schemas"]["CallView"]["properties"]
    assert call["state"]["enum"][0] == "queued"
    assert call["started_at"] == {"anyOf": [{"type": "number"}, {"type": "null"}]}


async def test_a_shown_call_has_the_fields_that_the_document_says(api: Api) -> None:
    document = json.loads((await api.ask("GET", "/openapi.json")).body)
    submitted = await api.ask("POST", "/v1/apps/a/functions/square/submit", b"{}")

    shown = json.loads((await api.ask("GET", f"/v1/calls/{submitted.json.id}")).body)["call"]

    assert set(shown) == set(document["components"]["schemas"]["CallView"]["properties"])


def test_names_of_routes_are_unique() -> None:
    names = [route.name for route in ROUTES]

    assert len(names) == len(set(names))


def test_the_docs_show_every_route() -> None:
    page = DOCS.read_text()

    for route in ROUTES:
        assert f"| `{route.method} {route.path}` |" in page, route.name


async def test_what_became_of_an_apps_templates_is_told(api: Api) -> None:
    answer = await api.ask("GET", "/v1/apps/shop/templates?environment=staging&wait=2")
    wrong = await api.ask("GET", "/v1/apps/shop/templates?wait=61")

    said = json.loads(answer.body)
    assert said["version"] == "version-of-shop-in-staging"
    assert said["templates"] == [
        {"function": "square", "state": "ready", "why": "", "node": "n", "seconds": 0.5, "memory_mib": 38.0}
    ]
    assert wrong.status == 400
