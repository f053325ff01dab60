"""All bases of a node: one for each workspace and image (and one more for workers on the machine's network), made once nobody waits, and kept.

A base is anew where the image's packages have changed, or its process has ended.  Without one, whatever was to be forked
from it is started afresh, which is always right.

A run's next version needs what this one has imported: it is forked from a base that is *warm*, which has imported the
same packages of the image.  That is the run's own, and ends with it.  Where a function has an environment of its own, which
packages may read as they are imported, and where it has a GPU, there is none.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from relight.agent.base import COLD, Base, Grown, MakesSandboxes
from relight.agent.cable import Ends
from relight.agent.layout import base_network
from relight.agent.resources import memory_of
from relight.agent.sandboxes import Sandbox
from relight.clock import Clock
from relight.protocol.channel import Warm
from relight.protocol.errors import RelightError
from relight.protocol.ids import new_id
from relight.protocol.link import WorkerSpec
from relight.protocol.manifest import HostImage
from relight.sandbox.spec import SandboxSpec, ShellSpec

REST_SECONDS = 0.25
"""A base is made so long after it was first missed: what missed it is being started, and needs the machine."""

FRESH = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_TUNABLES")
"""What begins so is read by Python, or the C library, as a process starts: it cannot be given to a fork."""

_log = logging.getLogger("relight.agent")


class LaysOut(Protocol):
    """Makes ready what a base's sandbox needs."""

    async def layout_base(self, name: str, spec: WorkerSpec) -> SandboxSpec:
        """Its sandbox.  Raises RelightError."""


class Nests(MakesSandboxes, Protocol):
    """Where sandboxes of all kinds come from."""

    async def start_shell(self, spec: ShellSpec) -> Sandbox:
        """Make a shell.  Raises StartFailed."""


Key = tuple[object, ...]


Run = tuple[str, str, str]
"""A workspace, an app, and the environment of one run."""


@dataclass(slots=True)
class _Entry:
    base: Base
    traces: tuple[int, ...]
    is_ready: asyncio.Event
    size: int = 0


class Bases:
    """`is_possible` is asked for each: it is known once the machine has been looked at; and so is `needs_fresh`, which says
    what must begin as a process of its own.
    """

    def __init__(
        self,
        sandboxes: Nests,
        provider: LaysOut,
        clock: Clock,
        tasks: asyncio.TaskGroup,
        is_possible: Callable[[], bool],
        needs_fresh: Callable[[WorkerSpec], bool] = lambda spec: False,
    ) -> None:
        self._sandboxes = sandboxes
        self._provider = provider
        self._clock = clock
        self._tasks = tasks
        self._is_possible = is_possible
        self._needs_fresh = needs_fresh
        self._entries: dict[Key, _Entry] = {}
        self._broken: dict[Key, tuple[int, ...]] = {}
        self._wanted: set[Key] = set()
        self._warm: dict[Run, tuple[Key, Warm]] = {}

    @property
    def size(self) -> int:
        """How many bytes all of them take."""
        return sum(entry.size for entry in self._entries.values())

    def below(self, spec: WorkerSpec, begin: Callable[[str], None] = lambda phase: None) -> Below:
        """Where the sandbox of a template, or a worker, of this spec is to come from."""
        return Below(self, self._sandboxes, spec, begin)

    async def wait(self, spec: WorkerSpec) -> None:
        """Have the base of this spec ready, if it can be had."""
        if self._can_use(spec) and self.find(spec) is None:
            await self._build(_key_of(spec), spec, COLD)

    def find(self, spec: WorkerSpec) -> Base | None:
        """A base that is ready for this spec, a warm one if there is; where there is none, one is made once nobody waits."""
        if not self._can_use(spec):
            return None
        key, warm = self._warm.get(run_of(spec), (None, COLD))
        fits = _can_be_warm(spec) and key == _warm_key(spec, warm) and warm.cpu == spec.function.resources.cpu
        found = self._find(key, spec, warm) if fits and key is not None else None
        return found or self._find(_key_of(spec), spec, COLD)

    def warm(self, spec: WorkerSpec, packages: tuple[str, ...]) -> None:
        """A template of this run has imported these packages: have a base that has, too, before the next version comes."""
        if not packages or not _can_be_warm(spec) or not self._can_use(spec):
            return
        run = run_of(spec)
        _, before = self._warm.get(run, (None, COLD))
        if not set(packages) <= set(before.packages):
            self._cool(run)
            warm = Warm(packages=packages, cpu=spec.function.resources.cpu)
            key = _warm_key(spec, warm)
            self._warm[run] = key, warm
            self._find(key, spec, warm)

    def keep_warm(self, runs: Collection[Run]) -> None:
        """These are there; the others have ended."""
        for run in [one for one in self._warm if one not in runs]:
            self._cool(run)

    def _cool(self, run: Run) -> None:
        key, _ = self._warm.pop(run, (None, COLD))
        if key is not None and key in self._entries:
            self._drop(key)

    def _find(self, key: Key, spec: WorkerSpec, warm: Warm) -> Base | None:
        entry = self._entries.get(key)
        if entry is not None and (entry.base.is_gone or entry.traces != traces_of(spec.function.image)):
            self._drop(key)
            entry = None
        if entry is not None:
            return entry.base if entry.is_ready.is_set() else None
        if key not in self._wanted and self._broken.get(key) != traces_of(spec.function.image):
            self._wanted.add(key)
            self._tasks.create_task(self._build_later(key, spec, warm), name="agent.base")
        return None

    def give_up_unused(self) -> None:
        """Memory is short: end those from which nothing that lives was forked."""
        for key, entry in tuple(self._entries.items()):
            if entry.is_ready.is_set() and not entry.base.is_used:
                self._drop(key)

    def close(self) -> None:
        """End them all."""
        self._is_possible = lambda: False
        for key in tuple(self._entries):
            self._drop(key)

    def _can_use(self, spec: WorkerSpec) -> bool:
        return self._is_possible() and not self._needs_fresh(spec) and not _needs_fresh(spec)

    async def _build_later(self, key: Key, spec: WorkerSpec, warm: Warm) -> None:
        await self._clock.sleep(REST_SECONDS)
        self._wanted.discard(key)
        is_wanted = warm == COLD or self._warm.get(run_of(spec)) == (key, warm)
        if is_wanted and self._is_possible():
            await self._build(key, spec, warm)

    async def _build(self, key: Key, spec: WorkerSpec, warm: Warm) -> None:
        entry = self._entries.get(key)
        if entry is not None:
            await entry.is_ready.wait()
            return
        name = new_id("base", int(self._clock.now() * 1000))
        traces = traces_of(spec.function.image)
        try:
            sandbox = await self._provider.layout_base(name, spec)
            if key in self._entries:
                return
            entry = self._entries[key] = _Entry(Base(sandbox, self._sandboxes, warm), traces, asyncio.Event())
            await entry.base.build()
            entry.size = await asyncio.to_thread(memory_of, entry.base.pid)
        except (RelightError, OSError) as error:
            _log.warning("no base", extra={"base": name, "why": str(error)})
            self._broken[key] = traces
            self._drop(key)
        finally:
            if entry is not None:
                entry.is_ready.set()

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            entry.base.close()


