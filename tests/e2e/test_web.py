"""What answers web requests, of every kind, on a real server with a real agent."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.app_web import add, app
from servers import Server, wait_until, workers_of


@pytest.fixture(scope="module", autouse=True)
def deployed(server: Server) -> Iterator[None]:
    app.deploy()
    yield
    assert app._session is not None
    app._session.connection.close()


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def connect(server: Server) -> http.client.HTTPConnection:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return http.client.HTTPConnection(host, int(port), timeout=30)


def ask(
    server: Server, path: str, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None
) -> Answer:
    connection = connect(server)
    try:
        connection.request(method, path, body, headers or {})
        return Answer(connection.getresponse())
    finally:
        connection.close()


def test_an_endpoint_takes_its_arguments_from_the_query(server: Server) -> None:
    answer = ask(server, "/w/web/add?x=2&y=3")

    assert (answer.status, answer.json) == (200, {"sum": 5})


def test_an_argument_that_does_not_fit_is_refused_with_its_name(server: Server) -> None:
    answer = ask(server, "/w/web/add?x=two")

    assert answer.status == 422
    assert answer.json["errors"][0]["pointer"] == "/x"
    assert ask(server, "/w/web/add?x=1", "POST").status == 405


def test_a_body_in_json_gives_arguments_and_a_token_is_asked_for(server: Server) -> None:
    body = json.dumps({"name": "Ada", "tags": ["a", "b"]})
    refused = ask(server, "/w/web/greet", "POST", body)
    token = {"Authorization": f"Bearer {server.token}"}
    answer = ask(server, "/w/web/greet?name=Bo", "POST", body, token)

    assert refused.status == 401
    assert (answer.status, answer.json) == (200, "hello Ada #a #b")


def test_a_generator_answers_by_events_and_only_to_pages_it_knows(server: Server) -> None:
    answer = ask(server, "/w/web/count?to=3", headers={"Origin": "https://shop.example"})
    stranger = ask(server, "/w/web/count?to=1", headers={"Origin": "https://other.example"})

    assert answer.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert "access-control-allow-origin" not in stranger.headers


def test_an_endpoint_describes_itself(server: Server) -> None:
    document = ask(server, "/w/web/add/openapi.json").json
    page = ask(server, "/w/web/add/docs")

    assert [one["name"] for one in document["paths"]["/"]["get"]["parameters"]] == ["x", "y"]
    assert page.status == 200
    assert b"Adds two numbers." in page.body
    assert ask(server, "/w/web/add/other").status == 404


def test_an_app_sees_where_it_is_mounted_and_paths_carry_no_cookies(server: Server) -> None:
    by_path = ask(server, "/w/web/raw/some%20where", headers={"Cookie": "a=1"})
    host = {"Host": f"raw.localhost:{server.url.rpartition(':')[2]}", "Cookie": "a=1"}
    by_host = ask(server, "/some%20where", headers=host)

    assert b"'/w/web/raw/some where'" in by_path.body
    assert b"'root_path': '/w/web/raw'" in by_path.body
    assert (by_path.headers["x-cookie"], "set-cookie" in by_path.headers) == ("0", False)
    assert b"'path': '/some where'" in by_host.body
    assert (by_host.headers["x-cookie"], by_host.headers["set-cookie"]) == ("1", "a=1")
    assert b"'started': None" not in by_host.body
    assert ask(server, "/", headers={"Host": "nobody.localhost"}).status == 404


def test_a_body_is_streamed_in_and_out(server: Server) -> None:
    answer = ask(server, "/w/web/raw/echo", "POST", (bytes([n]) * 100_000 for n in range(20)))

    assert answer.status == 200
    assert answer.body == b"".join(bytes([n]) * 100_000 for n in range(20))


def test_events_come_one_by_one(server: Server) -> None:
    connection = connect(server)
    connection.request("GET", "/w/web/raw/events")
    response = connection.getresponse()
    came = []
    while line := response.readline():
        if line.strip():
            came.append((line, time.monotonic()))
    connection.close()

    assert [line for line, _ in came] == [b"data: %d\n" % n for n in range(5)]
    assert came[-1][1] - came[0][1] > 0.1


def test_what_an_app_raises_is_a_500_and_ends_nothing_else(server: Server) -> None:
    answer = ask(server, "/w/web/raw/raise")
    with pytest.raises(http.client.IncompleteRead):
        ask(server, "/w/web/raw/break")

    assert answer.status == 500
    assert ask(server, "/w/web/raw/").status == 200


def test_a_request_that_takes_too_long_is_a_504(server: Server) -> None:
    assert ask(server, "/w/web/raw/slow?30").status == 504
    answer = ask(server, "/w/web/sleeps?seconds=30")

    assert answer.status == 504
    assert answer.json["code"] == "timed_out"
    assert ask(server, "/w/web/sleeps?seconds=0").json == "slept"


def test_a_caller_that_hangs_up_is_told_to_the_app_and_its_task_is_cancelled(server: Server) -> None:
    connection = connect(server)
    connection.request("GET", "/w/web/raw/wait")
    wait_until(lambda: said(server, "raw", "waits"), server)

    connection.close()

    wait_until(lambda: said(server, "raw", "cancelled"), server)
    assert said(server, "raw", "told http.disconnect")


@pytest.mark.parametrize("function", ["works", "works_async", "works_by_items", "works_in_wsgi"])
def test_what_nobody_waits_for_any_more_is_stopped_within_half_a_second(server: Server, function: str) -> None:
    connection = connect(server)
    connection.request("GET", f"/w/web/{function}")
    wait_until(lambda: said(server, function, "works"), server)

    gone_at = time.monotonic()
    connection.close()

    wait_until(lambda: bool(worked_until(server, function)), server)
    assert worked_until(server, function) - gone_at < 0.5


def worked_until(server: Server, function: str) -> float:
    """When a function says that it was stopped, on the clock that it shares with this process; 0 for not yet."""
    lines = server.lines(f"/v1/logs?app=web&function={function}&search=worked")
    return max((float(line["text"].rpartition(" ")[2]) for line in lines), default=0.0)


def test_requests_are_recorded_once_they_are_over(server: Server) -> None:
    ask(server, "/w/web/add?x=40&y=2")
    ask(server, "/w/web/raw/raise")

    def recorded(function: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = server.get(f"/v1/calls?app=web&function={function}&kind=request&limit=1")["calls"]
        return found[0]

    added, raised = recorded("add"), recorded("raw")
    shown = server.get(f"/v1/calls/{added['id']}")
    costs = server.get(f"/v1/costs?by=call&call={added['id']}")

    assert (added["request"]["verb"], added["request"]["path"]) == ("GET", "/w/web/add/")
    assert (added["request"]["status"], added["request"]["bytes_out"]) == (200, len('{"sum":42}'))
    assert (added["request"]["client"], added["state"]) == ("127.0.0.1", "succeeded")
    assert added["submitted_at"] <= added["started_at"] < added["ended_at"]
    assert added["worker"].startswith("worker-")
    assert shown["attempts"][0]["worker"] == added["worker"]
    assert 0 < costs["rows"][0]["busy_us"] <= (added["ended_at"] - added["started_at"]) * 1e6 + 1000
    assert (raised["state"], raised["request"]["status"]) == ("failed", 500)
    wait_until(lambda: "on purpose" in repr(list(server.lines(f"/v1/logs?call={raised['id']}"))), server)


def test_wsgi_apps_answer_in_threads(server: Server) -> None:
    answer = ask(server, "/w/web/wsgi/a%20b", "POST", b"x" * 300_000)

    assert answer.body == b"/w/web/wsgi /a b 300000"
    assert ask(server, "/w/web/wsgi/stream").body == b"abc"


def test_a_program_that_listens_is_passed_requests(server: Server) -> None:
    answer = ask(server, "/w/web/listens/")

    assert answer.status == 200
    assert b"Directory listing" in answer.body
    assert ask(server, "/w/web/listens/nothing-here").status == 404


def test_a_method_of_a_class_keeps_its_object(server: Server) -> None:
    first = ask(server, "/w/web/Counter.more", "POST", b'{"by": 2}')
    second = ask(server, "/w/web/Counter.more", "POST")

    assert (first.json, second.json) == (2, 3)


def test_an_app_that_cannot_be_made_says_why(server: Server) -> None:
    answer = ask(server, "/w/web/broken/")

    assert answer.status == 500
    assert answer.json["code"] == "start_failed"
    assert "this app cannot be made" in answer.json["detail"]


def test_what_answers_no_requests_is_not_there(server: Server) -> None:
    assert ask(server, "/w/web/nothing").status == 404
    assert ask(server, "/w/web").status == 404
    assert ask(server, "/w/web/add", headers={"Host": "evil.example"}).status == 421


def test_what_is_too_large_is_refused_before_it_comes(server: Server) -> None:
    connection = connect(server)
    connection.putrequest("POST", "/w/web/raw/length")
    connection.putheader("Content-Length", str(17 * GIB))
    connection.endheaders()
    body = connection.getresponse().status
    connection.close()

    assert body == 413
    assert ask(server, "/w/web/raw/", headers={"X-Long": "x" * 70_000}).status == 431


def test_urls_are_told(server: Server) -> None:
    assert add.get_web_url() == f"{server.url}/w/web/add"


def test_websockets_echo(server: Server) -> None:
    with WebSocket(server, "/w/web/raw/socket") as socket:
        for number in range(10_000):
            socket.send(b"%d" % number)
            if number >= 100:
                assert socket.receive() == b"%d" % (number - 100)
        for number in range(9_900, 10_000):
            assert socket.receive() == b"%d" % number
        socket.send(b"x" * 1_000_000)
        assert len(socket.receive()) == 1_000_000

    wait_until(lambda: said(server, "raw", "gone 1000"), server)


EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.mark.slow
def test_the_example_sites_answer(server: Server) -> None:
    for name in ("fastapi_site.py", "flask_site.py", "websocket_room.py"):
        subprocess.run(
            [sys.executable, "-m", "relight", "deploy", "--no-wait", str(EXAMPLES / name)], check=True, timeout=60
        )

    assert ask(server, "/w/fastapi_site/site/hello/you?times=2").json == {"said": "hello you hello you"}
    assert ask(server, "/w/fastapi_site/site/hello/you?times=two").status == 422
    assert ask(server, "/w/fastapi_site/site/count?to=2").body == b"data: 0\n\ndata: 1\n\n"
    assert b"Say something" in ask(server, "/w/fastapi_site/site/").body
    with WebSocket(server, "/w/fastapi_site/site/echo") as socket:
        socket.send(b"hello", 1)
        assert socket.receive() == b"you said hello"
    assert ask(server, "/w/fastapi_site/area", "POST", b'{"width": 2, "height": 1.5}').json == {"area": 3.0}
    assert ask(server, "/w/flask_site/site/hello?name=me").json == {"said": "hello me"}
    with WebSocket(server, "/w/websocket_room/room/") as one:
        assert one.receive() == b"guest 1 is here"
        with WebSocket(server, "/w/websocket_room/room/") as other:
            assert (one.receive(), other.receive()) == (b"guest 2 is here", b"guest 2 is here")
            other.send(b"good morning", 1)
            assert (one.receive(), other.receive()) == (b"guest 2: good morning", b"guest 2: good morning")
        assert one.receive() == b"guest 2 has left"


GIB = 1024**3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_gigabytes_in_and_out_are_in_nobodys_memory(server: Server) -> None:
    assert ask(server, "/w/web/large/length", "POST", b"12345").body == b"5"
    most = watch_memory(server)

    came = ask(server, "/w/web/large/length", "POST", (bytes(1 << 20) for _ in range(2048)))
    connection = connect(server)
    connection.request("GET", "/w/web/large/zeros?2048")
    response = connection.getresponse()
    length = 0
    while data := response.read(1 << 20):
        length += len(data)
    connection.close()

    assert came.body == b"%d" % (2 * GIB)
    assert length == 2 * GIB
    assert most() < 60 * 1024**2


def watch_memory(server: Server) -> Callable[[], int]:
    """By how many bytes the server or a worker, whichever more, has grown at most when it is asked."""
    pids = [server.pid, *workers_of(server)]
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    before = {pid: peak(pid) for pid in pids}
    return lambda: max(peak(pid) - was for pid, was in before.items())


def peak(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    said = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in said.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def said(server: Server, function: str, text: str) -> bool:
    """Whether a worker of a function has written a line."""
    return any(line["text"] == text for line in server.lines(f"/v1/logs?app=web&function={function}"))


class WebSocket:
    """A client: as much of RFC 6455 as an echo needs."""

    def __init__(self, server: Server, path: str) -> None:
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._file = self._socket.makefile("rb")
        status = self._file.readline()
        headers = b"".join(iter(self._file.readline, b"\r\n"))
        said = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()
        assert status.startswith(b"HTTP/1.1 101"), (status, headers)
        assert base64.b64encode(said) in headers

    def send(self, data: bytes, kind: int = 2) -> None:
        length = len(data)
        size = bytes([0x80 | length]) if length < 126 else b"\xff" + struct.pack("!Q", length)
        mask = os.urandom(4)
        key = int.from_bytes((mask * (length // 4 + 1))[:length], "little")
        masked = (int.from_bytes(data, "little") ^ key).to_bytes(length, "little")
        self._socket.sendall(bytes([0x80 | kind]) + size + mask + masked)

    def receive(self) -> bytes:
        _, second = self._file.read(2)
        length = second & 0x7F
        if length >= 126:
            length = int.from_bytes(self._file.read(2 if length == 126 else 8), "big")
        return self._file.read(length)

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.send(struct.pack("!H", 1000), 8)
        self.receive()
        self._socket.close()
