"""How a worker's process comes about: forked from its function's template, or else a fresh sandbox of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from relight.agent.bases import Bases
from relight.agent.cable import Cable, Ends
from relight.agent.gpu import Gpus
from relight.agent.layout import Layout
from relight.agent.starts import BeginPhase
from relight.agent.template import TellLines
from relight.agent.templates import Forked, NoTemplate
from relight.protocol.link import WorkerSpec
from relight.protocol.starts import StartLevel
from relight.sandbox.spec import Counted, Isolation, SandboxExit


class Sandbox(Protocol):
    """A process tree that runs."""

    @property
    def id(self) -> str:
        """Its name, which is that of its control groups."""

    @property
    def pid(self) -> int:
        """Its process, as this machine sees it; 0 when that is not known."""

    async def wait(self) -> SandboxExit:
        """How its first process ended; nothing of it is left."""

    async def wait_empty(self) -> None:
        """Return once the kernel has let go of its last process, after it has ended."""

    def signal(self, number: int) -> None:
        """Send a signal to its first process."""

    def counted(self) -> Counted:
        """What is counted of it by now, or was by its end."""

    def settle(self) -> None:
        """It has started: hold it to its share of the CPU."""

    async def kill(self) -> object:
        """End every process of it; returns when none is left."""


class LaysOut(Protocol):
    """Makes ready what a sandbox needs."""

    async def layout(self, worker: str, spec: WorkerSpec) -> Layout:
        """Its sandbox, all of whose parts are in place.  Raises RelightError."""


class Forks(Protocol):
    """Has templates."""

    def take(self, worker: str, spec: WorkerSpec, tell: TellLines) -> tuple[Forked, Cable] | None:
        """A fork that was made ahead; None where none waits."""

    async def fork(
        self, worker: str, spec: WorkerSpec, ends: Ends, tell: TellLines, begin: BeginPhase
    ) -> Forked | NoTemplate:
        """Fork a worker, once its template is there.  Raises RelightError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A process that waits for its first order, on the other end of `cable`.

    `level` and `why` are those of `protocol.starts.StartReport`.
    """

    sandbox: Sandbox
    cable: Cable
    module_paths: tuple[str, ...]
    platform: str
    isolation: str
    level: StartLevel
    why: str = ""


class Starter:
    """Starts the processes of a node's workers."""

    def __init__(self, templates: Forks, provider: LaysOut, bases: Bases, gpus: Gpus) -> None:
        self._templates = templates
        self._provider = provider
        self._bases = bases
        self._gpus = gpus

    def take(self, worker: str, spec: WorkerSpec, tell: TellLines) -> Begun | None:
        """One that was forked ahead; None where none waits.  What its template has written is told by `tell`."""
        taken = self._templates.take(worker, spec, tell)
        return _begun(*taken) if taken is not None else None

    async def start(self, worker: str, spec: WorkerSpec, tell: TellLines, begin: BeginPhase) -> Begun:
        """Start one; what its template writes meanwhile is told by `tell`, its phases by `begin`.

        Raises RelightError, OSError.
        """
        cable = Cable.lay()
        try:
            begun = await self._start(worker, spec, cable, tell, begin)
        except BaseException:
            cable.drop()
            raise
        finally:
            cable.hand_over()
        return begun

    async def _start(self, worker: str, spec: WorkerSpec, cable: Cable, tell: TellLines, begin: BeginPhase) -> Begun:
        await self._gpus.wait_free(spec, begin)
        ends = cable.ends
        forked = await self._templates.fork(worker, spec, ends, tell, begin)
        if isinstance(forked, Forked):
            return _begun(forked, cable)
        begin("layout")
        layout = await self._provider.layout(worker, spec)
        begin("sandbox")
        below = self._bases.below(spec, begin)
        equipped = self._gpus.equip(layout.sandbox, spec)
        sandbox = await below.start(equipped, channel=ends.channel, stdout=ends.stdout, stderr=ends.stderr)
        return Begun(
            sandbox=sandbox,
            cable=cable,
            module_paths=layout.module_paths,
            platform=layout.platform,
            isolation=layout.sandbox.isolation.value if layout.sandbox.isolation else "",
            level=StartLevel.IMPORT if below.has_base else StartLevel.BOOT,
            why=forked.why,
        )


def _begun(forked: Forked, cable: Cable) -> Begun:
    return Begun(
        sandbox=forked.sandbox,
        cable=cable,
        module_paths=forked.module_paths,
        platform=forked.platform,
        isolation=Isolation.NAMESPACES.value,
        level=_level_of(forked),
        why=forked.waited_for,
    )


def _level_of(forked: Forked) -> StartLevel:
    if not forked.waited_for:
        return StartLevel.FORK
    return StartLevel.IMPORT if forked.has_base else StartLevel.BOOT
