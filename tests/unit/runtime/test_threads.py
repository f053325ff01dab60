"""Whose threads these are."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import pytest

from relight.runtime.threads import Thread, describe, other_threads, package_of, wait_harmless

SITE = "/home/me/.venv/lib/python3.11/site-packages"

only_on_linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@pytest.fixture
def waiting() -> Iterator[threading.Event]:
    """A thread named `waiter` ends once this is set."""
    event = threading.Event()
    thread = threading.Thread(target=event.wait, name="waiter")
    thread.start()
    yield event
    event.set()
    thread.join()


@only_on_linux
def test_a_thread_of_python_is_known_by_the_name_it_was_given(waiting: threading.Event) -> None:
    found = [thread for thread in other_threads() if thread.name == "waiter"]

    assert found == [Thread(name="waiter", is_python=True)]
    assert found[0].owner == "Python"
    assert not found[0].is_harmless


@only_on_linux
def test_a_thread_that_is_about_to_end_is_waited_for(waiting: threading.Event) -> None:
    waiting.set()

    assert not [thread for thread in wait_harmless(1) if thread.name == "waiter"]


@only_on_linux
def test_one_that_stays_is_not_waited_for_longer_than_was_said(waiting: threading.Event) -> None:
    began = time.monotonic()

    found = wait_harmless(0.02)

    assert "waiter" in [thread.name for thread in found]
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("path", "package"),
    [
        (f"{SITE}/_polars_runtime_32/_polars_runtime.abi3.so", "polars"),
        (f"{SITE}/jaxlib/libjax_common.so", "jax"),
        (f"{SITE}/torch/lib/libtorch_cpu.so", "torch"),
        (f"{SITE}/numpy.libs/libscipy_openblas64_-32a4b2a6.so", "numpy"),
        ("/usr/lib/x86_64-linux-gnu/libfoo.so.1.2", "libfoo"),
    ],
)
def test_a_library_belongs_to_the_package_that_it_came_with(path: str, package: str) -> None:
    assert package_of(path) == package


@pytest.mark.parametrize(
    ("thread", "is_harmless"),
    [
        (Thread(name="jemalloc_bg_thd"), True),
        (Thread(name="python", libraries=(f"{SITE}/numpy.libs/libscipy_openblas64_-1.so",)), True),
        (Thread(name="python", libraries=(f"{SITE}/torch/lib/libtorch_cpu.so",)), True),
        (Thread(name="pt_autograd_0", libraries=(f"{SITE}/torch/lib/libtorch_cpu.so",)), False),
        (Thread(name="python", libraries=(f"{SITE}/torch/lib/libgomp.so.1",)), False),
        (Thread(name="python", libraries=(f"{SITE}/foo.so", f"{SITE}/torch/lib/libtorch_cpu.so")), False),
        (Thread(name="python"), False),
    ],
)
def test_a_thread_is_harmless_where_its_library_starts_it_again_in_a_fork(thread: Thread, is_harmless: bool) -> None:
    assert thread.is_harmless is is_harmless


def test_why_says_who_how_many_and_what_to_do() -> None:
    threads = [Thread(name=f"polars-{n}", libraries=(f"{SITE}/_polars_runtime_32/x.so",)) for n in range(6)]

    assert describe(threads) == (
        "polars has started 6 threads (polars-0, polars-1, polars-2, polars-3, …) that a fork would not have; "
        "start them in @enter() or in the function instead"
    )


def test_one_thread_of_nobody_known_is_said_so() -> None:
    assert describe([Thread(name="worker")]).startswith("a library has started 1 thread (worker) that")
