"""Versions that replace each other at once, through whatever happens (`test_scaling_stateful` says what that is).

However it comes: no worker of a version is started beside one of another, nothing that runs is killed, and all that was
taken in ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from relight.protocol.link import Orders
from relight.protocol.manifest import Scaling
from relight.protocol.workers import WorkerState
from relight.scheduler.queue import FunctionKey, WaitingCall
from relight.scheduler.state import Function
from unit.scheduler.test_scaling_stateful import Machine, Scaled


class Replaced(Scaled):
    """The same world, where each deploy recreates; `draining` workers have been told to leave and run a call yet."""

    def __init__(self) -> None:
        super().__init__()
        self.draining: set[str] = set()

    def inherited(self, function: Function, calls: Sequence[WaitingCall]) -> None:
        for call in calls:
            kept = self.calls[call.id]
            kept.version, kept.claim = function.heir, None
            self.scheduler.submit([self.waiting(call.id, token=call.token)])

    @rule(scaling=st.builds(Scaling, min_workers=st.integers(0, 2), max_workers=st.integers(1, 4)))
    def deploy(self, scaling: Scaling) -> None:
        self.version = f"v{len(self.deployed)}"
        self.deployed[self.version] = scaling
        self.lead()
        self.settle()

    def lead(self) -> None:
        """The name leads to the last version, as after a deploy or as a server begins."""
        self.scheduler.serve_version(self.version, is_alone=True)
        self.scheduler.add_function(FunctionKey(self.version, "f"), self.spec(self.version))
        for version in self.scheduler.versions_of("default", "a", "main") - {self.version}:
            self.scheduler.replace_version(version, self.version)

    def start_server(self) -> None:
        super().start_server()
        for worker, (node, version) in self.workers.items():
            key = FunctionKey(version, "f")
            if version != self.version:
                self.scheduler.add_function(key, self.spec(version), is_superseded=True, heir=self.version)
                self.scheduler.expect(worker, node, key)
        if self.version:
            self.lead()

    def link(self, name: str) -> None:
        machine = self.machines[name]
        for worker in self.draining & machine.processes.keys():
            if not machine.processes[worker].calls:
                self.end_process(machine, worker)
        super().link(name)

    def obey(self, machine: Machine, orders: Orders) -> None:
        super().obey(machine, orders)
        for start in orders.start:
            for other in self.machines.values():
                beside = [one for one in other.processes.values() if one.version != start.spec.version]
                seen = [one for one in beside if one.calls or other.is_linked]
                assert not seen, f"a worker of {start.spec.version} was started beside {seen}"

    def obey_stop(self, machine: Machine, worker: str, *, now: bool) -> None:
        process = machine.processes[worker]
        assert not now, "no node is silent for long enough that one should be killed"
        if process.state is WorkerState.STARTING:
            calls, process.calls = process.calls, {}
            for call, (token, _) in calls.items():
                self.scheduler.take_back(call, token)
        if process.calls:
            assert process.version != self.version, f"{worker} is of the version that serves, and has {process.calls}"
            self.draining.add(worker)
        else:
            super().obey_stop(machine, worker, now=now)

    @rule(which=st.integers(0, 10))
    def end_a_call(self, which: int) -> None:
        super().end_a_call(which)
        for machine in self.machines.values():
            for worker in self.draining & machine.processes.keys():
                if not machine.processes[worker].calls and machine.is_linked:
                    self.end_process(machine, worker)
                    self.tell(machine, worker, WorkerState.GONE)
        self.settle()


TestReplaced = Replaced.TestCase
TestReplaced.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
