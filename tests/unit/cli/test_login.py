"""Logging in: the server is asked, the profile written, and what is wrong said at once; over TLS too."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relight.cli.main import cli
from relight.protocol.errors import InvalidRequest, Unauthenticated, Unavailable
from relight.sdk import profiles
from relight.sdk.connection import connect

CERTIFICATE = Path(__file__).parents[2] / "localhost.pem"


class Answers(BaseHTTPRequestHandler):
    """A server that knows one token."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        is_known = self.headers.get("Authorization") == "Bearer rl_good"
        said: dict[str, object] = {"code": "unauthenticated", "detail": "cannot let you in: the token is missing"}
        if is_known:
            said = {"workspace": "default", "scope": "call", "app": "shop", "token": None}
        if self.path == "/v1/apps":
            said = {"apps": []}
        body = json.dumps(said).encode()
        self.send_response(200 if is_known else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Says nothing."""


@contextmanager
def serving(*, is_tls: bool = False) -> Iterator[str]:
    """The server, and its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    if is_tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http{'s' * is_tls}://localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of the test's own, and no variable that leads elsewhere."""
    monkeypatch.setenv("RELIGHT_DATA_DIR", str(tmp_path))
    for name in ("RELIGHT_URL", "RELIGHT_TOKEN", "RELIGHT_PROFILE"):
        monkeypatch.setenv(name, "")  # so that what a command sets is taken back
        monkeypatch.delenv(name)
    return tmp_path


def relight(*words: str, given: str | None = None) -> Result:
    return CliRunner().invoke(cli, list(words), input=given)


def test_a_server_that_was_logged_in_to_is_the_one_that_is_asked(folder: Path) -> None:
    with serving() as url:
        done = relight("login", url, "--token", "rl_good", "--profile", "work")

        assert done.exit_code == 0, done.output
        assert done.stdout == f"logged in at {url} as profile work; its token may call for app shop\n"
        assert connect().json("GET", "/v1/apps") == {"apps": []}
        assert str(connect().address) == url


def test_the_token_may_come_through_a_pipe(folder: Path) -> None:
    with serving() as url:
        done = relight("login", url, given="rl_good\n")

    assert done.exit_code == 0, done.output
    profile = profiles.active(folder)
    assert profile is not None
    assert (profile.name, profile.token) == ("localhost", "rl_good")


def test_a_wrong_token_is_said_at_once_and_nothing_is_written(folder: Path) -> None:
    with serving() as url:
        done = relight("login", url, "--token", "rl_bad")

    assert isinstance(done.exception, Unauthenticated)
    assert profiles.active(folder) is None


def test_a_server_that_is_away_is_said_at_once(folder: Path) -> None:
    with serving() as url:
        pass

    done = relight("login", url, "--token", "rl_good")

    assert isinstance(done.exception, Unavailable)
    assert str(done.exception).startswith(f"cannot reach the server at {url}: ")
    assert profiles.active(folder) is None


@pytest.mark.parametrize("url", ["relight.example", "ftp://x", "http://x/path", "unix:/tmp/x"])
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    done = relight("login", url, "--token", "rl_good")

    assert isinstance(done.exception, InvalidRequest)


def test_a_pipe_without_a_token_is_a_wrong_use() -> None:
    assert relight("login", "http://localhost:1", given="").exit_code == 2


def test_over_tls_a_certificate_nobody_signed_is_trusted_only_when_it_is_named(folder: Path) -> None:
    with serving(is_tls=True) as url:
        refused = relight("login", url, "--token", "rl_good")
        taken = relight("login", url, "--token", "rl_good", "--ca", str(CERTIFICATE))

        assert isinstance(refused.exception, Unavailable)
        assert str(refused.exception).startswith(f"cannot trust the server at {url}: ")
        assert "log in with --ca FILE" in str(refused.exception)
        assert taken.exit_code == 0, taken.output
        assert connect().json("GET", "/v1/apps") == {"apps": []}


def test_a_file_that_holds_no_certificate_is_told(tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("nothing")
    with serving(is_tls=True) as url:
        refused = relight("login", url, "--token", "rl_good", "--ca", str(tmp_path / "none.pem"))

    assert isinstance(refused.exception, InvalidRequest)
    assert "name a PEM file" in str(refused.exception)


def test_profiles_are_listed_chosen_and_forgotten_without_their_tokens(folder: Path) -> None:
    with serving() as url:
        for name in ("work", "home"):
            relight("login", url, "--token", "rl_good", "--profile", name)

    listed = relight("profile", "list")
    used = relight("profile", "use", "work")
    machine = json.loads(relight("profile", "list", "--json").stdout)
    forgot = relight("profile", "remove", "work")

    assert "rl_good" not in listed.stdout + json.dumps(machine)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["PROFILE", "work", "home", "local"]
    assert (used.exit_code, machine["current"], forgot.exit_code) == (0, "work", 0)
    assert profiles.active(folder) is None


def test_a_profile_is_chosen_for_one_command_whatever_the_environment_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as url:
        relight("login", url, "--token", "rl_good", "--profile", "work")
        relight("profile", "use", "local")
        monkeypatch.setenv("RELIGHT_URL", "http://127.0.0.1:1")

        done = relight("--profile", "work", "apps", "--json")

    assert (done.exit_code, done.stdout) == (0, '{\n  "apps": []\n}\n'), done.exception


def test_a_variable_chooses_a_profile_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as url:
        relight("login", url, "--token", "rl_good", "--profile", "work")
        relight("profile", "use", "local")
        monkeypatch.setenv("RELIGHT_PROFILE", "work")

        assert str(connect().address) == url
