"""Workers that are forks of a template, on a real server: nobody can tell them from workers that are not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import relight
from e2e import app_templates as both
from relight.protocol.errors import FunctionTimeout, WorkerLost
from servers import Server, bases_of, grown_as, templates_of, wait_until

WAYS = ("forked", "alone")
MODULE = """
import relight, threading
app = relight.App({name!r})
{code}

@app.function({options})
def f() -> int:
    return 1
"""
pytestmark = pytest.mark.root


@pytest.fixture(scope="module", autouse=True)
def deployed(server: Server) -> Iterator[None]:
    both.app.deploy()
    assert of("add", "forked").remote(1, 2) == 3
    yield
    assert both.app._session is not None
    both.app._session.connection.close()


def of(name: str, way: str) -> Any:
    return both.app.functions[f"{name}_{way}"]


def starts(server: Server, function: str) -> list[Any]:
    """The starts of a function's workers, newest first."""
    return list(server.get(f"/v1/starts?app=templates&function={function}")["starts"])


def lines(server: Server, call: relight.Call[Any], source: str = "stdout") -> list[str]:
    return [line["text"] for line in server.lines(f"/v1/logs?call={call.id}") if line["source"] == source]


def compared(name: str, *args: Any, **kwargs: Any) -> Any:
    """What both ways answer, which must be the same."""
    forked, alone = (of(name, way).remote(*args, **kwargs) for way in WAYS)
    assert forked == alone
    return forked


def failures(name: str, *args: Any, **kwargs: Any) -> tuple[type[BaseException], str]:
    """How both ways fail, which must be the same but for names of calls and workers."""
    found = []
    for way in WAYS:
        with pytest.raises(relight.RelightError) as caught:
            of(name, way).remote(*args, **kwargs)
        found.append((caught.type, re.sub(r"(worker|call)-\w+|_(forked|alone)", r"\1", str(caught.value))))
    assert found[0] == found[1]
    return found[0]


def test_functions_of_one_module_are_forks_of_one_template_that_imported_it_once(server: Server) -> None:
    assert of("work_async", "forked").remote("x") == "x"

    wait_until(lambda: bool(starts(server, "work_async_forked")), server)  # a start is written down a moment later
    (start,) = starts(server, "work_async_forked")
    assert (start["level"], start["why"]) == ("fork", "")
    forks = [one for one in server.get("/v1/starts?app=templates")["starts"] if one["function"].endswith("_forked")]
    said = [line["worker"] for line in server.lines("/v1/logs?app=templates") if line["text"] == "imported once"]
    assert len(forks) > 1
    assert len([worker for worker in said if worker in {one["worker"] for one in forks}]) == 1
    assert sum(one["level"] != "fork" for one in forks) <= 1


def test_a_function_without_a_template_says_that_it_was_asked_to(server: Server) -> None:
    assert of("add", "alone").remote(1, 2) == 3

    wait_until(lambda: bool(starts(server, "add_alone")), server)
    (start,) = starts(server, "add_alone")
    assert start["level"] in ("import", "boot"), "as the base of the image is ready by then, or not"
    assert start["why"] == "asked: the function has template=False"


def test_a_fork_sees_all_that_a_fresh_process_sees() -> None:
    seen = [of("surroundings", way).remote() for way in WAYS]
    workers = [one["environ"].pop("RELIGHT_WORKER") for one in seen]

    assert seen[0] == seen[1]
    assert len({*workers, ""}) == 3


def test_threads_processes_loops_and_signals_work_in_a_fork() -> None:
    assert compared("work") == ["thread", "A", "B", "child\n", 1, 2, -15, "loop", "alarm"]
    assert compared("work_async", "later") == "later"


def test_generators_stream_from_a_fork() -> None:
    for name in ("count", "count_async"):
        items = [list(of(name, way).remote(3)) for way in WAYS]
        assert items == [[0, 1, 2]] * 2


def test_what_came_by_value_is_forked_too(server: Server) -> None:
    assert compared("by_value", 5) == 15


