"""What this machine permits, found by trying, and said in plain sentences: the ground of every plan and of `doctor`."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from relight.sandbox import filters, syscalls
from relight.sandbox.cgroups import GroupFlavour, GroupLayout, find_groups
from relight.sandbox.egress.setup import PrepareEgress
from relight.sandbox.spec import Isolation, SandboxSpec

_SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = (
    *("ld.so.cache", "localtime", "ssl/certs", "ssl/openssl.cnf", "pki/tls/certs", "pki/ca-trust/extracted"),
    *("ca-certificates", "alternatives", "mime.types", "services", "protocols", "fonts"),
)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_CAP_SETGID, _CAP_SETUID, _CAP_SYS_ADMIN = 6, 7, 21

_FIRST_UID = 1_900_000_000
"""Outer uids from here to 2^31 are given out: distributions, subordinate ranges and containers use none of them."""
_UIDS_PER_AGENT = 2_000
_AGENT_BLOCKS = 100_000
_WHOLE_LANDLOCK = 6  # the version that keeps workers from abstract sockets: Linux 6.12


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing about the machine; `advice` says what to do where it does not hold."""

    name: str
    holds: bool
    sentence: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemPath:
    """A part of the operating system that every sandbox sees; `leads_to` is set where it is a symbolic link."""

    path: str
    leads_to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the machine permits this process.

    `is_privileged`: it may map other uids than its own.  `uid_extents` are the (first, count) ranges of uids that
    exist here.  `denial` is why there are no namespaces, empty where there are; `egress_denial` why a sandbox's own
    network has no way out but by a proxy.  `unfiltered` is why system calls cannot be filtered; `landlock` the version of
    its interface, 0 where there is none.
    """

    kernel: str
    uid: int
    gid: int
    is_privileged: bool
    uid_extents: tuple[tuple[int, int], ...]
    denial: str = ""
    egress_denial: str = ""
    machine: str = ""
    unfiltered: str = ""
    landlock: int = 0
    groups: GroupLayout
    system: tuple[SystemPath, ...] = ()
    etc: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()

    @property
    def is_proxied(self) -> bool:
        """Whether the way out of a sandbox is by a proxy."""
        return bool(self.egress_denial)

    @property
    def isolation(self) -> Isolation:
        """The best isolation that is to be had."""
        return Isolation.PROCESS if self.denial else Isolation.NAMESPACES

    @property
    def has_filters(self) -> bool:
        """Whether system calls can be filtered."""
        return not self.unfiltered and self.machine in filters.SANDBOX


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFact:
    """What a mount's source is on the disk.  `is_readable`: by everybody, or, without privilege, by this process."""

    path: str
    is_there: bool
    is_readable: bool = True
    uid: int = 0
    gid: int = 0


def gather() -> Facts:
    """Look and try.  It forks, so only a process with one thread may call it; takes a few milliseconds."""
    capabilities = _effective_capabilities(Path("/proc/self/status").read_text())
    extents = _extents(Path("/proc/self/uid_map").read_text())
    has_others = (
        sum(count for _, count in extents) > 1
    )  # else this is a namespace of one user, where even root has no other
    may_map = all(capabilities >> bit & 1 for bit in (_CAP_SETGID, _CAP_SETUID, _CAP_SYS_ADMIN))
    is_privileged = may_map and has_others
    return Facts(
        kernel=os.uname().release,
        uid=os.geteuid(),
        gid=os.getegid(),
        is_privileged=is_privileged,
        uid_extents=extents,
        denial=_report_of(_try_namespaces),
        egress_denial=_report_of(_egress_trial),
        machine=os.uname().machine,
        unfiltered=_why_unfiltered(),
        landlock=syscalls.landlock_version(),
        groups=find_groups(
            Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text(), is_root=is_privileged
        ),
        system=_system_paths(),
        etc=tuple(name for name in _ETC if os.path.exists(f"/etc/{name}")),
        devices=tuple(name for name in _DEVICES if os.path.exists(f"/dev/{name}")),
    )


