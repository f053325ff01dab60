"""How a sandbox ends, told exactly, and what is left of it: nothing."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from relight.protocol.errors import StartFailed
from relight.sandbox.spec import Limits, Mount, SandboxExit

FORKS = "import os, time\nfor _ in range(3):\n    os.fork() or os.setsid()\nprint('up', flush=True)\ntime.sleep(600)"
ORPHAN = (
    "import os, time\n"
    "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
    "        print(os.getpid(), flush=True)\n        time.sleep(600)\n    os._exit(0)\n"
    "os.wait()\ntime.sleep(0.2)\n"
)


def processes_of(state: Path, sandbox: str) -> list[str]:
    """Every process of this machine that a sandbox's environment names."""
    wanted = f"RELIGHT_TEST={state}/{sandbox}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if wanted in environment.split(b"\0"):
                found.append(entry.name)
    return found


def own_mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize(
    ("program", "code", "number"),
    [
        ("pass", 0, None),
        ("import os; os._exit(3)", 3, None),
        ("raise SystemExit(255)", 255, None),
        ("import os; os.kill(os.getpid(), 9)", None, signal.SIGKILL),
        ("import os; os.abort()", None, signal.SIGABRT),
        ("import os, signal; signal.signal(11, signal.SIG_DFL); os.kill(os.getpid(), 11)", None, signal.SIGSEGV),
        ("import os; os.kill(os.getpid(), 15)", None, signal.SIGTERM),
    ],
)
async def test_the_end_of_the_worker_is_told_exactly(any_bench, program, code, number):
    _, ended = await any_bench.python(program)

    assert (ended.code, ended.signal, ended.out_of_memory) == (code, number, False)
    assert ended.peak_memory_bytes > 1 << 20


async def test_the_pid_of_a_worker_that_ends_at_once_is_known(any_bench):
    running = [await any_bench.start("/bin/true") for _ in range(20)]

    assert min(one.sandbox.pid for one in running) > 1


async def test_a_signal_reaches_the_worker_and_its_handler(any_bench):
    running = await any_bench.start(
        "/usr/bin/python3", "-c",
        "import signal, sys\nsignal.signal(signal.SIGUSR1, lambda *_: sys.exit(42))\nprint('up', flush=True)\n"
        "while True: signal.pause()",
    )  # fmt: skip
    assert await running.line() == "up"

    running.sandbox.signal(signal.SIGUSR1)

    assert (await running.sandbox.wait()).code == 42


async def test_kill_ends_every_process_and_removes_every_group(any_bench):
    state = any_bench.state
    running = await any_bench.start("/usr/bin/python3", "-c", FORKS, env=(("RELIGHT_TEST", f"{state}/x"),))
    for _ in range(8):
        assert await running.line() == "up"
    assert len(processes_of(state, "x")) == 8

    ended = await running.sandbox.kill()

    assert ended == SandboxExit(signal=signal.SIGKILL, peak_memory_bytes=ended.peak_memory_bytes)
    assert processes_of(state, "x") == []
    assert any_bench.groups() == []


async def test_an_orphan_that_left_its_session_dies_with_the_worker(any_bench):
    output, ended = await any_bench.python(ORPHAN, env=(("RELIGHT_TEST", f"{any_bench.state}/y"),))

    assert int(output) > 0
    assert ended.code == 0
    assert processes_of(any_bench.state, "y") == []


async def test_no_mount_of_a_sandbox_is_seen_outside(bench, tmp_path):
    before = own_mounts()
    folder = tmp_path / "shown"
    folder.mkdir()

    running = await bench.start("/bin/cat", "/dev/zero", mounts=(Mount(source=str(folder), target="/shown"),))
    during = own_mounts()
    await running.sandbox.kill()

    assert before == during == own_mounts()


@pytest.mark.root
async def test_a_worker_beyond_its_memory_is_told_from_any_other_kill(bench):
    if not bench.facts.groups.enforces("memory"):
        pytest.skip(bench.facts.groups.reason)

    _, ended = await bench.python("x = bytearray(300 << 20)", limits=Limits(memory_mib=64))

    assert (ended.signal, ended.out_of_memory) == (signal.SIGKILL, True)
    assert (48 << 20) < ended.peak_memory_bytes <= (64 << 20)


@pytest.mark.root
@pytest.mark.parametrize("after", ["signal.pause()", "os._exit(1 if os.wait()[1] else 0)"])
async def test_a_child_beyond_the_memory_ends_all_of_its_sandbox(bench, after):
    if not bench.facts.groups.enforces("memory"):
        pytest.skip(bench.facts.groups.reason)
    program = f"import os, signal\nif os.fork() == 0:\n    bytearray(300 << 20)\n{after}"

    _, ended = await bench.python(program, limits=Limits(memory_mib=64))

    assert (ended.out_of_memory, ended.is_evicted) == (True, False)
    assert (ended.code, ended.signal) in ((None, signal.SIGKILL), (1, None))  # the child's end may be seen before


