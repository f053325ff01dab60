"""What an agent and one worker say to each other, over the socket that the worker inherits.

Each message is `[u32 length][message]` on a unix stream socket; a value too large for a message is a file descriptor
sent along with it (`Payload.size` says how long).  The agent trusts nothing that comes up: lengths are bounded, unknown
kinds end the worker, and an end is only believed for a call that this worker was given.
"""

from __future__ import annotations

from dataclasses import dataclass

from relight.protocol.calls import CallEvent
from relight.protocol.codec import Kinds
from relight.protocol.errors import Failure
from relight.protocol.manifest import Json
from relight.protocol.payload import Payload

CHANNEL_FD = 3
"""The descriptor on which a worker finds its channel."""

MESSAGE_BYTES = 4 * 1024 * 1024
"""No message is longer."""

# -- agent → worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Become a worker of this function.  `paths` go in front of `sys.path`, `mark` begins each note in the output.

    `serialized` is the file below the paths that holds it by value.  `parameters` are the values of the class's
    parameters.  `platform` is the path, inside the sandbox, of the socket that
    leads to the server ("" for none): what the worker calls there runs in `app` and `environment`.  `cpu` is how many
    cores it may use, None for all.  `max_inputs` calls run at once; `batches` are the methods whose calls are gathered,
    with how many at most and for how many seconds, each batch being one input.  `gpus` is, for a template, how many GPUs
    each of its forks will be given, that it has not.  `web` is the kind of what answers web requests, "" where nothing does.
    `worker` is its name, where its process is older than that.
    """

    module: str
    qualname: str
    is_class: bool
    paths: tuple[str, ...]
    mark: str
    serialized: str = ""
    parameters: tuple[tuple[str, Json], ...] = ()
    app: str = ""
    environment: str = ""
    platform: str = ""
    cpu: float | None = None
    gpus: int = 0
    max_inputs: int = 1
    batches: tuple[tuple[str, int, float], ...] = ()
    web: str = ""
    worker: str = ""

    @property
    def is_concurrent(self) -> bool:
        """Whether the worker has several calls at once."""
        return self.max_inputs > 1 or bool(self.batches)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Run one call.  `attempt` counts from 1; `is_behind` says that others are before it, so its output needs a note."""

    call: str
    attempt: int
    payload: Payload
    method: str = ""
    accept: tuple[str, ...] = ("pickle5",)
    is_behind: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupt:
    """Stop this call by an exception in it; sent before the signal that makes the worker look."""

    call: str
    reason: CallEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """Give back those of these calls that have not begun: the one before them takes long."""

    calls: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A generator may make its items up to number `items` (the first is 1); it waits before the next."""

    call: str
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Take no more calls and leave, running what the user wants done at the end."""


# -- worker → agent


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The function is loaded.  `import_seconds` and `enter_seconds` are what its own code took."""

    import_seconds: float
    enter_seconds: float
    python: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFailed:
    """The function cannot be loaded; the worker leaves."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A generator made item `number` (from 1)."""

    call: str
    number: int
    payload: Payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The function says that it read and wrote so many tokens more, in this call ("": in none, or in several together)."""

    call: str
    read: int = 0
    written: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """These calls were gathered, and begin now, together."""

    calls: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """These calls were given back: they have not begun, and will not."""

    calls: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A call's end: `outcome` is succeeded, failed, cancelled or timed_out.

    `cpu_us` is the CPU time that its worker, and what it started and waited for, took for it, in microseconds; None where
    several calls run at once, and nobody can tell whose it was.
    """

    call: str
    outcome: CallEvent
    result: Payload | None = None
    failure: Failure | None = None
    cpu_us: int | None = None


# -- agent ⇄ template: a worker's first words (Load, LoadFailed), then these, each a packet


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Fork a worker that may use `cpu` cores (None: all).

    With it come its channel, stdout and stderr, the `namespaces` of its shell, that of processes first, and the doors
    of the shell's groups.  `env` is the worker's alone.  One that `is_ahead` is nobody's yet, and gets ready for any.
    """

    worker: str
    namespaces: int
    cpu: float | None = None
    is_ahead: bool = False
    env: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """The modules are loaded; `unsafe` says why no process may be forked from this one ("" when any may).

    In a run, `packages` are those of the image that were imported: the next version is likely to need them, too.
    """

    python: str
    import_seconds: float
    snap_seconds: float = 0.0
    freeze_seconds: float = 0.0
    unsafe: str = ""
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked:
    """The worker is a process; with it comes its pidfd."""

    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """A forked worker's process has ended, by a code or by a signal; the most memory it held."""

    worker: str
    code: int | None = None
    signal: int | None = None
    peak_memory_bytes: int = 0


# -- agent ⇄ base: Forked and Exited, as of a template, and these


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """Before the first fork: import these packages of the image, for forks that may use `cpu` cores (None: all)."""

    packages: tuple[str, ...] = ()
    cpu: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseReady:
    """A base has started; `unsafe` says why no process may be forked from it ("" when any may)."""

    python: str
    unsafe: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grow:
    """Fork a process into the nested sandbox `id`: a template, or else a worker, with this environment in this folder.

    With it come what is its socket, stdout and stderr, the `namespaces` of that sandbox, that of processes first, and
    the doors of its groups.
    """

    id: str
    is_template: bool
    env: tuple[tuple[str, str], ...]
    folder: str
    namespaces: int


PACKET_BYTES = 128 * 1024
"""No packet between an agent and a template, or a base, is longer."""

TO_TEMPLATE = Kinds(Load, Fork)
FROM_TEMPLATE = Kinds(Frozen, LoadFailed, Forked, Exited)
TO_BASE = Kinds(Warm, Grow)
FROM_BASE = Kinds(BaseReady, Forked, Exited)
TO_WORKER = Kinds(Load, Run, Interrupt, Recall, Grant, Stop)
TO_AGENT = Kinds(Ready, LoadFailed, Began, Item, Tokens, Recalled, Ended)
