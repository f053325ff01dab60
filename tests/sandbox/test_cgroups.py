"""Control groups of every flavour; those this machine lacks are folders with the files the kernel would show."""

import os
from pathlib import Path

import pytest

from relight.sandbox import cgroups
from relight.sandbox.cgroups import Group, GroupFlavour, GroupLayout, Groups, find_groups
from relight.sandbox.spec import Limits


def mountinfo(*mounts: tuple[str, str, str, Path]) -> str:
    rows = (
        f"31 23 0:28 {shown} {point} rw,relatime shared:1 - {kind} {kind} rw,{options}"
        for kind, options, shown, point in mounts
    )
    return "\n".join(["24 1 0:1 / / rw - ext4 /dev/x rw", *rows])


def test_a_hybrid_machine_has_limits_in_v1_and_kill_in_v2(tmp_path):
    for folder in ("memory/box", "cpu,cpuacct", "unified"):
        (tmp_path / folder).mkdir(parents=True)
    mounts = mountinfo(
        ("cgroup", "memory", "/", tmp_path / "memory"),
        ("cgroup", "cpu,cpuacct", "/", tmp_path / "cpu,cpuacct"),
        ("cgroup2", "", "/", tmp_path / "unified"),
    )

    layout = find_groups(mounts, "4:memory:/box\n2:cpu,cpuacct:/\n0::/\n", is_root=True)

    assert layout.flavour is GroupFlavour.HYBRID
    assert layout.trees == (("memory", f"{tmp_path}/memory/box"), ("cpu", f"{tmp_path}/cpu,cpuacct"))
    assert (layout.unified, layout.v2_controllers) == (f"{tmp_path}/unified", ())
    assert layout.reason == "no writable control group for pids"


def test_where_cpu_time_is_counted_in_a_tree_of_its_own_there_is_a_group_for_that(tmp_path):
    for folder in ("cpu", "cpuacct"):
        (tmp_path / folder).mkdir()
    mounts = mountinfo(*(("cgroup", name, "/", tmp_path / name) for name in ("cpuacct", "cpu")))

    layout = find_groups(mounts, "2:cpuacct:/\n1:cpu:/\n", is_root=True)
    groups = Groups(layout, "key")
    groups.create("one", Limits())
    (tmp_path / "cpuacct" / "relight-key" / "one" / "cpuacct.usage").write_text("1234567\n")

    assert layout.trees == (("cpu", f"{tmp_path}/cpu"), ("cpuacct", f"{tmp_path}/cpuacct"))
    assert layout.reason == "no writable control group for memory, pids"
    assert groups.find("one").cpu_us() == 1234


