"""What is asked of a sandbox, and how one ends: plain data that travels as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Isolation(str, Enum):
    """How far apart a sandbox is kept from the rest of the machine."""

    NAMESPACES = "namespaces"
    """Own users, mounts, processes, network, names: it sees what it was given."""
    PROCESS = "process"
    """A plain process of the agent's own user: it sees what that user sees.  Said loudly wherever it is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A file or folder of this machine, shown at `target`; read-only unless `writable`."""

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a sandbox may use.  None: no limit of its own.

    `cpu` in cores; `ephemeral_disk_mib` bounds /tmp, the home and /dev/shm together (they count as memory too).
    `is_start_free`: `cpu` bounds it from the moment it is said to have started; before, it is its share where others want
    the processor, too.
    """

    cpu: float | None = None
    is_start_free: bool = False
    memory_mib: int | None = None
    pids: int = 4096
    open_files: int = 65_536
    ephemeral_disk_mib: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """One process to run, and all that it may see.

    `id` names the sandbox's control group (letters, digits, `-`).  `argv[0]` is a path inside.  `network` is `none`
    (its own loopback only), `egress` (outward as well), `host`, or a list of what may be reached, as in `protocol.network`.  `isolation` None takes the best that this machine permits; naming one that it
    does not is an error.
    """

    id: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    working_folder: str = "/"
    mounts: tuple[Mount, ...] = ()
    hostname: str = "relight"
    network: str = "none"
    limits: Limits = field(default_factory=Limits)
    isolation: Isolation | None = None
    is_template: bool = False
    """Whether `ShellSpec`s may name it: its process can put children of its own into shells, and holds what that needs."""
    is_base: bool = False
    """Whether other sandboxes may be made below it, which show some of its mounts, and into which its process forks theirs."""
    door: str = ""
    """Of a template: the path, in each shell, of a socket that listens there; what connects comes to the agent."""
    devices: tuple[str, ...] = ()
    """Paths below /dev of this machine's devices that it may use, shown where they are."""
    device_places: tuple[str, ...] = ()
    """Of a template: where its shells can be given devices; there is nothing in these files, and nobody can open them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellSpec:
    """An empty sandbox around a process that a template is still to fork.

    It shows what the sandbox `template` shows, with a network, processes, and files to write of its own.
    """

    id: str
    template: str
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What all processes of a sandbox took since it was made; None where this machine does not count it.

    `cpu_us` is CPU time in microseconds, `egress_bytes` what they sent outward by a network of their own.
    """

    cpu_us: int | None = None
    egress_bytes: int | None = None


UNCOUNTED = Counted()
"""Nobody counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxExit:
    """How the first process of a sandbox ended: by `code` or by `signal`; nothing of the sandbox is left.

    Neither is known of a process that outlived its template.  `out_of_memory`: the kernel killed a process of it for want
    of memory; `is_evicted`: the machine's, or that of a limit above, rather than its own limit's.  `peak_memory_bytes` is the whole sandbox's where the machine counts it, else its first process's.
    """

    code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False
    is_evicted: bool = False
    peak_memory_bytes: int = 0
    counted: Counted = field(default=UNCOUNTED, compare=False)


def path_inside(path: str, mounts: tuple[Mount, ...], isolation: Isolation) -> str:
    """Where a sandbox finds what the mounts show at `path`: there, or, as a plain process, at the mount's source."""
    if isolation is Isolation.NAMESPACES:
        return path
    for mount in sorted(mounts, key=lambda mount: len(mount.target), reverse=True):
        if path == mount.target or path.startswith(mount.target.rstrip("/") + "/"):
            return mount.source + path[len(mount.target.rstrip("/")) :]
    return path
