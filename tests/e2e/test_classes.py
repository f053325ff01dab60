"""Classes with parameters and calls with options, on a real server and its workers."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import relight
from e2e.app_models import Model, Snapped, app
from relight.protocol.errors import FunctionTimeout, InvalidRequest, NotFound
from servers import Server, wait_until

pytestmark = pytest.mark.usefixtures("deployed")


@pytest.fixture(scope="module")
def deployed(server: Server) -> Iterator[None]:
    app.deploy()
    yield
    assert app._session is not None
    app._session.connection.close()


def model(**values: Any) -> Any:
    return Model(**values)


def test_an_object_lives_in_workers_that_were_made_with_its_values() -> None:
    assert model(size="13b", heat=2).where.remote()[0] == '["13b", 2.0]'
    assert model(size="tiny", salt=b"\x00\xff").salted.remote(b"x") == b"\x00\xffx"
    assert list(model(size="9b").parts.remote(2)) == [("9b", 0), ("9b", 1)]


def test_objects_with_equal_values_share_workers_and_others_do_not() -> None:
    plain, said, other = model(), model(heat=1, size="7b"), model(size="8b")

    workers = [one.where.remote()[1] for one in (plain, said, other)]

    assert workers[0] == workers[1] != workers[2]


def test_a_call_says_which_workers_it_was_for(server: Server) -> None:
    call = model(size="14b").where.spawn()
    call.get()

    (found,) = [one for one in server.get("/v1/calls?app=models")["calls"] if one["id"] == call.id]
    assert found["binding"] == '{"parameters":{"size":"14b"}}'
    shown = subprocess.run([sys.executable, "-m", "relight", "ps"], capture_output=True, text=True, timeout=60).stdout
    assert "models/Model(size='14b') " in shown
    assert '{"parameters":{"size":"14b"}}' in [worker["binding"] for worker in server.get("/v1/workers")["workers"]]


def test_values_are_given_over_http_too(server: Server) -> None:
    query = urllib.parse.urlencode({"binding": '{"parameters": {"size": "13b", "heat": 2}}'})
    request = urllib.request.Request(
        f"{server.url}/v1/apps/models/functions/Model.where/call?{query}",
        data=b"[]",
        headers={"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"},
    )

    with urllib.request.urlopen(request, timeout=30) as answer:
        said = json.load(answer)

    assert said["result"] == list(model(size="13b", heat=2).where.remote())


def test_options_of_some_calls_are_those_of_their_workers() -> None:
    slow = model(size="z")
    fast = slow.variables.with_options(env={"B": "given"})

    assert (fast.remote(), slow.variables.remote()) == (("deployed", "given"), ("deployed", ""))
    with pytest.raises(FunctionTimeout):
        slow.sleep.with_options(timeout=0.2).remote(20.0)
    assert relight.with_options(Model, env={"A": "of the class"})(size="z").variables.remote() == ("of the class", "")


def test_options_are_checked_by_the_server_too() -> None:
    with pytest.raises(InvalidRequest, match="cannot call Model: cpu=100000 is not between"):
        model().where.with_options(cpu=100_000).remote()


def test_retries_can_be_asked_for_by_a_call(server: Server) -> None:
    attempt: Any = relight.Function.from_name("models", "attempt")
    call = attempt.with_options(retries=relight.Retries(count=2, delay_seconds=0.01)).spawn("/tmp/tried")

    with pytest.raises(LookupError):
        call.get()

    assert len(server.get(f"/v1/calls/{call.id}")["attempts"]) == 3


def test_a_deployed_class_is_called_by_its_name() -> None:
    named = relight.Cls.from_name("models", "Model")

    assert named(size="13b", heat=2.0).where.remote() == model(size="13b", heat=2).where.remote()
    assert named.with_options(env={"A": "named"})().variables.remote() == ("named", "")
    with pytest.raises(NotFound, match=r"cannot find method 'wher' of 'Model'.*did you mean 'where'"):
        named().wher.remote()
    with pytest.raises(InvalidRequest, match="it has no parameter 'sise'; did you mean 'size'"):
        named(sise="7b").where.remote()
    with pytest.raises(InvalidRequest, match="its parameter 'size' cannot be set: 7 is not a str"):
        named(size=7).where.remote()


def test_an_object_calls_itself_elsewhere_with_the_values_it_has() -> None:
    assert model(size="self").asks_itself.remote()[0] == '["self", 1.0]'


@pytest.mark.root
def test_what_is_done_before_the_fork_is_done_once_and_the_rest_in_each_worker(server: Server) -> None:
    made, joined, worker = Snapped().which.remote()
    made_too, joined_too, worker_too = relight.with_options(Snapped, timeout=31)().which.remote()  # workers of its own

    starts = server.get("/v1/starts?app=models&function=Snapped")["starts"]
    if any(start["why"].startswith("no_namespaces") for start in starts):
        pytest.skip("there are no templates where there are no namespaces")
    assert made == made_too
    assert joined != joined_too
    assert worker != worker_too


@pytest.mark.slow
def test_a_server_that_comes_back_knows_the_workers_of_each_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path / "data")
    server.start()
    monkeypatch.setenv("RELIGHT_DATA_DIR", str(server.folder))
    try:
        named = relight.Cls.from_name("models", "Model")
        app.deploy()
        idle = named(size="tiny").where.remote()
        before = named(size="13b").where.remote()
        call = named(size="13b").wait_for.spawn("/tmp/go")
        wait_until(lambda: server.get(f"/v1/calls/{call.id}")["attempts"], server)  # its claim is kept

        server.kill()
        server.start()
        call.cancel()

        with pytest.raises(relight.CallCancelled):
            call.get(timeout=30)
        assert server.get(f"/v1/calls/{call.id}")["call"]["worker"] == before[1]
        assert named(size="13b").where.remote() == before
        assert named(size="tiny").where.remote() == idle
        assert named().where.remote()[1] != before[1]
    finally:
        server.stop()
