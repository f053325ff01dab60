"""Whatever is asked of a server that its own description allows, or nearly allows, is answered without a fault of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from e2e import app_web_typed
from e2e.app_http_calls import app
from servers import Server

FRAME = "application/x-relight"


KNOWN = {"app": "http-calls", "function": "once"}
"""What stands in the place of a random name every other time, so that what lies behind it is reached, too."""


ENDPOINTS = ("look", "pick", "order", "move", "count", "echo")


@pytest.fixture(autouse=True, scope="module")
def _deployed(server: Server) -> Iterator[None]:
    for one in (app, app_web_typed.app):
        one.deploy()
    yield
    for one in (app, app_web_typed.app):
        assert one._session is not None
        one._session.connection.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what a library thinks of its own libraries
@pytest.mark.timeout(600)
def test_no_request_makes_a_fault_of_ours(server: Server) -> None:
    import schemathesis  # a second, which those who leave slow tests out need not wait

    @schemathesis.serializer(FRAME)
    def as_bytes(_context: object, value: object) -> bytes:
        """A frame's schema says nothing of its bytes: any will do."""
        return repr(value).encode("utf-8", "backslashreplace")

    headers = {"Authorization": f"Bearer {server.token}"}
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json", headers=headers)
    faults: list[str] = []
    asked = 0

    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=25,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        def look(case: Any) -> None:
            nonlocal asked
            asked += 1
            if asked % 2:
                case.path_parameters = {
                    **case.path_parameters,
                    **{k: v for k, v in KNOWN.items() if k in case.path_parameters},
                }
            if "follow" in (case.query or {}) or "wait" in (case.query or {}):
                return  # they wait, as they should
            response = case.call(base_url=server.url, headers=headers, timeout=20)
            if response.status_code >= 500:
                faults.append(f"{case.method} {case.formatted_path}: {response.status_code} {response.text[:300]}")

        look()

    assert faults == []
    assert asked > 500
    assert server.get("/v1/health") == {"status": "ok"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what a library thinks of its own libraries
@pytest.mark.timeout(300)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_no_request_to_an_endpoint_makes_a_fault(server: Server, endpoint: str) -> None:
    import schemathesis

    url = f"{server.url}/w/web-typed/{endpoint}"
    headers = {"Authorization": f"Bearer {server.token}"}
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", headers=headers)
    (operation,) = [found.ok() for found in schema.get_all_operations()]
    statuses: dict[int, str] = {}

    for mode in schemathesis.GenerationMode:  # what is described, and what is not

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def look(case: Any) -> None:
            response = case.call(base_url=url, headers=headers, timeout=20)
            statuses[response.status_code] = f"{case.as_curl_command()}: {response.text[:300]}"

        look()

    assert {status: told for status, told in statuses.items() if status >= 500} == {}
    assert 200 in statuses, statuses
