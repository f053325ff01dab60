"""What a template answers where its modules ask for a GPU: it has none, and each of its forks will.

`device = "cuda" if torch.cuda.is_available() else "cpu"` stands at the top of many a module.  The driver would say no, and
what was asked for as a module was imported holds in every fork; what is worse, a process whose torch has asked the driver
is one whose forks torch refuses a GPU.  So torch says in a template what will be so in its forks, and asks the driver there.
A module that goes on to use a GPU while it is imported fails, and then its workers are started by themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TypeVar

_CUDA = "torch.cuda"
T = TypeVar("T")


class ExpectedGpus:
    """So many GPUs that are to come; a finder of modules, which lets torch know as it is imported."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._is_waiting = True

    def install(self) -> None:
        """Answer from now on."""
        if _CUDA in sys.modules:
            self._answer_in(sys.modules[_CUDA])
        else:
            sys.meta_path.insert(0, self)

    def arrive(self) -> None:
        """In a fork: they are there."""
        self._is_waiting = False

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """As any finder of modules: of torch's alone, which it has the usual one find."""
        if name != _CUDA:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_answer(module: ModuleType) -> None:
            execute(module)
            self._answer_in(module)

        spec.loader.exec_module = execute_and_answer  # type: ignore[method-assign]  # the loader is this module's alone
        return spec

    def _answer_in(self, cuda: ModuleType) -> None:
        names = vars(cuda)
        names["is_available"] = self._until_here(names["is_available"], True)
        names["device_count"] = self._until_here(names["device_count"], self._count)

    def _until_here(self, ask: Callable[[], T], answer: T) -> Callable[[], T]:
        def asked() -> T:
            return answer if self._is_waiting else ask()

        asked.__name__, asked.__doc__ = ask.__name__, ask.__doc__
        return asked