@pytest.mark.slow
@pytest.mark.parametrize("how", ["_exit", "exit", "abort", "kill"])
def test_however_a_fork_ends_is_told_as_of_a_fresh_process(how: str) -> None:
    compared("end", "well")

    kind, message = failures("end", how)

    if how != "exit":
        assert kind is WorkerLost
        assert {"_exit": "exit code 3", "abort": "SIGABRT", "kill": "SIGKILL"}[how] in message or "3" in message


@pytest.mark.slow
def test_a_fork_that_uses_up_its_memory_is_said_to_have() -> None:
    _, message = failures("grow")

    assert "memory" in message


@pytest.mark.parametrize("is_stubborn", [False, True])
def test_a_fork_that_takes_too_long_is_stopped(is_stubborn: bool) -> None:
    kind, _ = failures("overrun", is_stubborn=is_stubborn)

    assert kind is FunctionTimeout


def test_what_a_fork_and_its_children_write_is_its_calls(server: Server) -> None:
    for way in WAYS:
        call = of("speak", way).spawn()
        call.get(timeout=60)
        assert lines(server, call) == ["by Python", "by a child"]
        assert lines(server, call, "stderr") == ["to stderr"]


def test_a_call_made_in_a_fork_is_a_child_of_the_forks_call(server: Server) -> None:
    for way in WAYS:
        call = of("nest", way).spawn(3, 4)

        assert call.get(timeout=60) == 7

        tree = json.dumps(server.get(f"/v1/calls/{call.id}/tree"))
        assert "add_forked" in tree


def test_forks_of_one_template_share_nothing_but_a_name(server: Server) -> None:
    calls = [of("hold", "forked").spawn(4711) for _ in range(3)]
    wait_until(lambda: all(lines(server, call) for call in calls), server)
    facts = [json.loads(lines(server, call)[0]) for call in calls]
    for call in calls:
        call.cancel()
    for call in calls:
        with pytest.raises(relight.CallCancelled):
            call.get(timeout=60)

    assert [one["port"] for one in facts] == [4711] * 3
    assert len({one["worker"] for one in facts}) == 3
    for index, space in enumerate(both.SPACES):
        assert len({one["spaces"][index] for one in facts}) == 3, space
    assert len({(one["host"], one["processes"]) for one in facts}) == 1
    assert {start["level"] for start in starts(server, "hold_forked")} == {"fork"}


@pytest.mark.parametrize("way", WAYS)
def test_a_classs_objects_live_in_forks(server: Server, way: str) -> None:
    kind: Any = both.Forked if way == "forked" else both.Alone

    assert kind().add.remote(1) == (6, "")
    assert kind(start=7).add.remote(1) == (8, "")
    assert kind.with_options(env={"MODE": "x"})().add.remote(2) == (7, "x")


def test_other_limits_are_other_forks_of_the_same_template(server: Server) -> None:
    before = len(starts(server, "add_forked"))

    assert of("add", "forked").with_options(memory=200, cpu=0.5).remote(1, 2) == 3

    newest, *others = starts(server, "add_forked")
    assert (len(others), newest["level"], newest["why"]) == (before, "fork", "")


