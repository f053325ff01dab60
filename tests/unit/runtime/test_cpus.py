"""What Python says of CPUs in a worker, told in a process of its own: it changes what everybody is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import relight

SOURCE = str(Path(relight.__file__).parent.parent)
PROGRAM = """
import concurrent.futures, json, multiprocessing, os, sys
sys.path.insert(0, sys.argv[1])
from relight.runtime.cpus import show_cpus
for cpu in json.loads(sys.argv[2]):
    show_cpus(cpu)
print(json.dumps([
    os.cpu_count(), len(os.sched_getaffinity(0)), multiprocessing.cpu_count(), os.environ.get("PYTHON_CPU_COUNT"),
    len(os.sched_getaffinity(1)), getattr(os, "process_cpu_count", os.cpu_count)(),
]))
"""
MACHINE = [os.cpu_count(), len(os.sched_getaffinity(0))]


def told(*cpus: float | None, **env: str) -> list[object]:
    command = [sys.executable, "-I", "-c", PROGRAM, SOURCE, json.dumps(cpus)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **env}, timeout=60)
    return list(json.loads(done.stdout))


@pytest.mark.parametrize(("cpu", "count"), [(0.1, 1), (1.0, 1)])
def test_there_are_as_many_as_it_was_given_rounded_up(cpu, count):
    assert told(cpu)[:4] == [count, count, count, str(count)]


def test_there_are_never_more_than_the_machine_has():
    assert told(10_000.0)[:3] == [*MACHINE, MACHINE[0]]


def test_without_a_request_nothing_is_changed():
    assert told(None)[:4] == [*MACHINE, MACHINE[0], None]


def test_a_fork_with_another_request_is_told_its_own():
    assert told(1.0, None)[:4] == [*MACHINE, MACHINE[0], None]
    assert told(None, 1.0)[:4] == [1, 1, 1, "1"]


def test_other_processes_are_told_of_as_they_are():
    assert told(1.0)[4] == len(os.sched_getaffinity(1))


def test_the_users_own_variable_is_left():
    assert told(1.0, PYTHON_CPU_COUNT="7")[3] == "7"
