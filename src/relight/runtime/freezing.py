"""Making a process safe to fork, or saying why it is not.

    prepare ▶ the user's imports, `@enter(snap=True)` ▶ freeze ▶ ( fork ▶ thaw )*

What a fork takes along is memory; what it does not are threads, and what was agreed with somebody outside: a device,
a peer, the kernel's event queues.  So C libraries are told to end their threads, which they start anew on need, and
whatever is left is a reason not to fork.  Two things are the same in every fork, since they are laid down with the
memory: Python's hash seed, and a `random.Random` or a seeded generator that the user's module keeps (`thawing.py`).
"""

from __future__ import annotations

import gc
import os
import stat
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from relight.runtime import native, threads
from relight.runtime.cpus import count_cpus
from relight.runtime.maps import Ranges, dense_ranges, libraries, read_maps, without

_COLLAPSE_SECONDS = 0.3  # torch's 140 MB take half of it; what is left when it is over stays in small pages
_END_SECONDS = 0.25  # for threads that were told to end
_ESTABLISHED = "01"  # of /proc/net/tcp
_LOOKED_FOR_GPU = (
    "a GPU was looked for while modules were imported (torch.cuda.is_available(), say), before there is any, and what was found "
    "would hold in every fork; look in @enter() or in the function instead"
)


class BitGenerator(Protocol):
    """What numpy's generators draw from."""

    state: object


