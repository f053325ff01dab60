"""The threads of this process beside the one that asks, and whose they are.

A fork takes none of them along, and leaves behind what they held: a lock is locked for good, a queue is never served.
Whose a thread is can be seen without stopping it: the kernel tells where its stack is, and on the stack lie the
addresses that it will return to, each in the code of some library.
"""

from __future__ import annotations

import array
import bisect
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from relight.runtime.maps import Mapping, read_maps

# Known by its name: whoever forks may leave it behind.
_HARMLESS = (
    "jemalloc_bg_thd",  # jemalloc (pyarrow, polars) knows of forks, and goes without it
    "polars-ooc-clea",  # removes files that other processes of polars have left behind
)
_SYSTEM = ("libc.so", "libc-", "ld-linux", "ld-musl", "libpthread", "libstdc++", "libgcc_s", "libpython", "libm.so")
_STACK_BYTES = 64 << 10  # of the oldest end


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A thread that is not the one that asks."""

    name: str
    libraries: tuple[str, ...] = ()
    """The files whose code is on its stack, the outermost, which it started in, first; none where that cannot be seen."""
    is_python: bool = False

    @property
    def is_harmless(self) -> bool:
        """Whether a process that has it can be forked all the same."""
        return self.name in _HARMLESS or (bool(self.libraries) and _is_renewed(self.name, self.libraries[0]))

    @property
    def owner(self) -> str:
        """Whose it is, for people: a package, a library, or Python."""
        if self.is_python or not self.libraries:
            return "Python" if self.is_python else ""
        return package_of(self.libraries[0])


def other_threads() -> list[Thread]:
    """The threads there are."""
    maps: list[Mapping] = []
    found = []
    pythons = {thread.native_id: thread.name for thread in threading.enumerate()}
    for task in _tasks():
        if task in pythons:
            found.append(Thread(name=pythons[task], is_python=True))
            continue
        maps = maps or read_maps()
        name = _name_of(task)
        if name:
            found.append(Thread(name=name, libraries=_libraries_of(task, maps)))
    return found


def wait_harmless(seconds: float) -> list[Thread]:
    """The threads there are once all of them are harmless, or after `seconds`: one told to end takes a moment."""
    until = time.monotonic() + seconds
    while True:
        found = other_threads()
        if all(thread.is_harmless for thread in found) or time.monotonic() > until:
            return found
        time.sleep(0.001)  # the kernel announces the end of a thread to nobody but who joins it


def describe(threads: Sequence[Thread]) -> str:
    """Why these threads keep the process from being forked, and what to do."""
    owners = list(dict.fromkeys(thread.owner for thread in threads if thread.owner))
    names = list(dict.fromkeys(thread.name for thread in threads))
    shown = ", ".join(names[:4]) + ", …" * (len(names) > 4)
    count = f"{len(threads)} thread{'s' * (len(threads) > 1)}"
    return (
        f"{' and '.join(owners) or 'a library'} has started {count} ({shown}) that a fork would not have; "
        "start them in @enter() or in the function instead"
    )


def package_of(path: str) -> str:
    """The package that a library came with, by the folder that it lies in; its own name where that says nothing."""
    _, found, inside = path.rpartition("/site-packages/")
    name = inside.split("/")[0] if found else os.path.basename(path)
    name = name.partition(".")[0].lstrip("_")
    return {"jaxlib": "jax", "llvmlite": "numba"}.get(name, name.partition("_runtime")[0])


def _is_renewed(name: str, library: str) -> bool:
    """Whether the library notices a fork and starts this thread again when it is needed."""
    file = os.path.basename(library)
    return (
        file.startswith(("libopenblas", "libscipy_openblas"))
        or package_of(library) == "numexpr"
        or (file == "libtorch_cpu.so" and not name.startswith("pt_"))  # the pool of `torch.set_num_threads`
    )


def _name_of(task: int) -> str:
    """What the kernel calls a thread, "" once it has ended."""
    with suppress(OSError), open(f"/proc/self/task/{task}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().strip()
    return ""


def _tasks() -> list[int]:
    own = threading.get_native_id()
    with suppress(OSError):
        return sorted(task for task in map(int, os.listdir("/proc/self/task")) if task != own)
    return []


def _libraries_of(task: int, maps: Sequence[Mapping]) -> tuple[str, ...]:
    words = array.array("L")
    with suppress(OSError, ValueError), open(f"/proc/self/task/{task}/syscall", encoding="utf-8") as file:
        fields = file.read().split()
        if len(fields) > 2:  # not "running"
            words.frombytes(_read_stack(int(fields[-2], 16), maps))
    words.reverse()  # a stack grows downwards: the oldest frame is last, and nothing stale is above it
    found = dict.fromkeys(_code_at(word, maps) for word in words)
    return tuple(path for path in found if path and not os.path.basename(path).startswith(_SYSTEM))


def _read_stack(pointer: int, maps: Sequence[Mapping]) -> bytes:
    stack = _mapping_at(pointer, maps)
    if stack is None:
        return b""
    start = max(pointer & ~7, stack.end - _STACK_BYTES)
    memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(memory, stack.end - start, start)
    finally:
        os.close(memory)


def _code_at(address: int, maps: Sequence[Mapping]) -> str:
    mapping = _mapping_at(address, maps)
    is_library = mapping is not None and "x" in mapping.permissions and mapping.path.startswith("/")
    return mapping.path if mapping is not None and is_library and ".so" in mapping.path else ""


def _mapping_at(address: int, maps: Sequence[Mapping]) -> Mapping | None:
    index = bisect.bisect_right(maps, address, key=lambda each: each.start) - 1
    return maps[index] if index >= 0 and address < maps[index].end else None
