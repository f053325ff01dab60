"""Looks at this machine: whether it is fit to run workers, and what to do where it is not.

The table below is what an agent looks at when it starts, in some milliseconds, and tells with its node; `relight doctor`
looks at the same and then at what takes longer.  To look is one function, to judge another, which is pure.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from relight.agent.gpu import kind_of
from relight.agent.memory import LOOK_SECONDS
from relight.agent.nvml import DRIVER, open_nvml
from relight.agent.resources import cores, memory_mib
from relight.clock import Clock
from relight.protocol.fitness import Check, Verdict
from relight.sandbox.cgroups import GroupFlavour
from relight.sandbox.facts import Fact, Facts, explain
from relight.sandbox.spec import Isolation

SYNCS = 5
"""So many times a page is written and synced: the median counts."""

SLOW_SYNC_SECONDS = 0.02
"""A disk that takes longer to sync holds up each call, whose record is committed before it is acknowledged."""

ROOM_BYTES = 1 << 30
"""With less room than that on its disk a machine is not fit."""

WRITTEN_AT = 1_780_000_000.0
"""A wall clock that shows a time before this was written (2026-05-29) is wrong."""

DRIFT_SECONDS = 1.0
"""Clocks that are further apart make times and their order hard to read; leases do not depend on them."""

_PAGE = bytes(4096)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What is looked at: what the kernel permits, the folder where all is kept, and the clocks."""

    facts: Facts
    folder: Path
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One row: what is looked at, and how."""

    name: str
    look: Callable[[Ground], Iterator[Check]]


def look(ground: Ground) -> tuple[Check, ...]:
    """All checks of the table, in its order.  One that cannot be made is broken, and says why."""
    return tuple(check for probe in PROBES for check in _look(probe, ground))


def _look(probe: Probe, ground: Ground) -> Iterator[Check]:
    try:
        yield from probe.look(ground)
    except OSError as error:
        sentence = f"cannot look at the {probe.name}: {error.strerror or error} ({error.filename})"
        yield Check(name=probe.name, verdict=Verdict.BROKEN, sentence=sentence, advice="run it as another user")


# -- the rows


def _machine(ground: Ground) -> Iterator[Check]:
    kernel, architecture = ground.facts.kernel, platform.machine()
    size = f"{cores():g} cores, {memory_mib() / 1024:.1f} GiB of memory"
    yield Check(name="machine", sentence=f"Linux {kernel} on {architecture}, {size}")


def _sandboxes(ground: Ground) -> Iterator[Check]:
    for fact in explain(ground.facts):
        check = check_of(fact)
        if fact.name == "isolation" and not fact.holds:
            check = replace(check, advice=namespaces_command() or fact.advice)
        if fact.name == "users" and not fact.holds and ground.facts.uid == 0:
            check = replace(check, advice=_advice_for_root(ground.facts))
        if fact.name == "limit.memory" and not fact.holds:
            sampled = f"{check.sentence}; the agent looks every {LOOK_SECONDS:g} s and ends workers that take more"
            check = replace(check, sentence=sampled)
        yield check


def _groups(ground: Ground) -> Iterator[Check]:
    groups = ground.facts.groups
    kept = [name for name in ("memory", "cpu", "pids") if groups.enforces(name)]
    how = {
        GroupFlavour.V2: "version 2",
        GroupFlavour.V1: "version 1",
        GroupFlavour.HYBRID: "version 1 for limits, version 2 beside it",
        GroupFlavour.NONE: "none are mounted",
    }[groups.flavour]
    said = (
        f"{', '.join(kept)} delegated to this process"
        if kept
        else f"nothing delegated to this process ({groups.reason})"
    )
    verdict = Verdict.OK if len(kept) == 3 else Verdict.WEAK  # the limits' own lines say what to do
    yield Check(
        name="control groups", verdict=verdict, sentence=f"{how}: {said}", advice=delegation_command(ground.facts)
    )


def _disk(ground: Ground) -> Iterator[Check]:
    near = ground.folder
    while not near.exists():
        near = near.parent
    free = shutil.disk_usage(near).free
    yield judge_room(ground.folder, free, is_writable=os.access(near, os.W_OK | os.X_OK))
    if os.access(near, os.W_OK | os.X_OK):
        yield judge_sync(statistics.median(_sync_seconds(near, ground.clock)))


def _clocks(ground: Ground) -> Iterator[Check]:
    before = ground.clock.monotonic()
    yield judge_clock(ground.clock.now(), ground.clock.monotonic() - before)


def _gpus(ground: Ground) -> Iterator[Check]:
    nvml = open_nvml()
    devices = nvml.devices() if nvml is not None else ()
    for device in devices:
        yield Check(name="gpu", sentence=f"{kind_of(device.name)} ({device.id}), {device.memory_mib} MiB")
    if nvml is None and DRIVER.is_dir():
        advice = "pip install 'relight[gpu]', and see that nvidia-smi answers"
        sentence = "there is an NVIDIA driver, and its GPUs cannot be asked for"
        yield Check(name="gpu", verdict=Verdict.WEAK, sentence=sentence, advice=advice)
    elif not devices:
        yield Check(name="gpu", sentence="no GPU; `relight up --declare-gpu A100:1` declares simulated ones")


PROBES = (
    Probe(name="machine", look=_machine),
    Probe(name="sandboxes", look=_sandboxes),
    Probe(name="control groups", look=_groups),
    Probe(name="disk", look=_disk),
    Probe(name="clock", look=_clocks),
    Probe(name="gpu", look=_gpus),
)
"""What is looked at, in this order."""


# -- judging


def check_of(fact: Fact) -> Check:
    """A fact about sandboxes as a check: without any that keeps them apart, a machine is not fit."""
    missing = Verdict.BROKEN if fact.name == "isolation" else Verdict.WEAK
    verdict = Verdict.OK if fact.holds else missing
    return Check(name=fact.name, verdict=verdict, sentence=fact.sentence, advice="" if fact.holds else fact.advice)


def judge_room(folder: Path, free_bytes: int, *, is_writable: bool) -> Check:
    """What the disk has room for."""
    free = free_bytes / (1 << 30)
    room = Check(name="data folder", sentence="", value=round(free, 1), unit="GiB")
    if not is_writable:
        advice = f"sudo chown $USER {folder}, or set RELIGHT_DATA_DIR to another folder"
        return replace(room, verdict=Verdict.BROKEN, sentence=f"{folder} cannot be written", advice=advice)
    if free_bytes < ROOM_BYTES:
        advice = "make room, or set RELIGHT_DATA_DIR to another folder"
        return replace(room, verdict=Verdict.BROKEN, sentence=f"{folder} has {free:.1f} GiB free", advice=advice)
    return replace(room, sentence=f"{folder} can be written, with {free:.0f} GiB free")


def judge_sync(seconds: float) -> Check:
    """How quickly what is written is safe."""
    is_slow = seconds > SLOW_SYNC_SECONDS
    return Check(
        name="disk sync",
        verdict=Verdict.WEAK if is_slow else Verdict.OK,
        sentence=f"a write is safe on the disk after {seconds * 1000:.1f} ms",
        advice="keep the data folder on an SSD of this machine: RELIGHT_DATA_DIR=/path relight up" if is_slow else "",
        value=round(seconds * 1000, 3),
        unit="ms",
    )


def judge_clock(now: float, passed: float) -> Check:
    """Whether the clocks can be right: the wall's shows `now`, the monotonic one went on by `passed` while one looked."""
    if passed < 0:
        sentence = f"the monotonic clock went back by {-passed:.6f} s"
        return Check(name="clock", verdict=Verdict.BROKEN, sentence=sentence, advice="use another clocksource (dmesg)")
    if now < WRITTEN_AT:
        sentence, advice = "the wall clock is years behind", "sudo timedatectl set-ntp true"
        return Check(name="clock", verdict=Verdict.BROKEN, sentence=sentence, advice=advice)
    return Check(name="clock", sentence="the clocks go forward")


