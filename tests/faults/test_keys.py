"""A key is kept with its call: a server that is killed as soon as it has answered knows it when it is back."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from e2e.app_http_calls import app
from servers import Server, serving

pytestmark = pytest.mark.slow


def submit(server: Server, key: str) -> str:
    """The call that a key stands for."""
    request = urllib.request.Request(
        f"{server.url}/v1/apps/http-calls/functions/once/submit",
        json.dumps({"name": key}).encode(),
        {"Authorization": f"Bearer {server.token}", "Idempotency-Key": key},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.load(answer)["id"])


def test_a_key_outlives_a_server_that_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path / "data", app) as server:
        before = {key: submit(server, key) for key in map(str, range(5))}
        server.kill()
        server.start()

        after = {key: submit(server, key) for key in before}

        assert after == before
        assert {server.get(f"/v1/calls/{call}/result?wait=60") for call in after.values()} == {1}
