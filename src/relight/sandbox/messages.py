"""What the agent, the launcher and the first process of a sandbox say to each other, one packet each.

agent ⇄ launcher      Start StartNested StartShell Equip Settle Kill  ─  LauncherReady Started Refused Equipped Ended Emptied
launcher ⇄ init       (`GO`)                 ─  InitStarted InitFailed InitEnded
launcher ⇄ keeper     NewShell               ─  ShellMade ShellFailed InitEnded
launcher ⇄ nest       NewNested (`GO`)       ─  NestedMade InitFailed
launcher ─ connector  OpenEgress CloseEgress
"""

from __future__ import annotations

from dataclasses import dataclass

from relight.protocol.codec import Kinds
from relight.sandbox.facts import Facts
from relight.sandbox.spec import Isolation, SandboxExit, SandboxSpec, ShellSpec

PACKET_BYTES = 160 * 1024
"""The longest packet: a datagram on a unix socket must fit its buffer, by default 208 KiB with bookkeeping."""

GO = b"go"
"""The launcher to init: the id maps are written and the group is joined; then again: the worker's pid is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Start this sandbox; with it come its channel, stdout and stderr, in this order."""

    spec: SandboxSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class StartNested:
    """Make this sandbox below that of `base`, which must have started, and which forks its process: `argv` is nobody's."""

    spec: SandboxSpec
    base: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartShell:
    """Make this shell; the template's sandbox must have started."""

    spec: ShellSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """This sandbox has started what it was started for: from here on it has no more of the CPU than its limits say."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Equip:
    """Show these devices of the machine in a shell, each where it is; with it comes the shell's namespace of mounts."""

    id: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """End every process of this sandbox.  Without effect when it has ended."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LauncherReady:
    """The launcher's first word: what this machine permits."""

    facts: Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The first process has executed its program; `pid` as this machine sees it.  With it comes its pidfd.

    Of a shell the pidfd is that of its pid 1 (`pid` is not looked up: 0), and these come too: a socket that listens
    inside, at `plan.DOOR`; its `namespaces`, that of processes first; and for each of its groups a door: a process that
    writes `0` to it is in.  Of a nested sandbox the same come but for what listens: `has_door` is false.
    Last comes, where it `has_tally`, what says how much it sent outward (`egress/tally.py`).
    """

    id: str
    pid: int
    isolation: Isolation
    namespaces: int = 0
    has_door: bool = True
    has_tally: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """It did not start, and nothing of it is left."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipped:
    """The devices are shown, or why they cannot be ("": they are)."""

    id: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Every process of it is gone, as far as its first one could tell; unless it `is_empty` the kernel still has some."""

    id: str
    exit: SandboxExit
    is_empty: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Emptied:
    """The kernel has let go of the last process of one that had ended."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewShell:
    """To a keeper: make this shell."""

    id: str
    network: str
    ephemeral_disk_mib: int
    is_proxied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNested:
    """To the nest of a base: make this sandbox (without its environment, which is not the nest's to know).

    With it come its status socket, and the mounts that the base does not have, for these `targets`.
    """

    spec: SandboxSpec
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NestedMade:
    """A nested sandbox is there; with it come the pidfd of its pid 1, and its namespaces, that of processes first.

    Last come `egress` sockets, for the connector.
    """

    egress: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellMade:
    """A shell is there; with it come the pidfd of its pid 1, what listens inside, its namespaces, and `egress` sockets."""

    id: str
    egress: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellFailed:
    """It could not be made, and nothing of it is left."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InitStarted:
    """The worker process runs; with it come its pidfd, and sockets for the connector where it has a way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InitFailed:
    """An operation failed."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InitEnded:
    """The worker process ended, by a code or by a signal; the most memory it held."""

    code: int | None = None
    signal: int | None = None
    peak_memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenEgress:
    """Connect for this sandbox to what `network` says.

    With it come the sockets that `PrepareEgress` or `PrepareProxy` made, and last the tally of what it sends.
    """

    id: str
    network: str
    is_proxy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseEgress:
    """This sandbox is gone."""

    id: str


TO_LAUNCHER = Kinds(Start, StartNested, StartShell, Equip, Settle, Kill)
TO_AGENT = Kinds(LauncherReady, Started, Refused, Equipped, Ended, Emptied)
TO_KEEPER = Kinds(NewShell)
TO_NEST = Kinds(NewNested)
TO_CONNECTOR = Kinds(OpenEgress, CloseEgress)
FROM_INIT = Kinds(InitStarted, InitFailed, InitEnded, ShellMade, ShellFailed, NestedMade)
