"""What only C can do here: flush what C code has printed and C still holds, and rule the threads of C libraries.

`ctypes` is imported where it is used: plain Python code does not pay for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

_OPENMP = ("libgomp", "libomp", "libiomp")
_BLAS = ("libopenblas", "libscipy_openblas")
_OF_OPENBLAS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS")
_PAUSE_HARD = 2  # omp_pause_hard: give the threads back; the next parallel region starts new ones
_MADV_COLLAPSE = 25  # since Linux 6.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadPool:
    """A C library that keeps threads of its own: how many, for all that is to come, and the way to end them."""

    variables: tuple[str, ...]
    """The variables, besides `OMP_NUM_THREADS`, that the library reads its count from when it is loaded."""
    get: Callable[[], int]
    set: Callable[[int], object]
    stop: Callable[[], object]
    """End its threads; it starts them anew on need."""


def find_pools(libraries: Iterable[str]) -> list[ThreadPool]:
    """The pools of these files, all of which are loaded."""
    pools = []
    for path in libraries:
        name = os.path.basename(path)
        if name.startswith(_OPENMP + _BLAS):
            library = _loaded(path)
            pools.append(_openmp(library) if name.startswith(_OPENMP) else _openblas(library))
    return [pool for pool in pools if pool is not None]


def _openmp(library: ctypes.CDLL | None) -> ThreadPool | None:
    if library is None:
        return None
    try:
        pause = library.omp_pause_resource_all
        return ThreadPool(
            variables=(),
            get=library.omp_get_max_threads,
            set=library.omp_set_num_threads,
            stop=lambda: pause(_PAUSE_HARD),
        )
    except AttributeError:  # OpenMP before 5.0: its threads stay, and are counted
        return None


def _openblas(library: ctypes.CDLL | None) -> ThreadPool | None:
    """Builds give their names a prefix, a suffix, or both, for several to live in one process."""
    for prefix in ("scipy_", ""):
        for suffix in ("64_", "", "_64"):
            get = getattr(library, f"{prefix}openblas_get_num_threads{suffix}", None)
            set_ = getattr(library, f"{prefix}openblas_set_num_threads{suffix}", None)
            stop = getattr(library, "blas_thread_shutdown_", None)
            if get is not None and set_ is not None:
                return ThreadPool(variables=_OF_OPENBLAS, get=get, set=set_, stop=stop or (lambda: None))
    return None


def _loaded(path: str) -> ctypes.CDLL | None:
    """A library by the handle that the process already has; None when its file is gone, or another by now."""
    import ctypes

    try:
        return ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return None


def trim() -> None:
    """Give what `malloc` holds and nobody uses back to the kernel, where the C library can (glibc)."""
    import ctypes

    release = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if release is not None:
        release(0)


def collapse(start: int, end: int) -> bool:
    """Have this range in huge pages, now; False where the kernel cannot."""
    import ctypes

    return not ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_COLLAPSE)


def raise_in(thread: int, kind: type[BaseException] | None) -> None:
    """Have this raised in a thread of Python, once it runs Python's own code again; None takes that back."""
    import ctypes

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind) if kind else None)


def find_flush(looked_at: int = 0) -> Callable[[], object] | None:
    """`fflush(NULL)`, None when nothing but Python's own C code is loaded, which holds nothing back.

    Asked once the user's module is imported; the first `looked_at` modules were looked at before.
    """
    modules = islice(tuple(sys.modules.values()), looked_at, None)
    if not any(_is_foreign(getattr(module, "__file__", None)) for module in modules):
        return None
    try:
        import ctypes

        fflush = ctypes.CDLL(None).fflush
    except (ImportError, OSError, AttributeError):
        return None
    return lambda: fflush(None)


def _is_foreign(file: object) -> bool:
    return isinstance(file, str) and file.endswith(".so") and "/lib-dynload/" not in file


def raise_in_thread(thread: int, error: type[BaseException]) -> None:
    """Have a thread raise `error` at its next line of Python; one that is deep in C does so when it comes back."""
    import ctypes

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))
