"""How a server is found, and a server of one's own."""

from __future__ import annotations

import os
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from relight.protocol.errors import Forbidden, InvalidRequest, NotFound, Unauthenticated, Unavailable
from relight.sdk import connection as connection_module
from relight.sdk import embedded
from relight.sdk.connection import connect
from relight.sdk.requests import Reply, error_from

SERVER = """
import json, os, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
{body}
"""


@pytest.fixture(autouse=True)
def _no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RELIGHT_URL", "RELIGHT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RELIGHT_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    """Somebody who answers health on the local socket, once."""
    path = tmp_path / "data" / "run" / "relight.sock"
    path.parent.mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(10)

    def answer() -> None:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        with peer:
            if not peer.recv(4096):
                return
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    thread = threading.Thread(target=answer)
    thread.start()
    yield path
    with socket.socket(socket.AF_UNIX) as last:
        last.connect(str(path))  # so that whoever still waits to be asked need not
    thread.join()
    listener.close()


def test_a_named_server_comes_first(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELIGHT_URL", "http://relight.example:8700")
    monkeypatch.setenv("RELIGHT_TOKEN", "secret")

    address = connect().address

    assert (address.host, address.port, address.token) == ("relight.example", 8700, "secret")


def test_the_local_server_is_found_by_its_socket(served: Path) -> None:
    assert connect(embed=True).address.path == str(served)


def test_a_socket_where_nobody_listens_is_no_server(tmp_path: Path) -> None:
    path = tmp_path / "data" / "run" / "relight.sock"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    with pytest.raises(Unavailable, match=r"nobody listens at .*; start one with `relight up`"):
        connect()


def test_a_socket_of_somebody_else_is_refused(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: served.stat().st_uid + 1)
    real = os.stat

    def owned(path: object, **options: object) -> os.stat_result:
        found = real(path, **options)  # type: ignore[call-overload]  # as it is called
        return os.stat_result((*found[:4], 4242, *found[5:]))

    monkeypatch.setattr(connection_module.os, "stat", owned)

    with pytest.raises(Forbidden, match="belongs to user 4242"):
        connect()


def use_server(monkeypatch: pytest.MonkeyPatch, folder: Path, body: str) -> None:
    """Let `python -m relight` be a program of ours."""
    script = folder / "fake.py"
    script.write_text(SERVER.format(body=body))
    runner = folder / "python"
    runner.write_text(f'#!/bin/sh\nshift 4\nexec {sys.executable} {script} "$@"\n')  # -m relight up --embedded
    runner.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(runner))
    monkeypatch.setattr(embedded, "OLDEST_PYTHON", (3, 10))  # what is started here runs on any


LIVES = """
os.write(int(options["--ready-fd"]), json.dumps({"socket": options["--data-dir"] + "/s", "pid": os.getpid()}).encode() + b"\\n")
os.read(int(options["--parent-fd"]), 1)
"""


def test_a_server_of_ones_own_is_started_in_a_private_folder_and_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_server(monkeypatch, tmp_path, LIVES)

    found = connect(embed=True)

    own = found.embedded
    assert own is not None
    assert found.address.path == f"{own.folder}/s"
    assert own.folder.parent == tmp_path / "data" / "runs"
    assert stat.S_IMODE(own.folder.stat().st_mode) == 0o700
    assert own.is_alive()
    found.close()
    assert not own.is_alive()
    assert own.folder.is_dir()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("os.write(int(options['--ready-fd']), b'{\"error\": \"cannot lock it: no\"}\\n')", "cannot lock it: no"),
        ("sys.exit('no such module')", "it left with code 1: no such module"),
    ],
)
def test_a_server_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    use_server(monkeypatch, tmp_path, body)

    with pytest.raises(Unavailable, match=f"cannot start a server: {message}"):
        connect(embed=True)


def test_a_server_of_ones_own_that_died_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_server(monkeypatch, tmp_path, LIVES)
    found = connect(embed=True)
    assert found.embedded is not None
    found.embedded.close()

    with pytest.raises(Unavailable, match="the server of this run has ended"):
        found.cancel("call-1")


def test_folders_of_old_runs_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_server(monkeypatch, tmp_path, LIVES)
    old, new = (tmp_path / "data" / "runs" / name for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))

    connect(embed=True).close()

    assert (old.exists(), new.exists()) == (False, True)


def test_an_old_python_cannot_be_a_server_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "OLDEST_PYTHON", (99, 0))

    with pytest.raises(Unavailable, match=r"it needs Python 99\.0"):
        embedded.start(tmp_path)


@pytest.mark.parametrize(
    ("reply", "kind", "text"),
    [
        (
            Reply(status=404, body=b'{"code": "not_found", "detail": "cannot find it: no"}'),
            NotFound,
            "cannot find it: no",
        ),
        (Reply(status=401, body=b'{"code": "of tomorrow", "detail": "cannot"}'), Unauthenticated, "cannot"),
        (
            Reply(status=400, body=b"<html>"),
            InvalidRequest,
            "cannot do it: the server answered 400 <html>, which is no answer of relight's; check RELIGHT_URL, or the profile",
        ),
        (
            Reply(status=503, body=b"[]"),
            Unavailable,
            "cannot do it: the server answered 503 [], which is no answer of relight's; check RELIGHT_URL, or the profile",
        ),
    ],
)
def test_a_problem_becomes_the_error_it_tells(reply: Reply, kind: type[Exception], text: str) -> None:
    error = error_from(reply)

    assert (type(error), str(error)) == (kind, text)
