"""Where namespaces are denied: plain processes, which is said, and ends that are as sure as they can be made."""

import os
import signal
from pathlib import Path

import pytest

from relight.protocol.errors import StartFailed
from relight.sandbox.spec import Isolation


async def test_a_plain_process_says_what_it_is(plain_bench):
    running = await plain_bench.start("/bin/sleep", "600")

    assert plain_bench.sandboxes.isolation is running.sandbox.isolation is Isolation.PROCESS


async def test_its_home_and_temporary_folder_are_its_own_and_go_with_it(plain_bench):
    output, _ = await plain_bench.shell('touch "$HOME/a" "$TMPDIR/b"; stat -c %a "$HOME"; echo "$HOME"')

    mode, home = output.split()
    assert mode == "700"
    assert home.startswith(str(plain_bench.state))
    assert os.path.basename(home) not in os.listdir(plain_bench.state / "scratch")


async def test_its_environment_is_what_was_given_and_nothing_of_the_agents(plain_bench, monkeypatch):
    monkeypatch.setenv("RELIGHT_SECRET", "s3cret")

    output, _ = await plain_bench.run("/usr/bin/env", env=(("A", "1"),))

    assert sorted(line.split("=")[0] for line in output.splitlines()) == ["A", "HOME", "LANG", "PATH", "TMPDIR", "USER"]


async def test_it_has_a_session_of_its_own_and_the_given_descriptors_only(plain_bench):
    program = "import os; print(os.getsid(0) == os.getpid(), sorted(map(int, os.listdir('/proc/self/fd'))))"

    output, _ = await plain_bench.python(program)

    assert output == "True [0, 1, 2, 3, 4]\n"


async def test_orphans_of_a_first_process_that_was_killed_die_too(plain_bench):
    """Its init, which adopts orphans, may be killed by whoever may; the launcher sees to the rest."""
    program = (
        "import os, time\n"
        "if os.fork() == 0:\n    os.setsid()\n    time.sleep(600)\n"
        "print(os.getppid(), flush=True)\ntime.sleep(600)"
    )
    running = await plain_bench.start("/usr/bin/python3", "-c", program)
    init = int(await running.line())
    below = _below(init)

    os.kill(init, signal.SIGKILL)
    ended = await running.sandbox.wait()

    assert ended.signal == signal.SIGKILL
    assert len(below) == 2
    for pid in below:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def _below(pid: int) -> list[int]:
    """The descendants of a process."""
    children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [one for child in children for one in (child, *_below(child))]


async def test_no_namespaces_are_not_passed_off_as_namespaces(plain_bench):
    if not plain_bench.facts.denial:
        pytest.skip("this machine has namespaces to give")
    with pytest.raises(StartFailed, match="this machine denies them"):
        await plain_bench.start("/bin/true", isolation=Isolation.NAMESPACES)
