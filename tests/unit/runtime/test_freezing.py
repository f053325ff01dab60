"""A process is made safe to fork, or says why it is not."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from relight.runtime.freezing import count_cpus

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="templates are Linux's")

RunTemplate = Any


@pytest.mark.parametrize(("cpu", "count"), [(0.25, 1), (1.0, 1), (1.5, 2), (4.0, 4)])
def test_a_request_for_cpu_has_a_thread_for_each_that_it_begins(cpu: float, count: int) -> None:
    assert count_cpus(cpu) == count


def test_no_request_has_a_thread_for_each_cpu_there_is() -> None:
    assert count_cpus(None) == len(os.sched_getaffinity(0))


def test_a_process_that_imported_nothing_may_be_forked(run_template: RunTemplate) -> None:
    frozen = run_template("""
        import gc
        frozen = freeze(prepare())
        report([frozen.unsafe, frozen.threads, frozen.seconds, gc.get_freeze_count()])
    """)

    unsafe, threads, seconds, objects = frozen
    assert (unsafe, threads) == ("", 1)
    assert 0 < seconds < 10
    assert objects > 1000


def test_a_fork_that_leaves_undoes_what_it_made_and_nothing_of_its_template(run_template: RunTemplate) -> None:
    undone = run_template("""
        import atexit, weakref
        class Thing: pass
        reading, writing = os.pipe()
        def note(word): os.write(writing, word.encode() + b" ")
        things = [Thing(), Thing()]
        weakref.finalize(things[0], note, "template's")
        atexit.register(note, "atexit")
        freeze(prepare())
        if not (child := os.fork()):
            weakref.finalize(things[1], note, "fork's")
            atexit._run_exitfuncs()
            os._exit(0)
        os.waitpid(child, 0)
        atexit.unregister(note)
        report(os.read(reading, 100).decode().split())
    """)

    assert sorted(undone) == ["atexit", "fork's"]


def test_variables_are_set_for_the_imports_alone(run_template: RunTemplate) -> None:
    before, between, after = run_template("""
        def seen():
            return {name: os.environ[name] for name in ("OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM") if name in os.environ}
        before, preset, between = seen(), prepare(3.0), seen()
        freeze(preset)
        report([before, between, seen()])
    """)

    assert (before, after) == ({}, {})
    assert between == {"OMP_NUM_THREADS": "3", "TOKENIZERS_PARALLELISM": "false"}


@pytest.mark.parametrize(
    ("env", "assignment"),
    [
        pytest.param({"OMP_NUM_THREADS": "5"}, "", id="the function's environment"),
        pytest.param({}, "os.environ['OMP_NUM_THREADS'] = '5'", id="the module"),
    ],
)
def test_a_variable_that_the_user_sets_stays(env: dict[str, str], assignment: str, run_template: RunTemplate) -> None:
    value = run_template(
        f"preset = prepare()\n{assignment}\nfreeze(preset)\nreport(os.environ['OMP_NUM_THREADS'])", env=env
    )

    assert value == "5"


def test_one_that_the_user_sets_for_mkl_decides_for_openmp_too(run_template: RunTemplate) -> None:
    assert run_template("report(sorted(prepare()))", env={"MKL_NUM_THREADS": "1"}) == ["TOKENIZERS_PARALLELISM"]


def test_a_thread_of_the_users_module_forbids_it_and_is_named(run_template: RunTemplate) -> None:
    unsafe, threads = run_template("""
        import threading
        threading.Thread(target=threading.Event().wait, name="metrics", daemon=True).start()
        frozen = freeze(prepare())
        report([frozen.unsafe, frozen.threads])
    """)

    assert threads == 2
    assert unsafe == (
        "Python has started 1 thread (metrics) that a fork would not have; start them in @enter() or in the function instead"
    )


def test_a_thread_that_has_ended_does_not(run_template: RunTemplate) -> None:
    unsafe = run_template("""
        import threading
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        report(freeze(prepare()).unsafe)
    """)

    assert unsafe == ""


@pytest.mark.parametrize(("is_closed", "reason"), [(False, "an event loop (or a selector) is open"), (True, "")])
def test_an_event_loop_forbids_it_until_it_is_closed(is_closed: bool, reason: str, run_template: RunTemplate) -> None:
    unsafe = run_template(f"""
        import asyncio
        loop = asyncio.new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        if {is_closed}:
            loop.close()
        report(freeze(prepare()).unsafe)
    """)

    assert unsafe.startswith(reason)
    assert bool(unsafe) is not is_closed


def test_a_connection_forbids_it_and_a_socket_that_is_not_connected_does_not(run_template: RunTemplate) -> None:
    ports, listening, connected = run_template("""
        import socket
        server = socket.create_server(("127.0.0.1", 0))
        pair = socket.socketpair()
        listening = freeze(prepare()).unsafe
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        ports = [client.getpeername()[1], accepted.getpeername()[1]]
        report([ports, listening, freeze(prepare()).unsafe])
    """)

    assert listening == ""
    assert connected in [
        f"a connection to port {port} is open, which its forks would share; close it, or open it in @enter()"
        for port in ports
    ]


def test_to_fork_beside_a_harmless_thread_warns_nobody(run_template: RunTemplate) -> None:
    found = run_template(
        """
        import threading
        threads._HARMLESS += ("metrics",)
        threading.Thread(target=threading.Event().wait, name="metrics", daemon=True).start()
        report(forks(2, lambda: 1, freeze(prepare())))
        """,
        "-W",
        "error",
    )

    assert found == [1, 1]


def test_what_was_collected_is_not_looked_at_again_in_a_fork(run_template: RunTemplate) -> None:
    objects = run_template("""
        import gc
        kept = [[n] for n in range(100_000)]
        frozen = freeze(prepare())
        report(forks(1, lambda: len(gc.get_objects()), frozen))
    """)

    assert objects[0] < 10_000