def survey(spec: SandboxSpec, *, is_privileged: bool) -> tuple[SourceFact, ...]:
    """What the sources of a spec's mounts are."""
    return tuple(_source(mount.source, is_privileged=is_privileged) for mount in spec.mounts)


def uid_block(extents: tuple[tuple[int, int], ...], key: str) -> range:
    """The outer uids of the agent with this key: its own block, or what a smaller machine (a container) has."""
    first = _FIRST_UID + zlib.crc32(key.encode()) % _AGENT_BLOCKS * _UIDS_PER_AGENT
    for start, count in extents:
        if start <= first and first + _UIDS_PER_AGENT <= start + count:
            return range(first, first + _UIDS_PER_AGENT)
    start, count = max(extents, key=lambda extent: extent[1])
    end = start + count
    return range(max(start + 1, end - _UIDS_PER_AGENT), end)


def explain(facts: Facts) -> tuple[Fact, ...]:
    """The facts as sentences."""
    has_namespaces = facts.isolation is Isolation.NAMESPACES
    return (
        Fact(
            name="isolation",
            holds=has_namespaces,
            sentence="sandboxes have their own users, files, processes and network"
            if has_namespaces
            else f"SANDBOXES ARE PLAIN PROCESSES that can read what this user can read: {facts.denial}",
            advice="" if has_namespaces else _advice(facts.denial),
        ),
        Fact(
            name="users",
            holds=facts.is_privileged and has_namespaces,
            sentence="each sandbox runs as an unprivileged user of its own"
            if facts.is_privileged and has_namespaces
            else f"sandboxes run as uid {facts.uid}, the agent's own",
            advice="" if facts.is_privileged else "run the agent as root to give each sandbox its own user",
        ),
        Fact(
            name="system calls",
            holds=facts.has_filters,
            sentence="system calls that no function needs are refused by the kernel (seccomp)"
            if facts.has_filters
            else f"sandboxes may use every system call: {facts.unfiltered}",
            advice="" if facts.has_filters else "use Linux with CONFIG_SECCOMP_FILTER on x86_64 or aarch64",
        ),
        Fact(
            name="landlock",
            holds=facts.landlock >= _WHOLE_LANDLOCK,
            sentence=f"a second wall stands behind the first (landlock {facts.landlock})"
            if facts.landlock
            else "there is no second wall behind the first: this kernel has no landlock",
            advice=""
            if facts.landlock >= _WHOLE_LANDLOCK
            else "use Linux 6.12 or newer, with landlock among the names in lsm= of the kernel's command line",
        ),
        Fact(
            name="network",
            holds=has_namespaces and not facts.egress_denial,
            sentence=_network_sentence(facts, has_namespaces=has_namespaces),
            advice=_network_advice(facts),
        ),
        *(_limit_fact(facts.groups, name) for name in ("memory", "cpu", "pids")),
    )


_NETWORK_ADVICE = "load the kernel's modules nf_tables, nft_log, nft_tproxy and nfnetlink_log, and restart the agent"


def _network_advice(facts: Facts) -> str:
    if facts.denial:
        return _advice(facts.denial)
    return _NETWORK_ADVICE if facts.egress_denial else ""


def _network_sentence(facts: Facts, *, has_namespaces: bool) -> str:
    if not has_namespaces:
        return "SANDBOXES SHARE THIS MACHINE'S NETWORK, whatever network= says"
    if facts.egress_denial:
        return f"from their own networks sandboxes reach what they may by a proxy only: {facts.egress_denial}"
    return "sandboxes have networks of their own, from which they reach what they may, and nothing reaches them"


def _limit_fact(groups: GroupLayout, name: str) -> Fact:
    holds = groups.enforces(name)
    said = {"memory": "memory limits", "cpu": "cpu limits", "pids": "limits on the number of processes"}[name]
    how = f"enforced by control groups ({groups.flavour.value})" if holds else f"not enforced: {groups.reason}"
    return Fact(
        name=f"limit.{name}",
        holds=holds,
        sentence=f"{said} are {how}",
        advice="" if holds else _group_advice(groups.flavour),
    )


def _group_advice(flavour: GroupFlavour) -> str:
    if flavour is GroupFlavour.V2:
        return "start the agent in a delegated group: systemd-run --user --scope -p Delegate=yes relight up"
    return "run the agent as root, on a machine that mounts the control groups writable"


