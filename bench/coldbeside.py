"""A process that starts something else than relight each time it is told to, and says what that took.

    python coldbeside.py fork torch            a fork of this process, which has imported torch
    python coldbeside.py collapsed torch FILE  the same with its memory in huge pages, and FILE mapped
    python coldbeside.py command WORDS…        a command, until it has ended
    python coldbeside.py ray torch             an actor that imports torch: made, called once

Each line of the input is one start, and is answered by a line with its seconds; before them a line says `ready`, or
why this cannot be had here.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import logging
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

MADV_COLLAPSE = 25
HUGE_PAGE = 2 * 1024 * 1024

Start = Callable[[], float]
"""Starts one, and returns the seconds that it took."""


class Missing(Exception):
    """Why this cannot be had here."""


@contextmanager
def forks(words: Sequence[str], *, is_collapsed: bool = False) -> Iterator[Start]:
    """`os.fork` of a process that has imported the modules `words[0]`; what `words[1]` names is mapped."""
    for name in filter(None, words[0].split(",")):
        importlib.import_module(name)
    with ExitStack() as stack:
        for path in words[1:]:
            file = stack.enter_context(Path(path).open("rb"))
            view = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            sum(view[::4096])  # it is in memory, as weights are that were used
        gc.collect()
        gc.freeze()
        if is_collapsed:
            collapse()
        yield fork_once


def fork_once() -> float:
    """Until the parent has heard from the child; the child is gone by the return."""
    reading, writing = os.pipe()
    began = time.perf_counter()
    child = os.fork()
    if not child:
        os.write(writing, b".")
        os._exit(0)
    os.read(reading, 1)
    seconds = time.perf_counter() - began
    os.close(reading)
    os.close(writing)
    os.waitpid(child, 0)
    return seconds


def collapse() -> None:
    """Ask for huge pages under all anonymous memory that is written, as far as the kernel gives them."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, _, _, inode, *_ = line.split()
        first, last = (int(part, 16) for part in span.split("-"))
        if rights.startswith("rw") and inode == "0" and last - first >= HUGE_PAGE:
            libc.madvise(first, last - first, MADV_COLLAPSE)


@contextmanager
def commands(words: Sequence[str]) -> Iterator[Start]:
    """A command, from its start until it has ended.  Raises Missing when it does not work."""

    def start() -> float:
        began = time.perf_counter()
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise Missing(f"{words[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-300:]}")
        return seconds

    start()
    yield start


@contextmanager
def ray_actors(words: Sequence[str]) -> Iterator[Start]:
    """An actor in a Ray of its own, from its making until its first answer is there."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        raise Missing("ray is not installed; pip install -e '.[bench]'") from error
    imports = words[0] if words else ""
    with tempfile.TemporaryDirectory(prefix="ry-", ignore_cleanup_errors=True) as folder:
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, _temp_dir=folder
        )
        kind: Any = ray.remote(_Actor)

        def start() -> float:
            began = time.perf_counter()
            actor = kind.remote(imports)
            answer = ray.get(actor.same.remote(7))
            seconds = time.perf_counter() - began
            ray.kill(actor)
            if answer != 7:
                raise ValueError(f"cannot measure: the answer to 7 is {answer!r}")
            time.sleep(0.5)  # its process leaves, and Ray readies another
            return seconds

        try:
            yield start
        finally:
            ray.shutdown()


class _Actor:
    """Lives in a process of its own."""

    def __init__(self, imports: str) -> None:
        for name in filter(None, imports.split(",")):
            importlib.import_module(name)

    def same(self, x: int) -> int:
        """Give back what came."""
        return x


@contextmanager
def collapsed_forks(words: Sequence[str]) -> Iterator[Start]:
    """As `forks`, in huge pages."""
    with forks(words, is_collapsed=True) as start:
        yield start


KINDS = {"fork": forks, "collapsed": collapsed_forks, "command": commands, "ray": ray_actors}


def main(kind: str, words: Sequence[str]) -> None:
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever is started prints there
    try:
        with KINDS[kind](words) as start:
            answers.write("ready\n")
            for _ in sys.stdin:
                answers.write(f"{start()}\n")
    except Missing as why:
        answers.write(f"{why}".replace("\n", " ") + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