@pytest.mark.root
async def test_a_worker_that_dies_of_anothers_memory_is_told_from_one_that_took_too_much(bench):
    if not bench.facts.groups.enforces("memory"):
        pytest.skip(bench.facts.groups.reason)
    program = "import os\nos.read(3, 1)\nx = bytearray(300 << 20)"
    running = await bench.start("/usr/bin/python3", "-c", program, limits=Limits(memory_mib=1024))
    files = ("memory.max", "memory.limit_in_bytes")
    limits = [group.parent / file for group in bench.groups() for file in files if (group / file).exists()]
    limits[0].write_text(str(64 << 20))  # of the group above those of all sandboxes, as if the machine had no more

    running.channel.sendall(b"g")
    ended = await running.sandbox.wait()

    assert (ended.signal, ended.out_of_memory, ended.is_evicted) == (signal.SIGKILL, True, True)


@pytest.mark.root
async def test_a_process_left_in_its_groups_is_ended_and_only_then_is_it_empty(bench):
    running = await bench.start("/bin/sleep", "600", limits=Limits(memory_mib=64))
    straggler = await asyncio.create_subprocess_exec(
        "/bin/sleep", "600"
    )  # a fork that had joined, and was not inside yet
    for group in bench.groups():
        (group / "cgroup.procs").write_text(str(straggler.pid))

    await running.sandbox.kill()
    was_alive = straggler.returncode is None
    await running.sandbox.wait_empty()

    assert (was_alive, await straggler.wait()) == (True, -signal.SIGKILL)
    assert bench.groups() == []


@pytest.mark.root
async def test_the_number_of_processes_is_limited(bench):
    if not bench.facts.groups.enforces("pids"):
        pytest.skip(bench.facts.groups.reason)
    program = "import os, time\ntry:\n    for n in range(100):\n        if not os.fork(): time.sleep(600)\n"
    program += "except BlockingIOError:\n    print(n)"

    output, _ = await bench.python(program, limits=Limits(pids=20))

    assert 10 < int(output) < 20


@pytest.mark.root
async def test_cpu_is_limited_when_asked(bench):
    if not bench.facts.groups.enforces("cpu"):
        pytest.skip(bench.facts.groups.reason)
    program = "import os\nwhile os.times().elapsed - start < 1: pass\nprint(os.times().user + os.times().system)"

    output, _ = await bench.python("import os\nstart = os.times().elapsed\n" + program, limits=Limits(cpu=0.2))

    assert float(output) < 0.6


async def test_the_scratch_space_is_limited(bench):
    output, _ = await bench.shell(
        "dd if=/dev/zero of=/tmp/a bs=1M count=64 2>&1 | tail -1; stat -c %s /tmp/a",
        limits=Limits(ephemeral_disk_mib=16),
    )

    assert int(output.split()[-1]) <= 16 << 20


@pytest.mark.parametrize(
    ("argv", "spec", "why"),
    [
        (("/usr/bin/no-such-program",), {}, "cannot run /usr/bin/no-such-program: No such file"),
        (("python",), {}, "begin it with the absolute path"),
        (("/bin/true",), {"working_folder": "/no/such/folder"}, "cannot change to /no/such/folder: No such file"),
        (("/bin/true",), {"network": "moon"}, "network='moon': 'moon' is none of"),
        (("/bin/true",), {"id": "../../etc"}, "its id is not made of letters"),
        (("/bin/true",), {"env": (("BIG", "x" * 200_000),)}, "pass large values in files"),
    ],
)
async def test_a_sandbox_that_cannot_start_says_why_and_leaves_nothing(any_bench, argv, spec, why):
    with pytest.raises(StartFailed, match="cannot start sandbox") as refused:
        await any_bench.start(*argv, **spec)

    assert why in str(refused.value)
    assert any_bench.groups() == []


async def test_an_id_in_use_is_refused_and_may_be_used_again_after(any_bench):
    running = await any_bench.start("/bin/sleep", "600", id="twin")
    with pytest.raises(StartFailed, match="choose another id"):
        await any_bench.start("/bin/true", id="twin")
    await running.sandbox.kill()

    assert (await any_bench.run("/bin/true", id="twin"))[1].code == 0


async def test_a_start_that_is_cancelled_leaves_no_sandbox(any_bench):
    start = asyncio.ensure_future(any_bench.start("/bin/sleep", "600", env=(("RELIGHT_TEST", f"{any_bench.state}/z"),)))
    await asyncio.wait([start], timeout=0.001)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start

    await any_bench.sandboxes.close()

    assert processes_of(any_bench.state, "z") == []
    assert any_bench.groups() == []


async def test_twenty_starts_at_once_all_run(any_bench):
    ends = await asyncio.gather(*(any_bench.shell(f"exit {code}") for code in range(20)))

    assert [ended.code for _, ended in ends] == list(range(20))


async def test_no_descriptor_is_left_open_by_a_life(any_bench):
    await any_bench.shell("exit 0")
    launcher = f"/proc/{any_bench.sandboxes.launcher_pid}/fd"
    before = os.listdir(launcher)

    for _ in range(5):
        await any_bench.shell("exit 0")
        with pytest.raises(StartFailed):
            await any_bench.start("/no/such/program")

    assert os.listdir(launcher) == before