def test_a_v2_machine_has_its_controllers_in_one_tree(tmp_path):
    own = tmp_path / "user.slice"
    own.mkdir()
    (own / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")

    layout = find_groups(mountinfo(("cgroup2", "", "/", tmp_path)), "0::/user.slice\n", is_root=False)

    assert (layout.flavour, layout.unified) == (GroupFlavour.V2, str(own))
    assert (layout.v2_controllers, layout.reason) == (("memory", "cpu", "pids"), "")


def test_a_group_outside_of_what_a_mount_shows_is_found_below_it(tmp_path):
    (tmp_path / "inner").mkdir()
    mounts = mountinfo(("cgroup", "memory", "/docker/abc", tmp_path))

    layout = find_groups(mounts, "4:memory:/docker/abc/inner\n", is_root=True)

    assert layout.trees == (("memory", f"{tmp_path}/inner"),)


def test_no_groups_at_all_is_said(tmp_path):
    layout = find_groups(mountinfo(), "", is_root=False)

    assert (layout.flavour, layout.trees, layout.unified) == (GroupFlavour.NONE, (), "")
    assert layout.reason == "no writable control group for memory, cpu, pids"


def v2_groups(tmp_path: Path, own_processes: str = "") -> Groups:
    (tmp_path / "cgroup.subtree_control").write_text("")
    (tmp_path / "cgroup.procs").write_text(own_processes)
    layout = GroupLayout(flavour=GroupFlavour.V2, unified=str(tmp_path), v2_controllers=("memory", "cpu", "pids"))
    return Groups(layout, "key")


def test_v2_controllers_are_handed_down_and_limits_written(tmp_path, monkeypatch):
    groups = v2_groups(tmp_path)
    written = record_writes(monkeypatch)

    assert groups.prepare() == groups.layout
    groups.create("one", Limits(cpu=1.5, memory_mib=64, pids=9))

    parent = f"{tmp_path}/relight-key"
    assert written == [
        (f"{tmp_path}/cgroup.subtree_control", "+memory +cpu +pids"),
        (f"{parent}/cgroup.subtree_control", "+memory +cpu +pids"),
        (f"{parent}/one/memory.max", "67108864"),
        (f"{parent}/one/cpu.weight", "150"),
        (f"{parent}/one/cpu.max", "150000 100000"),
        (f"{parent}/one/pids.max", "9"),
    ]


def test_the_agent_steps_aside_into_a_leaf_where_it_is_alone(tmp_path, monkeypatch):
    groups = v2_groups(tmp_path, f"{os.getpid()}\n")
    written = record_writes(monkeypatch)

    groups.prepare()

    assert written[0] == (f"{tmp_path}/relight-agent/cgroup.procs", str(os.getpid()))


def test_a_v2_group_that_is_not_delegated_is_said_and_nothing_is_limited(tmp_path, monkeypatch):
    def busy(file: str, text: str) -> None:
        raise OSError(16, "Device or resource busy")

    groups = v2_groups(tmp_path)
    monkeypatch.setattr(cgroups, "_write", busy)

    layout = groups.prepare()

    assert not layout.enforces("memory")
    assert layout.reason == f"the control group {tmp_path} is not delegated to this process (Device or resource busy)"


def test_root_begins_at_the_top_where_its_own_group_has_other_processes(tmp_path, monkeypatch):
    scope = tmp_path / "session.scope"
    scope.mkdir()
    layout = GroupLayout(flavour=GroupFlavour.V2, unified=str(scope), top=str(tmp_path), v2_controllers=("memory",))
    write = cgroups._write

    def busy_in_the_scope(file: str, text: str) -> None:
        if os.path.dirname(file) == str(scope):
            raise OSError(16, "Device or resource busy")
        write(file, text)

    monkeypatch.setattr(cgroups, "_write", busy_in_the_scope)
    prepared = Groups(layout, "key").prepare()

    assert (prepared.unified, prepared.enforces("memory"), prepared.reason) == (str(tmp_path), True, "")
    assert (tmp_path / "relight-key" / "cgroup.subtree_control").read_text() == "+memory"


def test_v1_limits_are_written_in_each_tree_and_swap_only_where_there_is_some(tmp_path, monkeypatch):
    trees = tuple((name, str(tmp_path / name)) for name in ("memory", "cpu", "pids"))
    groups = Groups(GroupLayout(flavour=GroupFlavour.V1, trees=trees), "key")
    written = record_writes(monkeypatch)

    groups.create("one", Limits(cpu=0.5, memory_mib=1, pids=9))

    assert [(file.removeprefix(f"{tmp_path}/"), text) for file, text in written] == [
        ("memory/relight-key/one/memory.limit_in_bytes", "1048576"),
        ("cpu/relight-key/one/cpu.shares", "512"),
        ("cpu/relight-key/one/cpu.cfs_period_us", "100000"),
        ("cpu/relight-key/one/cpu.cfs_quota_us", "50000"),
        ("pids/relight-key/one/pids.max", "9"),
    ]


def test_a_start_that_is_free_gets_its_quota_when_it_has_started(tmp_path, monkeypatch):
    trees = (("cpu", str(tmp_path / "cpu")),)
    groups = Groups(GroupLayout(flavour=GroupFlavour.V1, trees=trees), "key")
    limits = Limits(cpu=0.5, is_start_free=True)
    written = record_writes(monkeypatch)

    groups.create("one", limits)
    before = [os.path.basename(file) for file, _ in written]
    groups.limit_cpu("one", limits)

    assert before == ["cpu.shares"]
    assert [(os.path.basename(file), text) for file, text in written[1:]] == [
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_quota_us", "50000"),
    ]


def test_a_group_of_the_same_name_that_is_about_to_go_is_waited_for(tmp_path):
    groups = Groups(GroupLayout(flavour=GroupFlavour.V1, trees=(("pids", str(tmp_path)),)), "key")
    first = tmp_path / "relight-key" / "one"
    first.mkdir(parents=True)
    before = first.stat().st_ino, (first / "..").stat().st_mtime_ns

    groups.create("one", Limits())

    assert ((first.stat().st_ino, (first / "..").stat().st_mtime_ns)) != before


def test_what_is_not_asked_is_not_limited(tmp_path, monkeypatch):
    trees = tuple((name, str(tmp_path / name)) for name in ("memory", "cpu"))
    written = record_writes(monkeypatch)

    Groups(GroupLayout(flavour=GroupFlavour.V1, trees=trees), "key").create("one", Limits())

    assert [(os.path.basename(file), text) for file, text in written] == [("cpu.shares", "128")]


@pytest.mark.parametrize(
    ("file", "text", "kills"),
    [
        ("memory.events", "low 0\nhigh 0\nmax 31\noom 2\noom_kill 2\noom_group_kill 0\n", 2),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", 1),
        ("memory.events", "oom_kill 0\n", 0),
    ],
)
def test_kills_for_want_of_memory_are_counted_in_both_versions(tmp_path, file, text, kills):
    (tmp_path / file).write_text(text)

    assert Group((str(tmp_path),)).oom_kills() == kills


@pytest.mark.parametrize("file", ["memory.peak", "memory.max_usage_in_bytes"])
def test_the_peak_is_read_in_both_versions_and_zero_where_there_is_none(tmp_path, file):
    assert Group((str(tmp_path),)).peak_memory_bytes() == 0
    (tmp_path / file).write_text("4096\n")

    assert Group((str(tmp_path),)).peak_memory_bytes() == 4096


@pytest.mark.parametrize(
    ("limit", "peak", "was_at_limit"),
    [
        ("67108864", "67100000", True),
        ("67108864", "30000000", False),
        ("max", "67100000", False),
        ("67108864", "", True),
    ],
)
@pytest.mark.parametrize(
    "files", [("memory.max", "memory.peak"), ("memory.limit_in_bytes", "memory.max_usage_in_bytes")]
)
def test_whose_memory_was_too_little_is_told_by_how_close_it_came_to_its_own(
    tmp_path, files, limit, peak, was_at_limit
):
    for file, text in zip(files, (limit, peak), strict=True):
        (tmp_path / file).write_text(text)

    assert Group((str(tmp_path),)).was_at_limit() is was_at_limit


def test_version_two_ends_the_whole_group_by_itself_and_has_no_bell(tmp_path, monkeypatch):
    folder = tmp_path / "relight-key" / "one"
    folder.mkdir(parents=True)
    (folder / "memory.oom.group").write_text("0")
    layout = GroupLayout(flavour=GroupFlavour.V2, unified=str(tmp_path), v2_controllers=("memory",))
    written = record_writes(monkeypatch)
    monkeypatch.setattr(cgroups, "_make", lambda folder: None)

    group = Groups(layout, "key").create("one", Limits(memory_mib=1))

    assert (f"{folder}/memory.oom.group", "1") in written
    assert group.open_bell() == -1


def test_a_sweep_touches_no_folder_of_another_agent(tmp_path):
    ours, theirs = tmp_path / "relight-key" / "left", tmp_path / "relight-other" / "left"
    for folder in (ours, theirs):
        folder.mkdir(parents=True)
    groups = Groups(GroupLayout(), "key")

    left = groups.sweep((str(ours.parent), str(theirs.parent), "/"))

    assert (ours / "cgroup.kill").read_text() == "1"
    assert not (theirs / "cgroup.kill").exists()
    assert left == (str(ours),)  # a plain folder, unlike a group, keeps the file and so cannot be removed


def record_writes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What would be written to the kernel's files, in order."""
    written: list[tuple[str, str]] = []
    monkeypatch.setattr(cgroups, "_write", lambda file, text: written.append((file, text)))
    return written
