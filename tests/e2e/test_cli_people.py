"""The command line as people live in it: what runs is seen, stopped, made once more, and done from elsewhere with less."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from command_line import Cli, beside_a_server, read_line
from relight.cli.init import TEMPLATES

pytestmark = pytest.mark.slow

CERTIFICATE = Path(__file__).parent.parent / "localhost.pem"
SLOW = dedent(
    """
    import time
    import relight

    app = relight.App()

    @app.function(max_workers=1)
    def nap(x: int) -> int:
        time.sleep(0.2)
        return x

    @app.local_entrypoint()
    def main() -> None:
        print(sum(nap.map(range(6))))
    """
)
ELSEWHERE = dedent(
    """
    import importlib.abc, os, select, socket, sys

    GONE = {"fcntl", "termios", "tty", "pwd", "grp", "resource", "uvloop", "pty", "syslog"}

    class Gone(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name in GONE:
                raise ImportError(f"there is no {name} on this machine")

    sys.meta_path.insert(0, Gone())
    for name in GONE:
        sys.modules.pop(name, None)
    for module, names in (
        (socket, ["AF_UNIX", "socketpair"]),
        (select, ["poll", "epoll"]),
        (os, ["getuid", "geteuid", "getgid", "fork", "memfd_create", "O_PATH", "O_DIRECTORY", "O_CLOEXEC", "uname"]),
    ):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    from relight.cli.main import main

    if PLATFORM:
        import sysconfig

        import relight.cli.doctor, relight.cli.run, relight.cli.up

        sysconfig.get_config_vars()  # reads a file that is named as this platform
        sys.platform = PLATFORM

    main()
    """
)


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with beside_a_server(tmp_path_factory.mktemp("people")) as cli:
        yield cli


@pytest.fixture
def laptop(cli: Cli, tmp_path: Path) -> Cli:
    """The command line of another machine: nothing of the server's folder is there."""
    (tmp_path / "shop.py").write_text((cli.folder / "shop.py").read_text())
    return replace(cli, folder=tmp_path, data=tmp_path / "data")


def line_that_begins(process: subprocess.Popen[str], text: str) -> str:
    """The next line of a command's stderr that begins so."""
    assert process.stderr is not None
    return next(line for line in process.stderr if line.startswith(text))


def test_what_a_call_writes_is_seen_while_it_runs_and_ctrl_c_cancels_it(cli: Cli) -> None:
    with cli.begin("call", "shop/sleep") as process:
        assert line_that_begins(process, "sleeping") == "sleeping\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    (call,) = re.findall(r"^relight: told (call-\w+) to stop$", errors, re.MULTILINE)
    assert errors.splitlines()[-1] == "relight: interrupted"
    ended = cli("run", "shop.py::square", "--x", "1")  # by when another call has come and gone, it has obeyed
    assert ended.returncode == 0
    assert cli.json("calls", "show", call)["call"]["state"] in ("cancelled", "running")


def test_a_calls_lines_are_on_stderr_and_its_value_alone_on_stdout(cli: Cli) -> None:
    loud = cli("call", "shop/square", "--x", "7")
    quiet = cli("call", "shop/square", "--x", "7", "--quiet")

    assert (loud.stdout, quiet.stdout) == ("49\n", "49\n")
    assert "squaring 7\n" in loud.stderr
    assert "squaring" not in quiet.stderr


def test_what_a_generator_yields_is_printed_as_it_does_and_ctrl_c_stops_it(cli: Cli) -> None:
    with cli.begin("call", "shop/count", "--to", "5", "--seconds", "60") as process:
        assert json.loads(read_line(process)) == {"number": 0}
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)

    assert (process.returncode, rest) == (130, "")
    (call,) = re.findall(r"^relight: told (call-\w+) to stop$", errors, re.MULTILINE)
    assert cli("call", "shop/square", "--x", "1").returncode == 0
    assert cli.json("calls", "show", call)["call"]["state"] in ("cancelled", "running")


