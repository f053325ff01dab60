"""What the tests of templates call: each function twice, by workers that are forks and by workers that are not."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import relight

app = relight.App("templates")
F = TypeVar("F", bound=Callable[..., Any])
OWN = {"/run/relight/platform.sock"}  # a fresh process's, where a fork has a link into its /.scratch
SPACES = ("pid", "mnt", "ipc", "net", "cgroup")

print("imported once")


def twice(**options: Any) -> Callable[[F], F]:
    """Have a function under two names, `NAME_forked` and `NAME_alone`."""

    def decorate(raw: F) -> F:
        app.function(name=f"{raw.__name__}_forked", **options)(raw)
        app.function(name=f"{raw.__name__}_alone", template=False, **options)(raw)
        return raw

    return decorate


@twice()
def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


@twice()
def surroundings() -> dict[str, Any]:
    """All that a program can see of its process, as texts to compare."""
    status = Path("/proc/self/status").read_text().splitlines()
    told = ("CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs", "Uid", "Gid", "Groups", "Umask", "SigIgn")
    return {
        "ids": (os.getpid() > 1, os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()),
        "status": [line for line in status if line.startswith(tuple(f"{name}:" for name in told))],
        "environ": dict(sorted(os.environ.items())),
        "limits": [resource.getrlimit(which) for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)],
        "handlers": {name.name: repr(signal.getsignal(name)).split(" at ")[0] for name in signal.Signals},
        "descriptors": sorted(_kind(name) for name in os.listdir("/proc/self/fd")),
        "processes": sum(name.isdecimal() for name in os.listdir("/proc")),
        "files": [sorted(os.listdir(folder)) for folder in ("/tmp", "/dev/shm", os.path.expanduser("~"))],
        "mounts": sorted({line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()} - OWN),
        "place": (os.getcwd(), socket.gethostname(), sys.path[1:], sys.stdin.read()),
        "python": (sys.argv, sys.flags.dont_write_bytecode, __name__, sys.modules["__main__"].__name__),
        "threads": threading.active_count(),
        "oom": Path("/proc/self/oom_score_adj").read_text(),
        "module": sorted(name for name in sys.modules if name == "e2e" or name.startswith("e2e.")),
    }


def _kind(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").partition(":")[0]
    except OSError:
        return "the one that lists"


@twice()
def work() -> list[Any]:
    """Threads, processes, loops and signals of the function's own."""
    found: list[Any] = []
    thread = threading.Thread(target=found.append, args=("thread",))
    thread.start()
    thread.join()
    with ThreadPoolExecutor(2) as threads:
        found += threads.map(str.upper, ("a", "b"))
    found.append(subprocess.run(["/bin/echo", "child"], capture_output=True, text=True, check=True).stdout)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found += pool.map(abs, [-1, -2])
    child = multiprocessing.get_context("fork").Process(target=threading.Event().wait)
    child.start()
    child.terminate()
    child.join()
    found.append(child.exitcode)
    found.append(asyncio.run(_later("loop")))
    previous = signal.signal(signal.SIGALRM, lambda *_: found.append("alarm"))
    signal.raise_signal(signal.SIGALRM)
    signal.signal(signal.SIGALRM, previous)
    return found


async def _later(word: str) -> str:
    await asyncio.get_running_loop().run_in_executor(None, str, word)
    return word


@twice()
async def work_async(word: str) -> str:
    """An async function."""
    return await _later(word)


@twice()
def count(to: int) -> Iterator[int]:
    """A generator."""
    yield from range(to)


@twice()
async def count_async(to: int) -> AsyncIterator[int]:
    """An async generator."""
    for number in range(to):
        yield number


@twice(retries=0)
def end(how: str) -> None:
    """End the process, or, as nothing else lifts the brake on crash loops, do not."""
    if how == "well":
        return
    print("about to end", flush=True)
    if how == "_exit":
        os._exit(3)
    if how == "exit":
        sys.exit(4)
    if how == "abort":
        os.abort()
    os.kill(os.getpid(), signal.SIGKILL)


@twice(memory=96)
def grow() -> int:
    """Use more memory than there is."""
    print("growing", flush=True)
    return len(bytearray(os.urandom(1024)) * (400 << 10))


@twice(timeout=0.3, grace=0.3)
def overrun(*, is_stubborn: bool) -> None:
    """Take longer than it may, and not obey."""
    while True:
        try:
            threading.Event().wait(60)
        except BaseException:
            if not is_stubborn:
                raise


@twice(max_workers=3)
def hold(port: int) -> None:
    """Take a port and a file, say what this process sees, and stay until cancelled."""
    listening = socket.create_server(("127.0.0.1", port))
    mark = Path("/tmp/mine")
    mark.touch(exist_ok=False)
    facts = {
        "worker": os.environ["RELIGHT_WORKER"],
        "spaces": [os.readlink(f"/proc/self/ns/{name}") for name in SPACES],
        "host": socket.gethostname(),
        "processes": sum(name.isdecimal() for name in os.listdir("/proc")),
        "port": listening.getsockname()[1],
    }
    print(json.dumps(facts), flush=True)
    threading.Event().wait()


@twice()
def nest(a: int, b: int) -> int:
    """The sum, by another worker."""
    return int(app.functions["add_forked"].remote(a, b))


@twice()
def speak() -> None:
    """Write, by Python and by a child."""
    print("by Python", flush=True)
    subprocess.run(["/bin/echo", "by a child"], check=True)
    print("to stderr", file=sys.stderr)


def _by_value(base: int) -> None:
    @app.function(serialized=True, name="by_value_forked")
    def forked(x: int) -> int:
        return base + x

    @app.function(serialized=True, name="by_value_alone", template=False)
    def alone(x: int) -> int:
        return base + x


_by_value(10)


class Counter:
    """What both classes are."""

    start: int = relight.parameter(default=5)

    @relight.enter()
    def load(self) -> None:
        """Count from here."""
        self.n = self.start

    @relight.exit()
    def leave(self) -> None:
        """The last word."""
        print(f"left at {self.n}")

    @relight.method()
    def add(self, n: int) -> tuple[int, str]:
        """Count on."""
        self.n += n
        return self.n, os.environ.get("MODE", "")


@app.cls(name="Counter_forked")
class Forked(Counter):
    """By forks."""


@app.cls(name="Counter_alone", template=False)
class Alone(Counter):
    """By processes of their own."""
