"""Lines find their function, also after their worker is gone and after the server that started it."""

from __future__ import annotations

import pytest

from relight.control import writers as bounds
from relight.control.writers import Writers
from relight.protocol.link import HeldWorker, LogLines, WorkerSpec
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage
from relight.protocol.workers import WorkerState
from relight.scheduler.state import Worker
from relight.store.bodies import Origin, Written

IMAGE = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")


def spec(workspace: str = "default") -> WorkerSpec:
    return WorkerSpec(
        workspace=workspace,
        app="a",
        environment="main",
        version="v1",
        function=FunctionSpec(name="f", module="m", qualname="f", image=IMAGE),
        code=CodeBundle(digest="0" * 64, size=1, folder="/app"),
    )


def held(worker: str, workspace: str = "default") -> HeldWorker:
    return HeldWorker(worker=worker, spec=spec(workspace), state=WorkerState.DRAINING, since=1.0)


def wrote(worker: str) -> LogLines:
    return LogLines(worker=worker, at=2.0, source="stderr", texts=("one", "two"), call="c")


def nobody(_worker: str) -> Worker | None:
    return None


def test_lines_of_a_worker_that_its_node_names_are_of_its_function_and_workspace() -> None:
    writers = Writers(nobody)
    writers.learn([held("w1"), held("w2", "other")])

    written = writers.written([wrote("w1"), wrote("w2")])

    origin = Origin(app="a", environment="main", function="f", worker="w1", call="c", source="stderr")
    assert written["default"] == [Written(origin=origin, at=2.0, texts=("one", "two"))]
    assert [one.origin.worker for one in written["other"]] == ["w2"]


def test_lines_of_a_worker_that_nobody_asked_for_are_nobodys() -> None:
    assert Writers(nobody).written([wrote("w1")]) == {}


def test_only_so_many_workers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "REMEMBERED", 2)
    writers = Writers(nobody)

    writers.learn([held("w1"), held("w2"), held("w3")])

    assert writers.written([wrote("w1")]) == {}
    assert len(writers.written([wrote("w2"), wrote("w3")])["default"]) == 2
