"""What is looked at on a machine, and what is made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from relight.agent import fitness
from relight.agent.fitness import (
    DRIFT_SECONDS,
    ROOM_BYTES,
    SLOW_SYNC_SECONDS,
    WRITTEN_AT,
    Ground,
    Probe,
    delegation_command,
    judge_clock,
    judge_drift,
    judge_room,
    judge_sync,
    look,
    namespaces_command,
)
from relight.clock import SystemClock
from relight.protocol.fitness import Check, Verdict, is_fit
from relight.sandbox.cgroups import GroupFlavour, GroupLayout
from relight.sandbox.facts import Facts

FACTS = Facts(kernel="6.1", uid=0, gid=0, is_privileged=True, uid_extents=((0, 100_000),), groups=GroupLayout())
ALL = GroupLayout(flavour=GroupFlavour.V2, unified="/u", v2_controllers=("memory", "cpu", "pids"))


def ground(folder: Path, **facts: object) -> Ground:
    changed = replace(FACTS, **facts)  # type: ignore[arg-type]  # shorthand
    return Ground(facts=changed, folder=folder, clock=SystemClock())


def test_a_good_machine_is_fit_and_nothing_is_advised(tmp_path: Path) -> None:
    checks = {check.name: check for check in look(ground(tmp_path / "not" / "there", groups=ALL))}

    assert is_fit(checks.values())
    assert {"machine", "isolation", "users", "control groups", "data folder", "disk sync", "clock", "gpu"} <= set(
        checks
    )
    assert checks["control groups"].sentence == "version 2: memory, cpu, pids delegated to this process"
    assert checks["disk sync"].value is not None
    assert [check for check in checks.values() if check.verdict is Verdict.OK and check.advice] == []
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_namespaces_is_not_fit_and_one_without_limits_is_weak(tmp_path: Path) -> None:
    plain = {check.name: check for check in look(ground(tmp_path, denial="cannot unshare: Operation not permitted"))}
    unlimited = {check.name: check for check in look(ground(tmp_path))}

    assert (plain["isolation"].verdict, is_fit(plain.values())) == (Verdict.BROKEN, False)
    assert (unlimited["limit.memory"].verdict, is_fit(unlimited.values())) == (Verdict.WEAK, True)
    assert unlimited["control groups"].advice == "sudo relight up"


def test_every_check_that_is_not_ok_says_what_to_do(tmp_path: Path) -> None:
    worst = ground(tmp_path, is_privileged=False, uid=7, denial="cannot mount /proc: Operation not permitted")

    assert [check.name for check in look(worst) if check.verdict is not Verdict.OK and not check.advice] == []


def test_what_cannot_be_looked_at_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_ground: Ground) -> object:
        raise PermissionError(13, "Permission denied", "/x")

    monkeypatch.setattr(fitness, "PROBES", (Probe(name="disk", look=refuse),))  # type: ignore[arg-type]  # it raises

    (check,) = look(ground(tmp_path))

    assert (check.verdict, check.sentence) == (Verdict.BROKEN, "cannot look at the disk: Permission denied (/x)")


@pytest.mark.parametrize(
    ("check", "verdict"),
    [
        (judge_room(Path("/d"), ROOM_BYTES, is_writable=True), Verdict.OK),
        (judge_room(Path("/d"), ROOM_BYTES - 1, is_writable=True), Verdict.BROKEN),
        (judge_room(Path("/d"), ROOM_BYTES, is_writable=False), Verdict.BROKEN),
        (judge_sync(SLOW_SYNC_SECONDS), Verdict.OK),
        (judge_sync(SLOW_SYNC_SECONDS + 0.001), Verdict.WEAK),
        (judge_clock(WRITTEN_AT, 0.0), Verdict.OK),
        (judge_clock(WRITTEN_AT - 1, 0.0), Verdict.BROKEN),
        (judge_clock(WRITTEN_AT, -0.001), Verdict.BROKEN),
        (judge_drift(-DRIFT_SECONDS), Verdict.OK),
        (judge_drift(DRIFT_SECONDS + 0.1), Verdict.WEAK),
    ],
)
def test_what_was_measured_is_judged(check: Check, verdict: Verdict) -> None:
    assert check.verdict is verdict
    assert bool(check.advice) is (verdict is not Verdict.OK)


@pytest.mark.parametrize(
    ("setting", "value", "command"),
    [
        ("user/max_user_namespaces", "0\n", "sudo sysctl -w user.max_user_namespaces=15000"),
        ("kernel/unprivileged_userns_clone", "0\n", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1\n",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("user/max_user_namespaces", "15000\n", ""),
    ],
)
def test_the_command_that_permits_namespaces_is_named(tmp_path: Path, setting: str, value: str, command: str) -> None:
    (tmp_path / "sys" / setting).parent.mkdir(parents=True)
    (tmp_path / "sys" / setting).write_text(value)
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text("Name:\tx\nSeccomp:\t0\nSeccomp_filters:\t0\n")

    assert namespaces_command(tmp_path) == command


def test_a_filter_of_system_calls_is_named_where_no_setting_denies_namespaces(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n")

    assert namespaces_command(tmp_path).startswith("docker run --security-opt seccomp=unconfined ")


def test_the_command_that_delegates_groups_is_of_their_version() -> None:
    alone = GroupLayout(flavour=GroupFlavour.V2, reason="not delegated")

    assert delegation_command(replace(FACTS, groups=ALL)) == ""
    assert delegation_command(replace(FACTS, groups=alone)).startswith("systemd-run --user --scope -p Delegate=yes")
    assert delegation_command(replace(FACTS, groups=replace(alone, flavour=GroupFlavour.V1))) == "sudo relight up"
