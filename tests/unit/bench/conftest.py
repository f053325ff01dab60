"""The modules of `bench/`, which are scripts beside the package: they find one another by their folder."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[3] / "bench"
NAMES = ("processes", "harness", "peers", "driver", "idle", "work", "calls", "stubborn", "cancel", "metering")


class Bench:
    """Each module under its name."""

    def __init__(self) -> None:
        self.processes, self.harness, self.peers, self.driver, self.idle, self.work, self.calls = map(_load, NAMES[:7])
        self.stubborn, self.cancel, self.metering = map(_load, NAMES[7:])


def _load(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """The modules, imported for as long as the tests of a file: their names are too plain to be left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        for name in NAMES:
            patch.delitem(sys.modules, name, raising=False)
        yield Bench()
        for name in NAMES:
            sys.modules.pop(name, None)
