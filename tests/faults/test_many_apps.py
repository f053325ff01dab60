"""More apps than there is memory for templates: each start is on the level that the policy says, and every call answers."""

from __future__ import annotations

import importlib.util
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import relight
from relight.agent.keeping import Keeping
from servers import Server, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]

APPS, ROOM, CALLS = 50, 20, 150
# A variable of Python's own forbids a base, whose memory no node tells: so the policy can be followed from outside, to the byte.
MODULE = """
import relight
app = relight.App({name!r})
ballast = bytearray(b"x") * ({mib} << 20)

@app.function(scaledown_window=0, env={{"PYTHONUNBUFFERED": "1"}})
def f(x: int) -> int:
    return x + len(ballast) % 7
"""


@contextmanager
def up(folder: Path, memory_mib: int) -> Iterator[Server]:
    """A server whose templates may take so much memory, which this process's SDK finds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELIGHT_TEMPLATE_MEMORY_MIB", str(memory_mib))
        patch.setenv("RELIGHT_DATA_DIR", str(folder))
        server = Server(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


class Fleet:
    """The apps, each of a module of its own, and what the policy would keep of them by the figures that nodes tell."""

    def __init__(self, server: Server, folder: Path, budget: int) -> None:
        self._server = server
        self._folder = folder
        self.keeping = Keeping(budget)
        self.sizes: list[int] = []

    def deploy(self, number: int) -> None:
        """Deploy one, and see its template made: a node does so by itself."""
        name = f"many{number}"
        path = self._folder / name / f"{name}.py"
        path.parent.mkdir()
        path.write_text(MODULE.format(name=name, mib=8 + number % 3))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.app.deploy()
        self._made(name)

    def call(self, number: int, x: int) -> tuple[str, str, bool]:
        """Call one when none has a worker: the level of its start, the reason's code, and whether the policy kept it."""
        name = f"many{number}"
        was_kept = name in self.keeping.by_worth()
        before = len(self.starts(name))
        assert relight.Function.from_name(name, "f").remote(x) == x + ((8 + number % 3) << 20) % 7
        wait_until(lambda: len(self.starts(name)) > before, self._server)
        wait_until(lambda: self._server.get("/v1/workers")["workers"] == [], self._server)
        if not was_kept:
            self._made(name)
        self.keeping.use(name)
        level, why = self.starts(name)[0]
        return level, why.partition(":")[0], was_kept

    def starts(self, name: str) -> list[tuple[str, str]]:
        return [(one["level"], one["why"]) for one in self._server.get(f"/v1/starts?app={name}&limit=1000")["starts"]]

    def template(self, name: str) -> Any:
        return self._server.get(f"/v1/apps/{name}/templates?wait=60")["templates"][0]

    def kept(self) -> set[str]:
        """The templates that are there."""
        return {name for name in map("many{}".format, range(APPS)) if self.template(name)["state"] == "ready"}

    def _made(self, name: str) -> None:
        made = self.template(name)
        assert made["state"] == "ready", made
        self.sizes.append(round(made["memory_mib"] * (1 << 20)))
        self.keeping.add(name, self.sizes[-1], made["seconds"])
        self.keeping.give_up({name})


def test_fifty_apps_with_memory_for_twenty_templates(tmp_path: Path) -> None:
    with up(tmp_path / "probe", 1 << 14) as server:
        probe = Fleet(server, tmp_path / "probe", 1 << 40)
        probe.deploy(1)
    budget_mib = math.ceil(ROOM * probe.sizes[0] / (1 << 20))
    chance = random.Random(4)
    with up(tmp_path / "data", budget_mib) as server:
        fleet = Fleet(server, tmp_path / "data", budget_mib << 20)
        for number in range(APPS):
            fleet.deploy(number)
        assert fleet.kept() == set(fleet.keeping.by_worth())

        asked = chance.choices(range(APPS), [1 / (rank + 1) for rank in range(APPS)], k=CALLS)
        told = [fleet.call(number, x) for x, number in enumerate(asked)]

        hits = sum(was_kept for _, _, was_kept in told)
        assert [(level == "fork", code) for level, code, _ in told] == [
            (was_kept, "" if was_kept else "evicted") for _, _, was_kept in told
        ]
        assert fleet.kept() == set(fleet.keeping.by_worth())
        assert ROOM - 2 <= len(fleet.kept()) <= ROOM + 2
        summary = server.get("/v1/starts/summary")
        assert summary["starts"] == CALLS
        assert summary["hit_rate"] == pytest.approx(hits / CALLS)
        assert CALLS // 3 < hits < CALLS, f"{hits} of {CALLS}: neither all nor few, or nothing was shown"

        calls = [(x, relight.Function.from_name(f"many{x}", "f").spawn(x)) for x in range(APPS)]
        answers = [call.get(timeout=300) for _, call in calls]
        assert answers == [x + ((8 + x % 3) << 20) % 7 for x in range(APPS)]
