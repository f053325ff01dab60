"""A real agent with real sandboxes, against a scripted server: each thing that can happen to a call on a node."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relight.protocol.calls import CallEvent, Token
from relight.protocol.link import CallEnd, CancelCall, RunCall, StartWorker, StopWorker, WorkerSpec
from relight.protocol.manifest import CodeBundle, FunctionSpec
from relight.protocol.payload import Payload
from relight.protocol.values import dump_input
from relight.sdk.image import Image
from scripted_server import ScriptedServer

SOURCE = b"""
import os, sys, time

def add(a, b):
    print("adding", a, b)
    print("to stderr", file=sys.stderr)
    return a + b

def spin():
    print("spinning", flush=True)
    while True:
        time.sleep(0.01)

def stubborn():
    print("spinning", flush=True)
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            pass

def die():
    os.kill(os.getpid(), 9)

def grow(data):
    return data * 2

def wait_for(path):
    print("waiting", flush=True)
    while not os.path.exists(path):
        time.sleep(0.01)
    return os.getpid()
"""


def bundle() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        info = tarfile.TarInfo("app.py")
        info.size = len(SOURCE)
        tar.addfile(info, io.BytesIO(SOURCE))
    return file.getvalue()


class Node:
    """An agent in a process of its own, and the server that it dials."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = ScriptedServer(str(folder / "link.sock"))
        self.process: asyncio.subprocess.Process | None = None
        self._count = 0

    async def open(self) -> None:
        content = bundle()
        self._code = CodeBundle(digest=hashlib.sha256(content).hexdigest(), size=len(content), folder="/srv/app")
        self.server.blobs[self._code.digest] = content
        await self.server.open()
        self.process = await self.start_agent()
        await self.server.until(lambda: bool(self.server.reports))

    async def start_agent(self) -> asyncio.subprocess.Process:
        command = [sys.executable, "-m", "relight.agent", "--socket", self.server.path]
        command += ["--data-dir", str(self.folder / "data" / "agent"), "--node", "here", "--heartbeat", "0.5"]
        return await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)

    async def close(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()
        self.server.close()

    async def worker(self, function: str, **fields: Any) -> str:
        """A worker of a function that is ready."""
        self._count += 1
        name = f"worker-{self._count}"
        spec = FunctionSpec(name=function, module="app", qualname=function, image=Image.host().spec, **fields)
        whole = WorkerSpec(
            workspace="default", app="app", environment="main", version="v1", function=spec, code=self._code
        )
        self.server.order(start=(StartWorker(worker=name, spec=whole),))
        await self.server.until(lambda: "ready" in self.states(name) or "gone" in self.states(name))
        assert self.states(name)[-1] == "ready", self.server.reports
        return name

    def run(self, worker: str, call: str, *args: object, payload: Payload | None = None) -> None:
        """Give the worker a call."""
        payload = payload or dump_input(args, {})
        self.server.order(
            run=(RunCall(worker=worker, call=call, token=Token(1, 1), attempt=1, payload=payload, accept=("json",)),)
        )

    async def end(self, call: str) -> CallEnd:
        """How a call ended."""
        await self.server.until(lambda: any(end.call == call for end in self.server.ends()))
        return next(end for end in self.server.ends() if end.call == call)

    async def said(self, text: str) -> None:
        await self.server.until(lambda: any(text == one for _, one in self.server.lines()))

    def said_by(self, call: str) -> list[str]:
        return [text for said, text in self.server.lines() if said.call == call]

    def states(self, worker: str) -> list[str]:
        changes = [change for report in self.server.reports for change in report.workers]
        return [change.state.value for change in changes if change.worker == worker]

    def exit_reason(self, worker: str) -> str:
        changes = [change for report in self.server.reports for change in report.workers]
        return next(change.exit.reason for change in changes if change.worker == worker and change.exit)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    started = Node(tmp_path)
    await started.open()
    yield started
    await started.close()


async def test_a_call_runs_and_its_lines_come_with_its_name_and_before_its_end(node: Node):
    worker = await node.worker("add")

    node.run(worker, "call-1", 2, 3)
    end = await node.end("call-1")

    assert (end.outcome, end.result and end.result.data) == (CallEvent.SUCCEEDED, b"5")
    assert node.states(worker)[:3] == ["pulling", "starting", "ready"]
    lines = {(said.source, text, said.call) for said, text in node.server.lines()}
    assert lines == {("stdout", "adding 2 3", "call-1"), ("stderr", "to stderr", "call-1")}
    told = [index for index, report in enumerate(node.server.reports) if report.logs]
    ended = [index for index, report in enumerate(node.server.reports) if report.ends]
    assert max(told) <= min(ended)


@pytest.mark.slow
async def test_a_cancelled_call_is_interrupted_and_its_worker_lives_on(node: Node):
    worker = await node.worker("spin")
    node.run(worker, "call-1")
    await node.said("spinning")

    node.server.order(cancel=(CancelCall(call="call-1", token=Token(1, 1)),))
    end = await node.end("call-1")

    node.run(worker, "call-2")
    await node.server.until(lambda: node.said_by("call-2") == ["spinning"])
    assert (end.outcome, node.states(worker)[-1]) == (CallEvent.CANCELLED, "ready")


@pytest.mark.slow
async def test_a_call_past_its_time_that_does_not_obey_dies_with_its_worker(node: Node):
    worker = await node.worker("stubborn", timeout_seconds=0.2, grace_seconds=0.2)

    node.run(worker, "call-1")
    end = await node.end("call-1")

    assert end.outcome is CallEvent.TIMED_OUT
    await node.server.until(lambda: node.states(worker)[-1] == "gone")
    assert node.exit_reason(worker) == "killed:timed_out"


@pytest.mark.slow
async def test_a_worker_that_is_killed_loses_its_call_and_says_how(node: Node):
    worker = await node.worker("die")

    node.run(worker, "call-1")
    end = await node.end("call-1")

    assert (end.outcome, end.is_charged) == (CallEvent.LEASE_LOST, True)
    assert node.exit_reason(worker) == "signal:SIGKILL"


@pytest.mark.slow
async def test_large_values_go_both_ways(node: Node):
    worker = await node.worker("grow")
    whole = dump_input((os.urandom(1_000_000),), {})
    assert whole.data is not None
    digest = hashlib.sha256(whole.data).hexdigest()
    node.server.blobs[digest] = bytes(whole.data)

    blob = Payload(format=whole.format, blob=digest, size=len(whole.data), python=whole.python)
    node.run(worker, "call-1", payload=blob)
    end = await node.end("call-1")

    assert (end.outcome, end.result and end.result.data) == (CallEvent.SUCCEEDED, None)
    assert end.result is not None
    assert len(node.server.blobs[end.result.blob]) == end.result.size > 2_000_000


@pytest.mark.slow
async def test_a_call_outlives_a_cut_link_and_a_server_that_comes_back_adopts_it(node: Node):
    worker = await node.worker("spin", timeout_seconds=1.0)
    node.run(worker, "call-1")
    await node.said("spinning")

    node.server.cut()
    await node.server.until(lambda: len(node.server.hellos) == 2)
    end = await node.end("call-1")

    (held,) = node.server.hellos[1].workers
    assert (held.worker, held.calls) == (worker, (("call-1", Token(1, 1), 1),))
    assert node.server.hellos[0].incarnation == node.server.hellos[1].incarnation
    assert end.outcome is CallEvent.TIMED_OUT


@pytest.mark.slow
async def test_a_second_agent_on_the_same_folder_refuses(node: Node):
    second = await node.start_agent()
    _, errors = await asyncio.wait_for(second.communicate(), 30)

    assert second.returncode == 1
    assert "another runs there" in errors.decode()


@pytest.mark.slow
async def test_an_agent_that_is_stopped_says_that_its_workers_are_gone_and_leaves_nothing(node: Node):
    worker = await node.worker("add")
    assert node.process is not None

    node.process.send_signal(signal.SIGTERM)
    code = await asyncio.wait_for(node.process.wait(), 30)

    assert code == 0
    assert node.states(worker)[-2:] == ["draining", "gone"]
    assert node.exit_reason(worker) == "stopped"
    mine = str(node.folder).encode()
    assert [pid for pid in os.listdir("/proc") if pid.isdecimal() and mine in _command(pid)] == []


@pytest.mark.slow
async def test_a_worker_that_nobody_needs_is_stopped_on_order(node: Node):
    worker = await node.worker("add")

    node.server.order(stop=(StopWorker(worker=worker),))
    await node.server.until(lambda: node.states(worker)[-1] == "gone")

    assert node.exit_reason(worker) == "stopped"


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