def test_a_map_has_a_bar_on_a_terminal_and_none_in_a_pipe(cli: Cli) -> None:
    (cli.folder / "slow.py").write_text(SLOW)
    command = [sys.executable, "-m", "relight", "run", "slow.py"]
    ours, theirs = pty.openpty()
    try:
        drawn = subprocess.run(
            command, cwd=cli.folder, env=cli.environ, stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=True
        )
        screen = os.read(ours, 100_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    piped = cli("run", "slow.py")

    assert "nap" in screen
    assert re.search(r"\d/6\b", screen)
    assert drawn.stdout.decode().splitlines()[-1] == piped.stdout.splitlines()[-1] == "15"
    assert "/6" not in piped.stderr


def test_a_reader_that_leaves_stops_what_it_read(cli: Cli) -> None:
    with cli.begin("call", "shop/count", "--to", "1000000") as process:
        assert json.loads(read_line(process)) == {"number": 0}
        assert process.stdout is not None
        process.stdout.close()  # as `head -1` does
        assert process.wait(30) == 3

    (call, *_) = cli.json("calls", "list", "--function", "count", "--limit", "1")["calls"]
    assert cli("call", "shop/count", "--to", "1").returncode == 0
    assert cli.json("calls", "show", call["id"])["call"]["state"] == "cancelled"


def test_items_are_a_line_each_in_a_call_and_a_run(cli: Cli) -> None:
    called = cli("call", "shop/count", "--quiet")
    ran = cli("run", "shop.py::count", "--to", "2")

    assert [json.loads(line) for line in called.stdout.splitlines()] == [{"number": 0}, {"number": 1}, {"number": 2}]
    assert [line for line in ran.stdout.splitlines() if "number" in line] == ["{'number': 0}", "{'number': 1}"]


def test_a_call_is_made_once_more_with_the_same_input(cli: Cli) -> None:
    first = json.loads(cli("call", "shop/square", "--x", "12", "--whole").stdout)

    again = cli("calls", "retry", first["id"])
    after = cli("call", "shop/square", "--x", "1")  # one worker takes them in order, so the retry has ended by now

    assert after.returncode == 0
    shown = cli.json("calls", "show", again.stdout.strip())["call"]
    assert shown["id"] != first["id"]
    assert (shown["state"], shown["result"]) == ("succeeded", 144)


def test_all_that_waits_or_runs_of_a_function_is_cancelled_at_once(cli: Cli) -> None:
    calls = {cli("call", "shop/sleep", "--no-wait").stdout.strip() for _ in range(3)}

    found = cli.json("calls", "cancel", "--all", "--app", "shop", "--function", "sleep")

    assert calls <= {call["id"] for call in found["calls"]}
    assert cli("call", "shop/square", "--x", "1").returncode == 0
    left = cli.json("calls", "list", "--function", "sleep", "--state", "queued")["calls"]
    assert [call["id"] for call in left if call["id"] in calls] == []


def test_a_call_is_told_as_a_timeline(cli: Cli) -> None:
    call = json.loads(cli("call", "shop/fail", "--whole").stdout)["id"]

    told = cli("calls", "show", call).stdout

    timeline = told.partition("\ntimeline\n")[2]
    steps = [line.split()[2] for line in timeline.partition("\n\n")[0].splitlines()]
    assert steps[0] == "queued"
    assert steps[-2:] == ["attempt", "failed"]
    assert re.search(r"attempt 1 +[\d.]+ms +worker-\w+ on \S+: failed, ", timeline)
    assert told.rstrip().endswith("ValueError: bad 1")


def test_calls_since_a_time_are_listed(cli: Cli) -> None:
    call = cli("call", "shop/square", "--x", "2", "--no-wait").stdout.strip()

    assert call in {one["id"] for one in cli.json("calls", "list", "--since", "10m")["calls"]}
    assert cli.json("calls", "list", "--since", "2999-01-01T00:00")["calls"] == []


def test_apps_tell_their_workers_and_calls(cli: Cli) -> None:
    with cli.begin("call", "shop/sleep", "--seconds", "60") as process:
        line_that_begins(process, "sleeping")
        (app,) = (one for one in cli.json("apps")["apps"] if (one["app"], one["environment"]) == ("shop", "main"))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)

    assert app["running"] >= 1
    assert app["workers"] >= 1


def test_a_laptop_logs_in_and_does_what_its_token_is_good_for(cli: Cli, laptop: Cli) -> None:
    url = cli.json("token")["url"]
    made = cli("token", "create", "--name", "laptop", "--scope", "call", "--app", "shop", "--expires", "1h")
    assert re.fullmatch(r"rl_[\w-]{43}\n", made.stdout), made.stderr

    login = laptop("login", url, "--token", made.stdout.strip())
    called = laptop("call", "shop/square", "--x", "7")
    deployed = laptop("deploy", "shop.py")
    others = laptop("call", "other/square", "--x", "7")

    assert login.returncode == 0, login.stderr
    assert (called.returncode, called.stdout) == (0, "49\n"), called.stderr
    assert deployed.returncode == others.returncode == 3
    assert "needs a token of scope 'deploy', and this one is of scope 'call'" in deployed.stderr
    assert "this token is for app 'shop' alone" in others.stderr
    used = next(one for one in cli.json("token", "list")["tokens"] if one["name"] == "laptop")
    assert used["last_used_at"] > used["created_at"]
    assert cli("token", "revoke", "laptop").returncode == 0
    refused = laptop("call", "shop/square", "--x", "7")
    assert refused.returncode == 3
    assert "not one of this server's" in refused.stderr


