"""Control groups: what a sandbox may use, what it used, and the sure way to end all of it.

Three flavours.  *v2*: one tree for everything.  *v1*: a tree for each controller.  *hybrid*: limits in the v1 trees,
and a v2 tree without controllers, where `cgroup.kill` works all the same.  A sandbox has a group in each tree, below
`relight-<key>` below the group this process is in; the key names the data folder, so that an agent finds what its dead
predecessor left.  Where nothing may be written nothing is limited, and `GroupLayout.reason` says so.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from relight.sandbox.spec import Limits

_CONTROLLERS = ("memory", "cpu", "pids")
_COUNTS_CPU = "cpuacct"  # of v1 alone: as a rule in one tree with `cpu`, but not on every machine
_CPU_PERIOD_US = 100_000
_SMALL_SHARE = 0.125  # of a core, for what did not say
_READ_BYTES = 4096
_REMOVAL_ROUNDS, _REMOVAL_SECONDS = 50, 0.001
_KILL_ROUNDS = 1000  # v1 has no atomic kill: again until a look finds nobody; a fork bomb meets pids.max long before


class GroupFlavour(str, Enum):
    """How this machine keeps its groups."""

    V2 = "v2"
    V1 = "v1"
    HYBRID = "hybrid"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLayout:
    """Where groups can be made: `trees` are (controller, folder) of v1, `unified` the folder of v2 (`""`: none).

    `top` is the root of the v2 tree where this process may use it; `v2_controllers` are those that limits can use.
    `reason` says what is not enforced, and why.
    """

    flavour: GroupFlavour = GroupFlavour.NONE
    trees: tuple[tuple[str, str], ...] = ()
    unified: str = ""
    top: str = ""
    v2_controllers: tuple[str, ...] = ()
    reason: str = ""

    def enforces(self, controller: str) -> bool:
        """Whether limits of `memory`, `cpu` or `pids` are kept."""
        return controller in self.v2_controllers or any(name == controller for name, _ in self.trees)


def find_groups(mountinfo: str, own_groups: str, *, is_root: bool) -> GroupLayout:
    """The layout, from the text of /proc/self/mountinfo and /proc/self/cgroup."""
    v1, v2 = _mounted_trees(mountinfo)
    trees: list[tuple[str, str]] = []
    unified = ""
    for line in own_groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers:
            wanted = [name for name in controllers.split(",") if name in v1 and name in (*_CONTROLLERS, _COUNTS_CPU)]
            trees += [(name, folder) for name in wanted if (folder := _writable(v1[name], path, is_root=is_root))]
        elif v2:
            unified = _writable(v2, path, is_root=is_root)
    trees.sort(key=lambda tree: (*_CONTROLLERS, _COUNTS_CPU).index(tree[0]))
    limited = [folder for name, folder in trees if name != _COUNTS_CPU]
    trees = [tree for tree in trees if tree[0] != _COUNTS_CPU or tree[1] not in limited]
    available = _read(f"{unified}/cgroup.controllers").split() if unified else []
    usable = tuple(name for name in _CONTROLLERS if name in available)
    flavour = _flavour(has_v1=bool(v1), has_v2=bool(v2))
    top = v2[0] if v2 and is_root and unified else ""
    layout = GroupLayout(flavour=flavour, trees=tuple(trees), unified=unified, top=top, v2_controllers=usable)
    missing = [name for name in _CONTROLLERS if not layout.enforces(name)]
    return dataclasses.replace(layout, reason=f"no writable control group for {', '.join(missing)}" if missing else "")


class Groups:
    """The groups of one agent."""

    def __init__(self, layout: GroupLayout, key: str) -> None:
        self.layout = layout
        self._name = f"relight-{key}"

    def prepare(self) -> GroupLayout:
        """Let limits reach the groups to come; returns the layout as it really is."""
        if not self.layout.v2_controllers:
            return self.layout
        # A login's scope holds its shell, and so cannot hand controllers down; root may begin at the top instead.
        why = ""
        for unified in filter(None, dict.fromkeys((self.layout.unified, self.layout.top))):
            why = self._hand_down(unified)
            if not why:
                self.layout = dataclasses.replace(self.layout, unified=unified)
                return self.layout
        reason = f"the control group {self.layout.unified} is not delegated to this process ({why})"
        self.layout = dataclasses.replace(self.layout, v2_controllers=(), reason=reason)
        return self.layout

    def _hand_down(self, unified: str) -> str:
        """Give controllers to the groups below `unified`; returns why not."""
        wanted = " ".join(f"+{name}" for name in self.layout.v2_controllers)
        try:
            _enable(unified, wanted)
            os.makedirs(f"{unified}/{self._name}", exist_ok=True)
            _enable(f"{unified}/{self._name}", wanted)
        except OSError as error:
            return error.strerror or type(error).__name__
        return ""

    def create(self, name: str, limits: Limits, *, is_to_kill: bool = True) -> Group:
        """A group for one sandbox; not `is_to_kill`: its processes end with their namespace.  Raises OSError."""
        group = Group(self._folders(name, is_to_kill=is_to_kill))
        try:
            for folder in group.folders:
                _make(folder)
            self._limit(name, limits)
        except OSError:
            group.try_remove()
            raise
        return group

    def find(self, name: str) -> Group:
        """The group of a sandbox that another process made."""
        return Group(self._folders(name, is_to_kill=True))

    @property
    def parents(self) -> tuple[str, ...]:
        """The folders that hold the sandboxes' groups: what a successor must be told to sweep them."""
        bases = [folder for _, folder in self.layout.trees] + ([self.layout.unified] if self.layout.unified else [])
        return tuple(f"{base}/{self._name}" for base in bases)

    def sweep(self, also: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Kill and remove every sandbox with a group here or in a dead agent's folders `also`; returns what is left."""
        strangers = (folder for folder in also if os.path.basename(folder) == self._name)
        parents = tuple(dict.fromkeys((*self.parents, *strangers)))
        left = []
        for folder in [entry.path for parent in parents for entry in _entries(parent) if entry.is_dir()]:
            group = Group((folder,))
            group.kill()
            if not _remove_soon(group):
                left.append(folder)
        for parent in parents:
            _try_remove(parent)
        return tuple(left)

    def remove(self) -> None:
        """Remove the agent's own level, when it is empty."""
        for parent in self.parents:
            _try_remove(parent)

    def _folders(self, name: str, *, is_to_kill: bool) -> tuple[str, ...]:
        needs_unified = is_to_kill or bool(self.layout.v2_controllers)
        unified = f"{self.layout.unified}/{self._name}"
        return tuple(f"{parent}/{name}" for parent in self.parents if needs_unified or parent != unified)

    def limit_cpu(self, name: str, limits: Limits) -> None:
        """Hold one whose start was free to its `cpu`.  Raises OSError."""
        self._set(name, {"cpu": _quota_v1(limits)}, {"cpu": _quota_v2(limits)})

    def _limit(self, name: str, limits: Limits) -> None:
        self._set(name, _settings_v1(limits), _settings_v2(limits))

    def _set(self, name: str, of_v1: _Settings, of_v2: _Settings) -> None:
        v1 = {controller: f"{folder}/{self._name}/{name}" for controller, folder in self.layout.trees}
        for controller, files in of_v1.items():
            for file, value in files if controller in v1 else ():
                _set(v1[controller], file, value)
        v2 = f"{self.layout.unified}/{self._name}/{name}"
        for controller, files in of_v2.items():
            for file, value in files if controller in self.layout.v2_controllers else ():
                _set(v2, file, value)


class Group:
    """The group of one sandbox: a folder in each tree.  Plain strings: a path object costs more than what is done to it."""

    def __init__(self, folders: tuple[str, ...]) -> None:
        self.folders = folders

    def open_doors(self) -> tuple[int, ...]:
        """Descriptors by which a process of one thread joins it, one for each folder: it writes `0`.  Raises OSError.

        A v1 tree has `tasks`, by which a thread moves itself at once.  For `cgroup.procs` the kernel stops all forks and
        exits first, and that takes a grace period of RCU, up to 20 ms, unless the tree is mounted with `favordynmods`.
        """
        return tuple(_open_door(folder) for folder in self.folders)

    def kill(self) -> None:
        """Kill every process in it, and those they start meanwhile."""
        for folder in self.folders:
            with suppress(OSError):
                _write(f"{folder}/cgroup.kill", "1")
                return
        for _ in range(_KILL_ROUNDS):
            pids = self.pids()
            if not pids:
                return
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def pids(self) -> tuple[int, ...]:
        """The processes in it that still live."""
        return tuple({int(pid) for folder in self.folders for pid in _read(f"{folder}/cgroup.procs").split()})

    def peak_memory_bytes(self) -> int:
        """The most memory it held, 0 where the kernel does not count it."""
        return max((_number(f"{folder}/{file}") for folder in self.folders for file in _PEAKS), default=0)

    def cpu_us(self) -> int | None:
        """The CPU time of all its processes so far, in microseconds; None where the kernel does not count it."""
        for folder in self.folders:
            for line in _read(f"{folder}/cpu.stat").splitlines():
                if line.startswith("usage_usec "):
                    return int(line.split()[1])
            if nanoseconds := _number(f"{folder}/cpuacct.usage"):
                return nanoseconds // 1000
        return None

    def oom_kills(self) -> int:
        """How many of its processes the kernel killed for want of memory."""
        texts = [
            _read(f"{folder}/{file}") for folder in self.folders for file in ("memory.events", "memory.oom_control")
        ]
        lines = [line.split() for text in texts for line in text.splitlines()]
        return sum(int(words[1]) for words in lines if len(words) == 2 and words[0] == "oom_kill")

    def was_at_limit(self) -> bool:
        """Whether it came up to its own limit, so that it was not the machine's memory, or a limit above, that was too little."""
        limits = [_number(f"{folder}/{file}") for folder in self.folders for file in _LIMITS]
        limit, peak = max(limits, default=0), self.peak_memory_bytes()  # `max`, for no limit, is no number: 0
        return (
            not peak or 0 < limit <= peak + _CHARGE_BYTES
        )  # no peak before Linux 5.19: then it is taken to be its own

    def open_bell(self) -> int:
        """A descriptor that is ready when it runs out of memory; -1 where the kernel then ends all of it by itself.

        That is what v2 does (`memory.oom.group`).  On v1 one process is killed, and it is for others to see to the rest.
        """
        for folder in self.folders:
            with suppress(OSError):
                state = os.open(f"{folder}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                    _write(f"{folder}/cgroup.event_control", f"{bell} {state}")
                finally:
                    os.close(state)
                return bell
        return -1

    def try_remove(self) -> bool:
        """Remove it; false while the kernel still finds a process in it."""
        gone = [_try_remove(folder) for folder in self.folders]
        return all(gone)


_LIMITS = ("memory.max", "memory.limit_in_bytes")
_CHARGE_BYTES = 4 << 20  # what is refused at once: so close to its limit a group is at it
_PEAKS = ("memory.peak", "memory.max_usage_in_bytes")


_Settings = dict[str, list[tuple[str, str]]]
"""By controller, what is written to which file."""


def _quota_v1(limits: Limits) -> list[tuple[str, str]]:
    quota = limits.cpu and str(int(limits.cpu * _CPU_PERIOD_US))
    return [("cpu.cfs_period_us", str(_CPU_PERIOD_US)), ("cpu.cfs_quota_us", quota)] if quota else []


def _quota_v2(limits: Limits) -> list[tuple[str, str]]:
    return [("cpu.max", f"{int(limits.cpu * _CPU_PERIOD_US)} {_CPU_PERIOD_US}")] if limits.cpu else []


def _share(limits: Limits, one: int, least: int, most: int) -> str:
    """What it gets of the processor where others want it, too: `one` for each core, as the agent and the server have."""
    return str(min(most, max(least, int((limits.cpu or _SMALL_SHARE) * one))))


def _settings_v1(limits: Limits) -> _Settings:
    memory = limits.memory_mib and str(limits.memory_mib << 20)
    share = [("cpu.shares", _share(limits, 1024, 2, 262_144))]
    return {
        # memsw is memory and swap together: the same number means no swap; kernels without swap lack the file
        "memory": [("memory.limit_in_bytes", memory), ("?memory.memsw.limit_in_bytes", memory)] if memory else [],
        "cpu": share if limits.is_start_free else share + _quota_v1(limits),
        "pids": [("pids.max", str(limits.pids))],
    }


def _settings_v2(limits: Limits) -> _Settings:
    memory = limits.memory_mib and str(limits.memory_mib << 20)
    share = [("cpu.weight", _share(limits, 100, 1, 10_000))]
    return {
        "memory": [("memory.max", memory), ("?memory.swap.max", "0"), ("?memory.oom.group", "1")] if memory else [],
        "cpu": share if limits.is_start_free else share + _quota_v2(limits),
        "pids": [("pids.max", str(limits.pids))],
    }


def _set(folder: str, file: str, value: str) -> None:
    """Write a setting; one whose name begins with `?` may be missing."""
    path = f"{folder}/{file.lstrip('?')}"
    if file[0] != "?" or os.path.exists(path):
        _write(path, value)


def _make(folder: str) -> None:
    try:
        os.mkdir(folder)
    except FileNotFoundError:  # the agent's own level is gone: the first, or somebody else has tidied up
        os.makedirs(folder)
    except FileExistsError:
        _make_anew(folder)


def _make_anew(folder: str) -> None:
    """What was tried under this name failed a moment ago, and the kernel is yet to let go of its dead.

    A used one would tell of another's memory.
    """
    _remove_soon(Group((folder,)))
    os.mkdir(folder)


def _remove_soon(group: Group) -> bool:
    """Remove what may be empty and not seem so yet, as the kernel lets go of its dead in its own time; whether it is gone."""
    for _ in range(_REMOVAL_ROUNDS):
        if group.try_remove():
            return True
        time.sleep(_REMOVAL_SECONDS)
    return False


def _try_remove(folder: str) -> bool:
    """Whether it is gone."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _open_door(folder: str) -> int:
    try:
        return os.open(f"{folder}/tasks", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(f"{folder}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        return list(entries)
    return []


def _enable(folder: str, wanted: str) -> None:
    """Hand controllers down.  A group with processes of its own cannot, so the agent steps aside into a leaf."""
    control = f"{folder}/cgroup.subtree_control"
    if set(wanted.replace("+", "").split()) <= set(_read(control).split()):
        return
    ours = {os.getpid(), os.getppid()}
    inhabitants = {int(pid) for pid in _read(f"{folder}/cgroup.procs").split()}
    if inhabitants and inhabitants <= ours and os.path.basename(folder):
        leaf = f"{folder}/relight-agent"
        os.makedirs(leaf, exist_ok=True)
        for pid in inhabitants:
            _write(f"{leaf}/cgroup.procs", str(pid))
    _write(control, wanted)


def _mounted_trees(mountinfo: str) -> tuple[dict[str, tuple[str, str]], tuple[str, str] | None]:
    """Where each v1 controller and the v2 tree are mounted: (mount point, which part of the tree it shows)."""
    v1: dict[str, tuple[str, str]] = {}
    v2: tuple[str, str] | None = None
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        shown, point = left.split()[3:5]
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup2":
            v2 = v2 or (point, shown)
        elif kind == "cgroup":
            v1.update({name: (point, shown) for name in options.split(",") if name not in v1})
    return v1, v2


def _writable(tree: tuple[str, str], path: str, *, is_root: bool) -> str:
    """The folder of a group below a mount, if groups can be made in it; root may fall back on the top."""
    point, shown = tree
    inside = path[len(shown) :] if shown != "/" and path.startswith(shown) else path
    candidates = [point + inside.rstrip("/"), *([point] if is_root else [])]
    return next((folder for folder in candidates if os.path.isdir(folder) and os.access(folder, os.W_OK)), "")


def _flavour(*, has_v1: bool, has_v2: bool) -> GroupFlavour:
    if has_v1:
        return GroupFlavour.HYBRID if has_v2 else GroupFlavour.V1
    return GroupFlavour.V2 if has_v2 else GroupFlavour.NONE


def _read(file: str) -> str:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return _read_all(descriptor).decode()
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def _read_all(descriptor: int) -> bytes:
    data = part = os.read(descriptor, _READ_BYTES)
    while part:
        part = os.read(descriptor, _READ_BYTES)
        data += part
    return data


def _write(file: str, value: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def _number(file: str) -> int:
    text = _read(file).strip()
    return int(text) if text.isdecimal() else 0
