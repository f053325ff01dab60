"""What the machine permits: found by trying, and said so that a person knows what to do."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import relight
from relight.sandbox.cgroups import GroupFlavour, GroupLayout
from relight.sandbox.facts import Facts, explain, survey, uid_block
from relight.sandbox.spec import Isolation, Mount, SandboxSpec

PROBE = (
    "import sys, json; sys.path.insert(0, sys.argv[1])\n"
    "from relight.sandbox.facts import gather, explain\nfrom relight.protocol.codec import to_plain\n"
    "facts = gather()\nprint(json.dumps([to_plain(facts), [fact.sentence for fact in explain(facts)]]))"
)
SOURCE = str(Path(relight.__file__).parent.parent)
FACTS = Facts(kernel="6", uid=0, gid=0, is_privileged=True, uid_extents=((0, 1),), groups=GroupLayout())


def probe(*before: str) -> tuple[dict[str, object], list[str]]:
    """The facts, gathered in a process of their own (it forks), started by `before`."""
    command = [*before, sys.executable, "-I", "-S", "-c", PROBE, SOURCE]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return answer[0], answer[1]


def can_deny() -> bool:
    return subprocess.run(["unshare", "-Ur", "true"], capture_output=True).returncode == 0


def test_a_kernel_that_denies_namespaces_is_found_out_and_said_loudly():
    if not can_deny():
        pytest.skip("denying needs a user namespace to deny them in")
    deny = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'

    plain, sentences = probe("unshare", "-Ur", "sh", "-c", deny, "sh")

    assert str(plain["denial"]).startswith("cannot unshare user, mount, process and network namespaces: ")
    assert sentences[0].startswith(
        "SANDBOXES ARE PLAIN PROCESSES that can read what this user can read: cannot unshare"
    )


def test_gathering_changes_nothing_here():
    with tempfile.NamedTemporaryFile(dir="/tmp") as mine:  # over which it mounts, where nobody sees it
        before = Path("/proc/self/mountinfo").read_text()

        plain, _ = probe()

        assert plain["kernel"] == os.uname().release
        assert Path("/proc/self/mountinfo").read_text() == before
        assert Path(mine.name).exists()


def test_every_fact_that_does_not_hold_says_what_to_do():
    worst = dataclasses.replace(
        FACTS, is_privileged=False, uid=1001, denial="cannot mount /proc: Operation not permitted"
    )

    facts = explain(worst)

    assert [fact.holds for fact in facts] == [False] * 8
    assert all(fact.advice for fact in facts)
    assert "systempaths=unconfined" in facts[0].advice
    assert worst.isolation is Isolation.PROCESS


def test_an_old_kernel_is_told_from_a_strict_one():
    old = dataclasses.replace(FACTS, denial="cannot make it read-only (mount_setattr): Function not implemented")

    assert explain(old)[0].advice == "use Linux 5.12 or newer"


def test_limits_that_are_kept_say_by_what():
    layout = GroupLayout(
        flavour=GroupFlavour.HYBRID, trees=(("memory", "/m"),), reason="no writable group for cpu, pids"
    )

    facts = {fact.name: fact for fact in explain(dataclasses.replace(FACTS, groups=layout))}

    assert facts["limit.memory"].sentence == "memory limits are enforced by control groups (hybrid)"
    assert facts["limit.cpu"].sentence == "cpu limits are not enforced: no writable group for cpu, pids"


def test_two_agents_have_different_uids_none_of_them_anyones():
    machine = ((0, 4294967295),)

    first, second = uid_block(machine, "a"), uid_block(machine, "b")

    assert not set(first) & set(second)
    assert min(*first, *second) >= 1_900_000_000
    assert max(*first, *second) < 2**31


def test_in_a_container_the_uids_are_its_own_and_not_its_root():
    block = uid_block(((0, 65536),), "a")

    assert (block.start, block.stop) == (63536, 65536)
    assert 0 not in uid_block(((0, 100),), "a")


def test_sources_are_looked_at_as_the_worker_will(tmp_path):
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "shut").mkdir(mode=0o700)
    mounts = tuple(Mount(source=str(tmp_path / name), target=f"/{name}") for name in ("open", "shut", "missing"))
    spec = SandboxSpec(id="x", argv=("/x",), mounts=mounts)

    found = survey(spec, is_privileged=True)

    assert [(fact.is_there, fact.is_readable) for fact in found] == [(True, True), (True, False), (False, True)]
    assert survey(spec, is_privileged=False)[1].is_readable
