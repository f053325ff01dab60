"""From what is asked to what is done: a pure function whose answer can be printed before anything happens.

A plan has three parts, by who executes them: the launcher (`outside`), the sandbox's first process (`inside`), and
the process that becomes the user's (`worker`).  A template's has a user namespace more than others, because its process
keeps capabilities in the inner one: it cannot undo there what the outer one made.  The last walls are at the end of `worker`: Landlock, then
filters of system calls, each forbidding what the step before it still needed.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass

from relight.protocol.errors import StartFailed
from relight.protocol.network import HOST, NONE, canonical
from relight.sandbox import reaper, syscalls
from relight.sandbox.egress.setup import NAMESERVER, PrepareEgress, PrepareProxy
from relight.sandbox.facts import Facts, SourceFact
from relight.sandbox.operations import (
    AdoptOrphans,
    Become,
    ChangeFolder,
    DieWithParent,
    EnterInnerUsers,
    EnterRoot,
    EnterUsers,
    ForbidCalls,
    ForbidUserNamespaces,
    KeepCapabilities,
    LeaveGroupView,
    LimitResource,
    Listen,
    LockPrivileges,
    MakeFolder,
    MakeLink,
    MakePlace,
    MountNew,
    NewSession,
    OfferToOomKiller,
    Operation,
    PlaceTree,
    PrepareUsers,
    RaiseLoopback,
    RestrictReach,
    RestrictWrites,
    SealRoot,
    SetHostname,
    SetNoNewPrivileges,
    TakeTree,
    WriteFile,
    WriteProgram,
)
from relight.sandbox.spec import Isolation, Limits, Mount, SandboxSpec
from relight.sandbox.users import Owner

INNER_ID = 1000
"""The uid and gid of the worker as it sees itself."""

HOME = "/home/worker"
DOOR = "/.scratch/door.sock"
"""Where a shell listens; `SandboxSpec.door` leads there."""

_NEW_ROOT = "/tmp"  # any folder that every machine has: the new root is mounted over it, in the new namespace only
_SCRATCH = "/.scratch"
_RESERVED = ("/", "/proc", "/dev", "/etc", "/tmp", "/sys", "/home", HOME, _SCRATCH)
_OWN_FOLDERS = ("/tmp/", "/dev/shm/", f"{HOME}/")
KEEPER_CAPABILITIES = (
    *(syscalls.CAP_SYS_ADMIN, syscalls.CAP_SYS_CHROOT),  # namespaces and mounts, and the way back
    syscalls.CAP_NET_ADMIN,  # a network with addresses and rules
    *(syscalls.CAP_NET_RAW, syscalls.CAP_NET_BIND_SERVICE),  # the connector's sockets in it
    syscalls.CAP_SYS_PTRACE,  # the namespace of a process that nobody else may look into
)
"""What it takes to make a shell."""

_FORKING = (syscalls.CAP_SYS_ADMIN, syscalls.CAP_SYS_CHROOT)  # what a template's children need to enter a shell
NESTED = 64
"""So many templates can be in one base at a time: each has a user namespace of those that are made with the base."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_DEVICE = re.compile(r"/dev/nvidia[a-z0-9-]*(/nvidia-cap[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a plan stands on: the machine, the mounts' sources, and what the launcher gives this one sandbox.

    `outer_uid` is whom the worker's uid is mapped to; `scratch` a folder of its own for a plain process.
    """

    facts: Facts
    sources: tuple[SourceFact, ...]
    outer_uid: int
    scratch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Nest:
    """What is known to the first process of a base, who makes sandboxes below it."""

    spec: SandboxSpec
    facts: Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that will be done for one sandbox, in order."""

    isolation: Isolation
    namespaces: int = 0
    outer_uid: int
    outer_gid: int
    outside: tuple[Operation, ...] = ()
    inside: tuple[Operation, ...]
    worker: tuple[Operation, ...]
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    is_template: bool = False
    nest: Nest | None = None
    """Of a base."""
    covered: tuple[Mount, ...] = ()
    """Of a template: what is mounted below folders of which each shell has its own."""


def plan(spec: SandboxSpec, ground: Ground) -> Plan:
    """The plan for `spec`.  Raises StartFailed when it asks for what is not there or not permitted."""
    _check(spec, ground)
    if (spec.isolation or ground.facts.isolation) is Isolation.PROCESS:
        return _process_plan(spec, ground)
    return _namespace_plan(spec, ground)


def _namespace_plan(spec: SandboxSpec, ground: Ground) -> Plan:
    takes = _takes(spec, ground)
    programs = (WriteProgram(reaper.PATH, reaper.program()),) if spec.is_template else ()
    # Root takes the mounts where it still is root: it alone may look into another's folder, or show owners otherwise.
    # Anyone else may copy mounts only in a mount namespace of their own.
    is_privileged = ground.facts.is_privileged
    return Plan(
        isolation=Isolation.NAMESPACES,
        namespaces=_namespaces(spec),
        outer_uid=ground.outer_uid,
        outer_gid=ground.outer_uid if is_privileged else ground.facts.gid,
        outside=takes if is_privileged else (),
        inside=(
            *(() if is_privileged else takes),
            Become(INNER_ID, INNER_ID, clear_groups=is_privileged),
            DieWithParent(),
            LeaveGroupView(),
            *_root(spec, ground.facts, programs),
            SetHostname(spec.hostname),
            *(_template_end(spec) if _is_forking(spec) else ()),
            *_network(spec.network, ground.facts.is_proxied),
            PrepareUsers(INNER_ID, NESTED) if spec.is_base else ForbidUserNamespaces(),
            SetNoNewPrivileges() if _is_forking(spec) else LockPrivileges(),
        ),
        worker=(
            *((KeepCapabilities(_FORKING),) if _is_forking(spec) else ()),
            *_worker(spec),
            *_last(spec, ground.facts),
        ),
        argv=spec.argv,
        env=environment(spec),
        is_template=spec.is_template,
        nest=Nest(spec=spec, facts=ground.facts) if spec.is_base else None,
        covered=covered_mounts(spec),
    )


def covered_mounts(spec: SandboxSpec) -> tuple[Mount, ...]:
    """What is mounted below folders of which each shell has its own."""
    return tuple(mount for mount in _outermost_first(spec.mounts) if mount.target.startswith(_OWN_FOLDERS))


def own_takes(spec: SandboxSpec, ground: Ground, base: SandboxSpec) -> tuple[Operation, ...]:
    """What the launcher takes for a nested sandbox: the mounts that its base does not show.  Raises StartFailed."""
    _check(spec, ground)
    pairs = zip(spec.mounts, ground.sources, strict=True)
    return (
        *(_take(mount, source, ground) for mount, source in pairs if mount not in base.mounts),
        *take_devices(spec.devices),
    )


def take_devices(paths: tuple[str, ...]) -> tuple[Operation, ...]:
    """Take devices of the machine, to be placed where they are.  Raises StartFailed for what is none that may be shown."""
    for path in paths:
        if not _DEVICE.fullmatch(path):
            raise StartFailed(
                f"cannot show {path!r}: it is not the path of a device for sandboxes; name one of a GPU's"
            )
    return tuple(TakeTree(path, path, writable=True, has_devices=True) for path in paths)


def nested(spec: SandboxSpec, nest: Nest, users: int | None) -> tuple[int, tuple[Operation, ...]]:
    """The namespaces of a sandbox below a base, and what its pid 1 does in them, the base's root still being its own.

    Of a template: `users` is the number of the user namespace that it enters at the end, which locks what is mounted
    for it.  Of a worker, which gives up what it could undo them with: None.
    """
    spaces = _spaces_of_shells(spec.network)
    programs = (WriteProgram(reaper.PATH, reaper.program()),) if spec.is_template else ()
    etc = (*nest.facts.etc, *(("resolv.conf",) if spec.network == HOST else ()))
    return syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | (spaces if users is None else 0), (
        DieWithParent(),
        LeaveGroupView(),
        *(TakeTree(path.path, path.path) for path in nest.facts.system if not path.leads_to),
        *(TakeTree(f"/dev/{name}", f"/dev/{name}", has_devices=True) for name in nest.facts.devices),
        *(TakeTree(f"/etc/{name}", f"/etc/{name}") for name in etc),
        *(TakeTree(one.target, one.target, one.writable) for one in spec.mounts if one in nest.spec.mounts),
        *_root(spec, nest.facts, programs),
        *((EnterUsers(users, spaces),) if users is not None else ()),
        *_network(spec.network, nest.facts.is_proxied),
    )


def environment(spec: SandboxSpec) -> tuple[tuple[str, str], ...]:
    """All the variables that its process finds."""
    return _environment(spec, HOME, "/tmp")


def shell(
    network: str, ephemeral_disk_mib: int, covered: tuple[Mount, ...] = (), *, is_proxied: bool = False
) -> tuple[int, tuple[Operation, ...]]:
    """The namespaces of a shell but that of processes, and what is done in them: over a copy of the template's mounts.

    Its /proc is for its first process to mount: the kernel shows the processes of whoever mounts it.
    """
    return syscalls.CLONE_NEWNS | _spaces_of_shells(network), (
        *(TakeTree(mount.target, mount.target, mount.writable) for mount in covered),
        *_scratch(ephemeral_disk_mib),
        *(PlaceTree(mount.target) for mount in covered),
        MountNew("devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=620"),
        Listen(DOOR),
        *_network(network, is_proxied),
    )


def describe(plan: Plan) -> str:
    """The plan as lines to read."""
    parts = (("outside", plan.outside), ("inside", plan.inside), ("worker", plan.worker))
    lines = [f"isolation: {plan.isolation.value}, outer uid {plan.outer_uid}"]
    for title, operations in parts:
        lines += [f"{title}: {operation.describe()}" for operation in operations]
    return "\n".join([*lines, f"run: {' '.join(plan.argv)}"])


def _process_plan(spec: SandboxSpec, ground: Ground) -> Plan:
    return Plan(
        isolation=Isolation.PROCESS,
        outer_uid=ground.facts.uid,
        outer_gid=ground.facts.gid,
        inside=(AdoptOrphans(), MakeFolder(ground.scratch, 0o700), SetNoNewPrivileges()),
        worker=(DieWithParent(), *_worker(spec), *_last_of_process(spec, ground)),
        argv=spec.argv,
        env=_environment(spec, ground.scratch, ground.scratch),
    )


def _check(spec: SandboxSpec, ground: Ground) -> None:
    def refuse(why: str) -> StartFailed:
        return StartFailed(f"cannot start sandbox {spec.id}: {why}")

    facts = ground.facts
    if not _ID.fullmatch(spec.id):
        raise refuse("its id is not made of letters, digits, '_', '.' and '-'; choose another")
    if not spec.argv or not spec.argv[0].startswith("/"):
        raise refuse(f"argv is {spec.argv!r}; begin it with the absolute path of a program")
    if why := _network_refusal(spec):
        raise refuse(why)
    if _is_forking(spec) and (spec.isolation or facts.isolation) is Isolation.PROCESS:
        raise refuse("a template needs namespaces, and it asks for a plain process; start each worker by itself")
    if spec.is_template and not reaper.program():
        raise refuse(f"a template is not possible on {platform.machine()}; start each worker by itself")
    if spec.isolation is Isolation.NAMESPACES and facts.denial:
        raise refuse(f"it asks for namespaces, but this machine denies them ({facts.denial}); see `relight doctor`")
    take_devices((*spec.devices, *spec.device_places))
    for mount, source in zip(spec.mounts, ground.sources, strict=True):
        if not source.is_there:
            raise refuse(f"{mount.source}, to be mounted, is not there; check the path")
        if not source.is_readable and not facts.is_privileged:
            raise refuse(f"{mount.source}, to be mounted, cannot be read by uid {facts.uid}; permit it or run as root")
        if not mount.target.startswith("/") or ".." in mount.target.split("/") or mount.target in _RESERVED:
            raise refuse(f"nothing can be mounted at {mount.target!r}; choose a folder of its own")


def _namespaces(spec: SandboxSpec) -> int:
    flags = syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWUTS
    return flags | (0 if _is_forking(spec) else _spaces_of_shells(spec.network))


def _is_forking(spec: SandboxSpec) -> bool:
    """Whether its process puts children of its own into other namespaces."""
    return spec.is_template or spec.is_base


def _spaces_of_shells(network: str) -> int:
    """The namespaces that a template has of the same kinds as its shells, besides mounts; its inner users own them."""
    return syscalls.CLONE_NEWIPC | (0 if network == HOST else syscalls.CLONE_NEWNET)


def _network(network: str, is_proxied: bool) -> tuple[Operation, ...]:
    """What is done in a network of its own."""
    if network == HOST:
        return ()
    if network == NONE:
        return (RaiseLoopback(),)
    return (PrepareProxy() if is_proxied else PrepareEgress(),)


def _network_refusal(spec: SandboxSpec) -> str:
    """Why its network cannot be had; "" when it can."""
    try:
        is_canonical = canonical(spec.network) == spec.network
    except ValueError as error:
        return f"network={spec.network!r}: {error}; choose another"
    if not is_canonical:
        return f"network={spec.network!r} is not written as {canonical(spec.network)!r}; write it so"
    return ""


def _template_end(spec: SandboxSpec) -> tuple[Operation, ...]:
    return EnterInnerUsers(INNER_ID, INNER_ID, _spaces_of_shells(spec.network)), DieWithParent()


def _takes(spec: SandboxSpec, ground: Ground) -> tuple[Operation, ...]:
    facts = ground.facts
    etc = (*facts.etc, *(("resolv.conf",) if spec.network == HOST else ()))
    return (
        *(TakeTree(path.path, path.path) for path in facts.system if not path.leads_to),
        *(TakeTree(f"/dev/{name}", f"/dev/{name}", has_devices=True) for name in facts.devices),
        *(TakeTree(f"/etc/{name}", f"/etc/{name}") for name in etc),
        *(_take(mount, source, ground) for mount, source in zip(spec.mounts, ground.sources, strict=True)),
        *take_devices(spec.devices),
    )


def _take(mount: Mount, source: SourceFact, ground: Ground) -> Operation:
    """Root's sandboxes have a uid that owns nothing: what they cannot read, or shall write, is shown as theirs."""
    owner = None
    if ground.facts.is_privileged and (mount.writable or not source.is_readable):
        owner = Owner(source.uid, source.gid, ground.outer_uid)
    return TakeTree(mount.source, mount.target, mount.writable, owner=owner)


def _root(spec: SandboxSpec, facts: Facts, programs: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """All that is to be seen, sealed."""
    return (
        *_new_root(spec.limits),
        *_system(facts),
        *_devices(facts),
        *(PlaceTree(path) for path in spec.devices),
        *(MakePlace(path) for path in spec.device_places),
        *_etc(spec, facts),
        *(PlaceTree(mount.target) for mount in _outermost_first(spec.mounts)),
        *((MakeLink(spec.door, DOOR),) if spec.door else ()),
        *programs,
        SealRoot(),
    )


def _new_root(limits: Limits) -> tuple[Operation, ...]:
    return (
        MountNew("tmpfs", _NEW_ROOT, "mode=755,size=16m", may_execute=True),
        # The kernel lets a namespace mount /proc only while it still sees the one it came from.
        MountNew("proc", f"{_NEW_ROOT}/proc"),
        EnterRoot(_NEW_ROOT),
        *_scratch(limits.ephemeral_disk_mib),
        MakeLink("/var/tmp", "/tmp"),
    )


def _scratch(ephemeral_disk_mib: int) -> tuple[Operation, ...]:
    """What can be written to."""
    return (
        MountNew("tmpfs", _SCRATCH, f"mode=755,size={ephemeral_disk_mib}m", may_execute=True),
        MakeFolder(f"{_SCRATCH}/tmp", 0o1777),
        MakeFolder(f"{_SCRATCH}/shm", 0o1777),
        MakeFolder(f"{_SCRATCH}/home", 0o700),
        TakeTree(f"{_SCRATCH}/tmp", "/tmp", writable=True),
        TakeTree(f"{_SCRATCH}/shm", "/dev/shm", writable=True),
        TakeTree(f"{_SCRATCH}/home", HOME, writable=True),
        PlaceTree("/tmp"),
        PlaceTree("/dev/shm"),
        PlaceTree(HOME),
    )


def _system(facts: Facts) -> tuple[Operation, ...]:
    return tuple(MakeLink(path.path, path.leads_to) if path.leads_to else PlaceTree(path.path) for path in facts.system)


def _devices(facts: Facts) -> tuple[Operation, ...]:
    return (
        *(PlaceTree(f"/dev/{name}") for name in facts.devices),
        MountNew("devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=620"),
        MakeLink("/dev/ptmx", "pts/ptmx"),
        MakeLink("/dev/fd", "/proc/self/fd"),
        MakeLink("/dev/stdin", "/proc/self/fd/0"),
        MakeLink("/dev/stdout", "/proc/self/fd/1"),
        MakeLink("/dev/stderr", "/proc/self/fd/2"),
    )


def _etc(spec: SandboxSpec, facts: Facts) -> tuple[Operation, ...]:
    """An /etc that names the worker and nobody of the host."""
    resolver = "# no network\n" if spec.network == NONE else f"nameserver {NAMESERVER}\n"
    return (
        *(PlaceTree(f"/etc/{name}") for name in facts.etc),
        PlaceTree("/etc/resolv.conf") if spec.network == HOST else WriteFile("/etc/resolv.conf", resolver),
        WriteFile(
            "/etc/passwd",
            f"worker:x:{INNER_ID}:{INNER_ID}:worker:{HOME}:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
        ),
        WriteFile("/etc/group", f"worker:x:{INNER_ID}:\nnogroup:x:65534:\n"),
        WriteFile("/etc/hosts", f"127.0.0.1 localhost {spec.hostname}\n::1 localhost\n"),
        WriteFile("/etc/hostname", f"{spec.hostname}\n"),
        WriteFile("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    )


def _worker(spec: SandboxSpec) -> tuple[Operation, ...]:
    return (
        NewSession(),
        LimitResource("RLIMIT_CORE", 0),
        LimitResource("RLIMIT_NOFILE", spec.limits.open_files),
        OfferToOomKiller(),
        ChangeFolder(spec.working_folder),
    )


def _last(spec: SandboxSpec, facts: Facts) -> tuple[Operation, ...]:
    """What only forking needs is forbidden to those who do not fork; a fork sees to it itself (`runtime/locking.py`)."""
    if _is_forking(spec):
        return _forbidden(facts, "SANDBOX")
    reach = (RestrictReach(facts.landlock),) if facts.landlock else ()
    return (*reach, *_forbidden(facts, "SANDBOX", "WORKER"))


def _last_of_process(spec: SandboxSpec, ground: Ground) -> tuple[Operation, ...]:
    facts = ground.facts
    writable = (ground.scratch, *(mount.source for mount in spec.mounts if mount.writable))
    writes = (RestrictWrites(facts.landlock, writable),) if facts.landlock else ()
    return (*writes, *_forbidden(facts, "SANDBOX", "WORKER"))


def _forbidden(facts: Facts, *names: str) -> tuple[Operation, ...]:
    return tuple(ForbidCalls(name, facts.machine) for name in names if facts.has_filters)


def _environment(spec: SandboxSpec, home: str, temporary: str) -> tuple[tuple[str, str], ...]:
    defaults = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "USER": "worker"}
    return tuple({**defaults, "HOME": home, "TMPDIR": temporary, **dict(spec.env)}.items())


def _outermost_first(mounts: tuple[Mount, ...]) -> list[Mount]:
    return sorted(mounts, key=lambda mount: mount.target.count("/"))