@dataclass(frozen=True, slots=True)
class ThreadCount:
    """How many threads a library uses: what it does by itself, and the way to tell it."""

    now: int
    set: Callable[[int], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """A process that only forks from here on, and what `thaw` needs in each fork."""

    unsafe: str = ""
    """Why it must not be forked; "" when it may."""
    threads: int = 1
    seconds: float = 0.0
    counts: tuple[ThreadCount, ...] = ()
    """Of the libraries whose count the user left open."""
    generators: tuple[BitGenerator, ...] = ()
    """numpy's that the user's modules made without a seed."""


def prepare(cpu: float | None = None) -> dict[str, str]:
    """Before any import of the user's: where the user did not, say how many threads libraries are to use.

    Returns the variables that were set, for `freeze` to undo.  With the forks' own `cpu` (OpenMP, OpenBLAS, torch and
    numexpr go by this variable) a fork has little to tell them: they start their threads on the first need.
    """
    values = {"OMP_NUM_THREADS": str(count_cpus(cpu)), "TOKENIZERS_PARALLELISM": "false"}
    if "MKL_NUM_THREADS" in os.environ:
        del values["OMP_NUM_THREADS"]  # torch would heed it less
    preset = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(preset)
    return preset


def freeze(preset: Mapping[str, str], settled: Ranges = ()) -> Frozen:
    """After the user's imports: end what threads can be ended, find what forbids a fork, and settle memory for many.

    What is `settled` is shared with the process that this one was forked from, and is left so.
    """
    began = time.perf_counter()
    gc.collect()
    _keep_finalizers()
    generators = tuple(_unseeded_generators())
    gc.freeze()  # a collection in a fork would write to, and so copy, every page that holds an object
    pools = native.find_pools(libraries(read_maps()))
    counts = tuple(_open_counts(preset, pools))
    for pool in pools:
        pool.stop()
    for name, value in preset.items():
        if os.environ.get(name) == value:
            del os.environ[name]  # what is loaded has read it, and a fork is to see what a fresh start would
    others = threads.wait_harmless(_END_SECONDS)
    unsafe = _why_unsafe(others)
    if not unsafe:
        # From 3.12 on: Python has counted the threads, too, and does not know which.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded, use of fork", DeprecationWarning)
        native.trim()
        _collapse(settled)
    return Frozen(
        unsafe=unsafe,
        threads=1 + len(others),
        seconds=time.perf_counter() - began,
        counts=counts,
        generators=generators,
    )


def _keep_finalizers() -> None:
    """What is to be undone of what was made here is not a fork's to undo as it leaves: siblings may use it.

    torch takes its thousands of operators back one by one, for 20 ms and 25 MB of copied pages.  `atexit` is run all the
    same, and so are finalizers of what a fork makes.
    """
    for finalizer in tuple(getattr(weakref.finalize, "_registry", ())):
        finalizer.atexit = False


def _unseeded_generators() -> Iterator[BitGenerator]:
    """numpy's generators that took their seed, 128 bits of it, from the system: each fork is to have its own.

    One with a seed of the user's keeps it: its numbers are meant to be the same every time.
    """
    numpy_random = sys.modules.get("numpy.random")
    kind = getattr(numpy_random, "Generator", None)
    for each in gc.get_objects() if kind is not None else ():
        if type(each) is kind:
            entropy = getattr(getattr(each.bit_generator, "seed_seq", None), "entropy", None)
            if isinstance(entropy, int) and entropy.bit_length() > 96:  # less in one of 2**32
                yield each.bit_generator


def _open_counts(preset: Mapping[str, str], pools: list[native.ThreadPool]) -> Iterator[ThreadCount]:
    """The counts that are still as `prepare` has set them: another one is the user's."""
    value = preset.get("OMP_NUM_THREADS", "")
    if not value or os.environ.get("OMP_NUM_THREADS") != value:
        return
    for pool in pools:
        if pool.get() == int(value) and not any(name in os.environ for name in pool.variables):
            yield ThreadCount(int(value), pool.set)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads") and torch.get_num_threads() == int(value):
        # A thread that is yet to come asks the machine; OpenMP was told above, but for the thread that forks alone.
        yield ThreadCount(count_cpus(None), torch.set_num_threads)
    numexpr = sys.modules.get("numexpr")
    if numexpr is not None and "NUMEXPR_NUM_THREADS" not in os.environ and numexpr.get_num_threads() == int(value):
        most = int(numexpr.MAX_THREADS)
        yield ThreadCount(int(value), lambda count: numexpr.set_num_threads(min(count, most)))


def _why_unsafe(others: list[threads.Thread]) -> str:
    harmful = [thread for thread in others if not thread.is_harmless]
    if any(thread.libraries and "/libcuda.so" in thread.libraries[0] for thread in harmful):
        return _LOOKED_FOR_GPU
    if harmful:
        return threads.describe(harmful)
    return _numba() or _held_outside()


def _numba() -> str:
    parallel = sys.modules.get("numba.np.ufunc.parallel")
    if getattr(parallel, "_is_initialized", False):
        return "numba has compiled or run a parallel function, and dies in a fork; do so in @enter() or in the function instead"
    return ""


def _held_outside() -> str:
    """What this process holds that its forks would all hold, and only one of them could use."""
    torch_cuda = sys.modules.get("torch.cuda")
    if torch_cuda is not None and torch_cuda.is_initialized():
        return (
            "torch has initialised CUDA, which no fork can use; move to the GPU in @enter() or in the function instead"
        )
    connected: dict[str, str] | None = None
    for target in _descriptors():
        if target.startswith("/dev/nvidia-uvm"):
            return "CUDA is initialised, which no fork can use; use the GPU in @enter() or in the function instead"
        if target == "anon_inode:[eventpoll]":
            return (
                "an event loop (or a selector) is open, which its forks would share; "
                "close it, or make it in @enter() or in the function"
            )
        if target.startswith("socket:"):
            connected = _connected() if connected is None else connected
            peer = connected.get(target[len("socket:[") : -1])
            if peer:
                return f"a connection to {peer} is open, which its forks would share; close it, or open it in @enter()"
    return ""


def _descriptors() -> Iterator[str]:
    """What this process has open."""
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                if not stat.S_ISREG(os.stat(f"/proc/self/fd/{name}").st_mode):
                    yield os.readlink(f"/proc/self/fd/{name}")


def _connected() -> dict[str, str]:
    """The peers of this network's TCP connections, by the number of the socket."""
    found = {}
    for name in ("tcp", "tcp6"):
        with suppress(OSError), open(f"/proc/self/net/{name}", encoding="utf-8") as file:
            for fields in map(str.split, file):
                if len(fields) > 9 and fields[3] == _ESTABLISHED:
                    found[fields[9]] = f"port {int(fields[2].rpartition(':')[2], 16)}"
    return found


def _collapse(settled: Ranges) -> None:
    """Have what is used in huge pages: a fork copies a page table of 512 entries, or the one entry above it."""
    until = time.perf_counter() + _COLLAPSE_SECONDS
    for start, end in without(dense_ranges(read_maps()), settled):
        if time.perf_counter() > until or not native.collapse(start, end):
            return