def _advice(denial: str) -> str:
    if "mount_setattr" in denial:
        return "use Linux 5.12 or newer"
    return (
        "permit user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone,"
        " kernel.apparmor_restrict_unprivileged_userns=0), or in a container run it with"
        " --security-opt seccomp=unconfined --security-opt systempaths=unconfined"
    )


def _why_unfiltered() -> str:
    machine = os.uname().machine
    if machine not in filters.SANDBOX:
        return f"there is no filter for {machine}"
    return _report_of(lambda tell: _try_filters(tell, machine))


def _try_filters(tell: Callable[[str], None], machine: str) -> None:
    tell("filter system calls (seccomp)")
    syscalls.set_no_new_privileges()
    syscalls.filter_calls(filters.SANDBOX[machine])
    tell("")


def _try_namespaces(tell: Callable[[str], None]) -> None:
    """Make what every sandbox needs, in a child that ends with it."""
    tell("unshare user, mount, process and network namespaces")
    syscalls.unshare(
        syscalls.CLONE_NEWUSER
        | syscalls.CLONE_NEWNS
        | syscalls.CLONE_NEWPID
        | syscalls.CLONE_NEWNET
        | syscalls.CLONE_NEWIPC
        | syscalls.CLONE_NEWUTS
    )
    child = os.fork()  # the process namespace begins with the first child, and only there /proc can be mounted
    if child:
        os.waitpid(child, 0)
        return
    tell("copy a mount (open_tree)")
    tree = syscalls.open_tree("/usr")
    tell("make it read-only (mount_setattr)")
    syscalls.mount_setattr(tree, syscalls.MOUNT_ATTR_RDONLY)
    tell("mount a tmpfs")
    syscalls.mount("tmpfs", "/tmp", 0, "mode=755")
    tell("mount /proc")
    syscalls.mount("proc", "/tmp", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    tell("")


def _egress_trial(tell: Callable[[str], None]) -> None:
    tell("unshare user and network namespaces")
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNET)
    tell("have packets copied (nft_log) and handed over (nft_tproxy)")
    PrepareEgress().execute({})
    tell("")


def _report_of(trial: Callable[[Callable[[str], None]], None]) -> str:
    """The last step that `trial`, run in a child, began and could not end."""
    read, write = os.pipe()

    def tell(step: str) -> None:
        os.write(write, step.encode() + b"\n")

    child = os.fork()
    if child == 0:
        try:
            trial(tell)
        except OSError as error:
            os.write(write, f"={error.strerror}\n".encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as report:
        steps = report.read().splitlines()
    os.waitpid(child, 0)
    if steps and not steps[-1]:
        return ""
    why = steps.pop()[1:] if steps and steps[-1].startswith("=") else "it ended early"
    return f"cannot {steps[-1] if steps else 'fork'}: {why}"


def _source(path: str, *, is_privileged: bool) -> SourceFact:
    try:
        found = os.stat(path)
    except OSError:
        return SourceFact(path=path, is_there=False)
    needed = 0o5 if stat.S_ISDIR(found.st_mode) else 0o4
    if is_privileged:
        is_readable = found.st_mode & needed == needed
    else:
        is_readable = os.access(path, os.R_OK | (os.X_OK if stat.S_ISDIR(found.st_mode) else 0))
    return SourceFact(path=path, is_there=True, is_readable=is_readable, uid=found.st_uid, gid=found.st_gid)


def _system_paths() -> tuple[SystemPath, ...]:
    paths = []
    for path in _SYSTEM_FOLDERS:
        if os.path.islink(path):
            paths.append(SystemPath(path=path, leads_to=os.readlink(path)))
        elif os.path.isdir(path):
            paths.append(SystemPath(path=path))
    return tuple(paths)


def _effective_capabilities(status: str) -> int:
    return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))


def _extents(uid_map: str) -> tuple[tuple[int, int], ...]:
    """The uids that exist in this user namespace."""
    return tuple((int(line.split()[0]), int(line.split()[2])) for line in uid_map.splitlines())