@pytest.fixture
def deploy(server: Server, tmp_path: Path) -> Any:
    """Deploys a module whose top level has this code; its function."""

    def deployed(name: str, code: str, options: str = "", *words: str) -> Any:
        (tmp_path / f"{name}.py").write_text(MODULE.format(name=name, code=code, options=options))
        command = [sys.executable, "-m", "relight", "deploy", f"{name}.py", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return relight.Function.from_name(name, "f")

    return deployed


@pytest.fixture
def with_base(server: Server, deploy: Any) -> None:
    """The image's base is ready: what is deployed from now on is forked from it."""
    for number in range(40):
        name = f"before{number}"
        assert deploy(name, "", "template=False").remote() == 1
        newest, *_ = of_app(server, name)
        if "fork" in phases(newest):
            return
    pytest.fail("no base was made")


def phases(start: Any) -> list[str]:
    """What a start went through."""
    return [phase["name"] for phase in start["phases"]]


def of_app(server: Server, name: str) -> Any:
    """The starts of an app, of which there is one at least."""
    wait_until(lambda: bool(server.get(f"/v1/starts?app={name}")["starts"]), server)
    return server.get(f"/v1/starts?app={name}")["starts"]


@pytest.mark.usefixtures("with_base")
def test_a_new_version_is_forked_from_the_base_of_its_image(server: Server, deploy: Any) -> None:
    before = set(templates_of(server))

    assert deploy("based", "").remote() == 1

    (start,) = of_app(server, "based")
    assert start["level"] in ("import", "fork", "fetch"), (
        "as the call waited for the template, or came after it was made"
    )
    (template,) = set(templates_of(server)) - before
    assert grown_as(template) == "template"


@pytest.mark.usefixtures("with_base")
@pytest.mark.parametrize(
    ("variable", "phase"), [("PYTHONHASHSEED", "python"), ("LANG", "python"), ("OMP_NUM_THREADS", "fork")]
)
def test_a_variable_that_python_reads_as_it_starts_is_for_a_fresh_process(
    server: Server, deploy: Any, variable: str, phase: str
) -> None:
    name = f"with_{variable.lower()}"
    code = f"import os\nassert not relight.is_remote() or os.environ[{variable!r}] == '3'"
    function = deploy(name, code, f"template=False, env={{{variable!r}: '3'}}")

    assert function.remote() == 1

    (start,) = of_app(server, name)
    assert phase in phases(start)


@pytest.mark.usefixtures("with_base")
def test_a_function_without_a_template_is_forked_from_the_base(server: Server, deploy: Any) -> None:
    function = deploy("lonely", "", "template=False, scaledown_window=0")
    assert function.remote() == 1
    wait_until(lambda: not [one for one in server.get("/v1/workers")["workers"] if one["app"] == "lonely"], server)

    assert function.remote() == 1

    wait_until(lambda: len(of_app(server, "lonely")) == 2, server)
    newest, _ = of_app(server, "lonely")
    assert (newest["level"], newest["why"]) == ("import", "asked: the function has template=False")
    assert phases(newest) == ["place", "layout", "sandbox", "fork", "thaw", "import", "enter"]


@pytest.mark.slow
@pytest.mark.usefixtures("with_base")
def test_a_base_that_is_killed_costs_no_call_and_is_made_again(server: Server, deploy: Any) -> None:
    function = deploy("kept", "")
    assert function.remote() == 1
    (base,) = bases_of(server)

    os.kill(base, signal.SIGKILL)

    assert function.remote() == 1
    assert deploy("afterwards", "").remote() == 1
    wait_until(lambda: bases_of(server) not in ([], [base]), server)


def test_a_module_that_leaves_a_thread_is_never_forked_and_the_start_says_why(server: Server, deploy: Any) -> None:
    function = deploy("threaded", "threading.Thread(target=threading.Event().wait, name='ticker', daemon=True).start()")

    assert function.remote() == 1

    (start,) = server.get("/v1/starts?app=threaded")["starts"]
    assert start["level"] in ("import", "boot")
    assert re.match("unsafe: .*ticker", start["why"]), start["why"]


def test_a_module_that_cannot_be_imported_shows_its_traceback_once_for_each_start(server: Server, deploy: Any) -> None:
    function = deploy("failing", "print('before')\nrelight.is_remote() and 1 / 0", "", "--no-wait")

    with pytest.raises(relight.RelightError, match=r"cannot load failing\.f: ZeroDivisionError: division by zero"):
        function.remote()

    said = [(line["source"], line["text"]) for line in server.lines("/v1/logs?app=failing")]
    failed = server.get("/v1/starts?app=failing")["starts"]
    assert {start["failure"] for start in failed} == {"start_failed"}
    assert said.count(("stdout", "before")) == said.count(("stderr", "ZeroDivisionError: division by zero")) >= 1
    assert said.index(("stdout", "before")) < said.index(("stderr", "ZeroDivisionError: division by zero"))
    assert not any("relight/runtime" in text for _, text in said)