class Below:
    """Sandboxes for one start: below a base where there is one, else by themselves."""

    def __init__(self, bases: Bases, sandboxes: Nests, spec: WorkerSpec, begin: Callable[[str], None]) -> None:
        self._bases = bases
        self._sandboxes = sandboxes
        self._spec = spec
        self._begin = begin
        self.has_base = False

    async def start(self, spec: SandboxSpec, *, channel: socket.socket, stdout: int, stderr: int) -> Sandbox | Grown:
        """Start one.  Raises StartFailed."""
        base = self._bases.find(self._spec)
        if base is not None:
            try:
                grown = await base.grow(spec, Ends(channel=channel, stdout=stdout, stderr=stderr), self._begin)
            except (RelightError, OSError) as error:  # a fresh one shows whether it is the base's fault
                _log.warning("not forked from a base", extra={"sandbox": spec.id, "why": str(error)})
                self._begin("sandbox")
            else:
                self.has_base = True
                return grown
        return await self._sandboxes.start(spec, channel=channel, stdout=stdout, stderr=stderr)

    async def start_shell(self, spec: ShellSpec) -> Sandbox:
        """Make a shell.  Raises StartFailed."""
        return await self._sandboxes.start_shell(spec)


def _key_of(spec: WorkerSpec) -> Key:
    return (spec.workspace, spec.function.image, base_network(spec.function.network))


def _can_be_warm(spec: WorkerSpec) -> bool:
    """Whether what its image's packages are as they are imported is the same for it as for others."""
    return not spec.function.env and not spec.function.resources.gpu


def _warm_key(spec: WorkerSpec, warm: Warm) -> Key:
    return (*_key_of(spec), run_of(spec), warm)


def run_of(spec: WorkerSpec) -> Run:
    """The run that a worker is of; as good for what is no run."""
    return (spec.workspace, spec.app, spec.environment)


def _needs_fresh(spec: WorkerSpec) -> bool:
    return any(name.startswith(FRESH) for name, _ in spec.function.env)


def traces_of(image: HostImage) -> tuple[int, ...]:
    """What changes when packages are installed in an image, or removed: Python has looked for them as the base started."""
    minor = ".".join(image.version.split(".")[:2])
    folders = [
        f"{prefix}/lib/{python}/{kind}-packages"
        for prefix in dict.fromkeys((image.prefix, image.base_prefix, "/usr/local"))
        for python, kind in ((f"python{minor}", "site"), (f"python{minor}", "dist"), ("python3", "dist"))
    ]
    return tuple(_changed(folder) for folder in (*folders, image.python))


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
