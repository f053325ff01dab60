"""Death above the sandboxes: of the launcher, of the agent; each takes all sandboxes with it and leaves nothing."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from relight.agent.sandboxes import Sandboxes
from relight.protocol.errors import Unavailable
from sandbox.conftest import SYSTEM_PYTHON

AGENT = """
import asyncio, json, os, socket, sys
from pathlib import Path
from relight.agent.sandboxes import Sandboxes
from relight.sandbox.spec import Isolation, SandboxSpec

async def main(state, isolation):
    sandboxes = Sandboxes(Path(state), isolation=Isolation(isolation))
    await sandboxes.open()
    pids = []
    for name in ("a", "b"):
        _, theirs = socket.socketpair()
        spec = SandboxSpec(id=name, argv=("/bin/sh", "-c", "sleep 600 & setsid sleep 600 & wait"))
        pids.append((await sandboxes.start(spec, channel=theirs, stdout=2, stderr=2)).pid)
    print(json.dumps([sandboxes.launcher_pid, *pids]), flush=True)
    await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


async def gone(pid: int) -> None:
    """Return when no process has this number, or only one that is waited for."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, ended.set)
        try:
            async with asyncio.timeout(20):
                await ended.wait()
        finally:
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)


async def test_a_killed_launcher_takes_every_sandbox_with_it_and_a_new_one_takes_its_place(any_bench):
    running = [await any_bench.start("/bin/sleep", "600") for _ in range(3)]
    old = any_bench.sandboxes.launcher_pid

    os.kill(old, signal.SIGKILL)
    ends = [await one.sandbox.wait() for one in running]

    assert [ended.signal for ended in ends] == [signal.SIGKILL] * 3
    for one in running:
        await gone(one.sandbox.pid)
    assert (await any_bench.shell("exit 5"))[1].code == 5
    assert any_bench.sandboxes.launcher_pid != old
    assert any_bench.groups() == []


async def test_a_start_under_a_dying_launcher_is_unavailable_or_succeeds_on_the_next(any_bench):
    os.kill(any_bench.sandboxes.launcher_pid, signal.SIGKILL)

    with contextlib.suppress(Unavailable):
        await any_bench.shell("exit 0")

    assert (await any_bench.shell("exit 0"))[1].code == 0


async def test_a_launcher_that_never_lives_is_given_up_and_said(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file where the state folder should be")

    with pytest.raises(Unavailable, match="died 4 times in a row"):
        await Sandboxes(blocked / "state").open()


async def test_closing_ends_everything(any_bench):
    running = await any_bench.start("/bin/sh", "-c", "setsid sleep 600 & echo $!; wait")
    await running.line()
    launcher = any_bench.sandboxes.launcher_pid

    await any_bench.sandboxes.close()

    assert (await running.sandbox.wait()).signal == signal.SIGKILL
    await gone(launcher)
    assert any_bench.groups() == []
    with pytest.raises(Unavailable, match="closing"):
        await any_bench.start("/bin/true")


@pytest.mark.parametrize("isolation", ["namespaces", "process"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_dead_agent_leaves_no_process_and_no_group(tmp_path, isolation, number):
    state = tmp_path / "state"
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", AGENT, str(state), isolation, stdout=subprocess.PIPE
    )
    assert agent.stdout is not None
    launcher, *workers = json.loads(await agent.stdout.readline())

    agent.send_signal(number)
    await agent.wait()

    await gone(launcher)
    for pid in workers:
        await gone(pid)
    parents = [Path(line) for line in (state / "groups").read_text().splitlines()]
    assert not any(parent.exists() for parent in parents)


@pytest.mark.root
async def test_what_a_killed_agent_and_launcher_left_is_swept_at_the_next_start(bench, tmp_path):
    parents = [Path(line) for line in (bench.state / "groups").read_text().splitlines()]
    if not parents:
        pytest.skip("no control groups here")
    stray = await asyncio.create_subprocess_exec("/bin/sleep", "600")
    running = await bench.start("/bin/sleep", "600")
    for parent in parents:
        (parent / "left").mkdir(parents=True)
        (parent / "left" / "cgroup.procs").write_text(str(stray.pid))

    os.kill(bench.sandboxes.launcher_pid, signal.SIGKILL)
    await running.sandbox.wait()
    await bench.shell("exit 0")

    assert await stray.wait() == -signal.SIGKILL
    assert bench.groups() == []


REAL_TIME = """
import asyncio, json, os, socket, sys
from pathlib import Path
from relight.agent.sandboxes import Sandboxes
from relight.sandbox.spec import Isolation, SandboxSpec

async def main(state, isolation, python):
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    sandboxes = Sandboxes(Path(state), isolation=Isolation(isolation))
    await sandboxes.open()
    _, theirs = socket.socketpair()
    tell = "import os; print(os.sched_getscheduler(0), flush=True)"
    spec = SandboxSpec(id="a", argv=(python, "-I", "-S", "-c", tell))
    ended = await (await sandboxes.start(spec, channel=theirs, stdout=1, stderr=2)).wait()
    await sandboxes.close()
    sys.exit(ended.code)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.root
@pytest.mark.parametrize("isolation", ["namespaces", "process"])
def test_an_agent_of_a_real_time_policy_has_ordinary_sandboxes(tmp_path: Path, isolation: str) -> None:
    if not may_be_real_time():
        pytest.skip("this machine gives no process a real-time policy")

    done = subprocess.run(
        [sys.executable, "-c", REAL_TIME, str(tmp_path / "state"), isolation, SYSTEM_PYTHON],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, f"{os.SCHED_OTHER}\n"), done.stderr


def may_be_real_time() -> bool:
    """Whether a process may have such a policy here."""
    attempt = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"
    return subprocess.run([sys.executable, "-c", attempt], capture_output=True, timeout=30, check=False).returncode == 0