def judge_drift(seconds: float) -> Check:
    """How far a machine's wall clock is ahead of its server's."""
    is_far = abs(seconds) > DRIFT_SECONDS
    side = "ahead of" if seconds > 0 else "behind"
    return Check(
        name="clock drift",
        verdict=Verdict.WEAK if is_far else Verdict.OK,
        sentence=f"the wall clock is {abs(seconds) * 1000:.0f} ms {side} the server's",
        advice="sudo timedatectl set-ntp true, on both machines" if is_far else "",
        value=round(seconds * 1000, 1),
        unit="ms",
    )


# -- what to do


def namespaces_command(proc: Path = Path("/proc")) -> str:
    """The command that permits namespaces on this machine; "" where neither a setting of its kernel nor a filter denies them."""
    for setting, denies, permits in (
        ("user.max_user_namespaces", "0", "15000"),
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ):
        file = proc / "sys" / setting.replace(".", "/", 1)
        if file.exists() and file.read_text().strip() == denies:
            return f"sudo sysctl -w {setting}={permits}"
    if "\nSeccomp:\t2\n" in (proc / "self" / "status").read_text():  # whoever made this container filters system calls
        return "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined …"
    return ""


def _advice_for_root(facts: Facts) -> str:
    """Why root cannot give sandboxes users of their own."""
    if facts.isolation is Isolation.PROCESS:
        return "permit namespaces first, as the line on isolation says"
    return "run the agent outside of this user namespace, which has no other users"


def delegation_command(facts: Facts) -> str:
    """The command that has limits enforced; "" where they are."""
    if all(facts.groups.enforces(name) for name in ("memory", "cpu", "pids")):
        return ""
    if facts.groups.flavour is GroupFlavour.V2 and facts.isolation is Isolation.NAMESPACES:
        return "systemd-run --user --scope -p Delegate=yes relight up"
    return "sudo relight up"


def _sync_seconds(folder: Path, clock: Clock) -> list[float]:
    path = folder / f".relight-sync-{os.getpid()}"
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    taken = []
    try:
        for _ in range(SYNCS):
            os.write(descriptor, _PAGE)
            before = clock.monotonic()
            os.fdatasync(descriptor)
            taken.append(clock.monotonic() - before)
    finally:
        os.close(descriptor)
        path.unlink()
    return taken
