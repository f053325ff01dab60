"""What functions reach, on a server whose machine has a small internet around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from e2e import app_network as there
from internet import CAN_BE_MADE, ECHO, EVERYWHERE, GREETING, HOST, LOOPBACK, MACHINE, METADATA, OTHER, Internet
from servers import Server, serving, wait_until

pytestmark = [pytest.mark.root, pytest.mark.skipif(not CAN_BE_MADE, reason="needs root, and `ip`")]

HELLO = f"hello from {HOST}"
FORBIDDEN = "No route to host"


@pytest.fixture(scope="module")
def internet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    made = Internet(tmp_path_factory.mktemp("internet"))
    made.names["other.test"] = ([OTHER], 0)
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def server(internet: Internet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("network") / "data", there.app, around=internet.on_machine) as started:
        yield started


def test_a_function_reaches_outward_and_so_does_its_import_and_nothing_that_is_the_machines() -> None:
    tried = [("host.test", GREETING), (HOST, GREETING), (MACHINE, EVERYWHERE), (METADATA, GREETING)]

    assert [there.outward.remote(*place) for place in tried] == [
        (HELLO, said) for said in (HELLO, HELLO, FORBIDDEN, FORBIDDEN)
    ]
    assert there.outward.remote("127.0.0.1", LOOPBACK) == (HELLO, "Connection refused")


def test_forks_of_a_template_have_a_way_out_of_their_own(server: Server, internet: Internet) -> None:
    there.outward.remote(HOST, GREETING)
    said = there.outward.with_options(timeout=30.0).remote(HOST, GREETING)

    with internet.on_machine():
        starts: list[Any] = server.get("/v1/starts?app=network&function=outward")["starts"]
    assert said == (HELLO, HELLO)
    assert "fork" in {start["level"] for start in starts}


def test_without_a_network_or_a_place_on_its_list_a_function_reaches_nothing() -> None:
    assert there.inward.remote(HOST, GREETING) == "Network is unreachable"
    assert there.listed.remote("host.test", GREETING) == HELLO
    assert there.listed.remote("other.test", GREETING) == "Name or service not known"
    assert there.listed.remote(OTHER, GREETING) == FORBIDDEN


def test_options_of_a_call_say_what_its_worker_reaches() -> None:
    only_other = there.listed.with_options(network=["198.51.100.3/32"])

    assert only_other.remote(OTHER, GREETING) == f"hello from {OTHER}"
    assert only_other.remote(HOST, GREETING) == FORBIDDEN
    assert there.alone.remote("host.test", GREETING) == HELLO


def test_what_a_worker_sends_outward_is_counted_to_the_byte(server: Server, internet: Internet) -> None:
    sizes = {"upload": 1_234_567, "upload_alone": 76_543}

    assert [getattr(there, name).remote(HOST, ECHO, size) for name, size in sizes.items()] == list(sizes.values())
    there.upload.remote(HOST, ECHO, 1000)

    with internet.on_machine():
        assert there.app._session is not None
        there.app._session.connection.json("POST", "/v1/apps/network/stop")
        wait_until(lambda: not server.get("/v1/workers")["workers"], server)
        there.app._session.connection.json(
            "PUT", "/v1/budgets", {"app": "network", "nanos": 10**12}
        )  # a write after it
        rows: list[Any] = server.get("/v1/costs?by=function")["rows"]
    counted = {row["key"].removeprefix("network/"): row["egress_bytes"] for row in rows}
    assert {name: counted[name] for name in sizes} == {"upload": 1_235_567, "upload_alone": 76_543}
    assert counted["listed"] == 0, "it asked for names, and only listened"