@contextmanager
def behind_tls(url: str) -> Iterator[str]:
    """A server at another URL, which is https: each connection is opened, and its bytes handed on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)

    class Proxy(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                with context.wrap_socket(self.request, server_side=True) as outside:
                    host, _, port = url.removeprefix("http://").partition(":")
                    with socket.create_connection((host, int(port))) as inside:
                        back = threading.Thread(target=hand_on, args=(inside, outside))
                        back.start()
                        hand_on(outside, inside)
                        back.join()
            except OSError:
                return  # the client does not trust us, or has left

    def hand_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Proxy) as proxy:
        serving = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield f"https://localhost:{proxy.server_address[1]}"
        finally:
            proxy.shutdown()
            serving.join()


def test_a_server_behind_tls_is_used_once_its_certificate_is_trusted(cli: Cli, laptop: Cli) -> None:
    shown = cli.json("token")
    with behind_tls(shown["url"]) as url:
        refused = laptop("login", url, "--token", shown["token"])
        login = laptop("login", url, "--token", shown["token"], "--ca", str(CERTIFICATE))
        called = laptop("call", "shop/square", "--x", "7")
        ran = laptop("run", "shop.py::square", "--x", "8")

    assert refused.returncode == 3
    assert f"cannot trust the server at {url}" in refused.stderr
    assert login.returncode == 0, login.stderr
    assert (called.returncode, called.stdout) == (0, "49\n"), called.stderr
    assert (ran.returncode, ran.stdout) == (0, "squaring 8\n64\n"), ran.stderr


def test_a_client_needs_nothing_that_only_linux_has(cli: Cli, laptop: Cli) -> None:
    shown = cli.json("token")

    login = elsewhere(laptop, "login", shown["url"], "--token", shown["token"])
    outcomes = [
        elsewhere(laptop, "apps"),
        elsewhere(laptop, "deploy", "shop.py", "--environment", "laptop"),
        elsewhere(laptop, "call", "shop/square", "--x", "7"),
        elsewhere(laptop, "run", "shop.py::square", "--x", "7"),
        elsewhere(laptop, "calls", "list"),
        elsewhere(laptop, "logs", "--function", "square"),
        elsewhere(laptop, "ps"),
        elsewhere(laptop, "completion", "zsh"),
        elsewhere(laptop, "profile", "list"),
    ]

    assert login.returncode == 0, login.stderr
    assert [(one.args[3:], one.stderr) for one in outcomes if one.returncode] == []
    assert (outcomes[2].stdout, outcomes[3].stdout) == ("49\n", "squaring 7\n49\n")


@pytest.mark.parametrize("platform", ["darwin", "win32"])
@pytest.mark.parametrize("words", [("up",), ("doctor",), ("run", "shop.py::square", "--x", "7")])
def test_a_server_needs_linux_and_says_so(laptop: Cli, platform: str, words: tuple[str, ...]) -> None:
    refused = elsewhere(laptop, *words, platform=platform)

    assert refused.returncode == 3
    assert re.fullmatch(rf"relight: cannot .*: it needs Linux, and this is {platform}; .*\n", refused.stderr)


def elsewhere(laptop: Cli, *words: str, platform: str = "") -> subprocess.CompletedProcess[str]:
    """A command on a machine without what only Linux, or only Unix, has."""
    command = [sys.executable, "-c", f"PLATFORM = {platform!r}\n{ELSEWHERE}", *words]
    return subprocess.run(
        command, cwd=laptop.folder, env=laptop.environ, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_init_writes_runs(cli: Cli, template: str) -> None:
    begun = cli.json("init", f"from-{template}", "--template", template)

    ran = cli("run", begun["file"])

    assert ran.returncode == 0, ran.stderr
    says = {
        "hello": "hello world",
        "map": "17984 primes below 200000",
        "class": "hapy -> happy",
        "stream": "it\nis\nmade\n",
    }
    assert says[template] in ran.stdout


def test_a_word_is_completed_from_what_the_server_has(cli: Cli) -> None:
    words = {"_RELIGHT_COMPLETE": "bash_complete", "COMP_WORDS": "relight stop sh", "COMP_CWORD": "2"}
    command = [sys.executable, "-c", "from relight.cli.main import main; main()"]

    found = subprocess.run(
        command, env={**cli.environ, **words}, capture_output=True, text=True, timeout=60, check=False
    )

    assert found.stdout.split() == ["plain,shop"]


def test_a_second_server_command_reads_a_line(cli: Cli) -> None:
    """Followed lines come as they are written, through a pipe too."""
    with cli.begin("logs", "--follow", "--function", "square", "--search", "4321", "--json") as follower:
        assert cli("call", "shop/square", "--x", "4321").returncode == 0
        line = json.loads(read_line(follower))
        follower.send_signal(signal.SIGINT)
        follower.communicate(timeout=30)

    assert line["text"] == "squaring 4321"
