"""All templates of a node: which function's starts are forks, which templates are kept, and why a start is none.

A template is made when its version is deployed, or when the first worker of it is wanted: that one waits for it, and so
do all that come meanwhile.  What is remembered of them on the disk brings them back after the agent was restarted.
"""

from __future__ import annotations

import asyncio
import logging
import platform
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from relight.agent.bases import Bases, Below, run_of
from relight.agent.cable import Cable, Ends
from relight.agent.gpu import Gpus
from relight.agent.keeping import Keeping
from relight.agent.layout import Layout, limits_of
from relight.agent.logs import Line
from relight.agent.resources import memory_of
from relight.agent.starts import BeginPhase
from relight.agent.template import (
    AdoptsDoors,
    ForkedWorker,
    LoadingFailed,
    MakesSandboxes,
    Template,
    TemplateLost,
)
from relight.clock import Clock
from relight.protocol.codec import Kinds, pack
from relight.protocol.errors import ProtocolError, RelightError, StartFailed
from relight.protocol.ids import new_id
from relight.protocol.link import WorkerSpec, template_key
from relight.protocol.manifest import never_forked
from relight.protocol.templates import KEPT_OUTCOMES, TemplateOutcome, TemplateState
from relight.sandbox import reaper
from relight.sandbox.spec import Isolation, Limits

BUILDS = 2
"""So many templates that nobody waits for yet are made at once."""

FEWEST_SHELLS = 2
MOST_SHELLS = 16
"""Shells that wait for the next fork: more where one found none."""

REST_SECONDS = 0.01
"""Shells are made so long after a fork: its worker is about to answer, and needs the machine."""

MOST_WORDS = 500
"""So many characters of why it must not be forked are believed of a template."""

REMEMBERED = 1000
"""So many keys of templates that were given up are known, to say why a start had to wait."""

_log = logging.getLogger("relight.agent")

TellOutcome = Callable[[TemplateOutcome], None]

TellLines = Callable[[str, list[Line]], None]


class LaysOut(Protocol):
    """Makes ready what a template's sandbox needs."""

    async def layout(self, worker: str, spec: WorkerSpec, *, is_template: bool = False) -> Layout:
        """Its sandbox, all of whose parts are in place.  Raises RelightError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forge:
    """What templates are made with.

    `isolation` is asked for each: it is known once the machine has been looked at.  `has_root`: it may hand out devices.
    `forks_ahead` processes of each template wait for the next worker.
    """

    sandboxes: MakesSandboxes
    provider: LaysOut
    doors: AdoptsDoors
    clock: Clock
    tasks: asyncio.TaskGroup
    isolation: Callable[[], Isolation]
    bases: Bases
    gpus: Gpus
    has_root: Callable[[], bool]
    forks_ahead: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What is written down: a worker's spec for each template, the dearest first."""

    specs: tuple[WorkerSpec, ...]


@dataclass(frozen=True, slots=True)
class Forked:
    """A worker that was forked.  `waited_for` says why its template was not ready ("" when it was).

    `has_base` says that the template was forked, too.
    """

    sandbox: ForkedWorker
    module_paths: tuple[str, ...]
    platform: str
    waited_for: str
    has_base: bool = False


@dataclass(frozen=True, slots=True)
class NoTemplate:
    """This start is none: it has to be a fresh process."""

    why: str


@dataclass(slots=True)
class _Entry:
    """A template, or the attempt to make one; `is_settled` is set once it is known which."""

    template: Template
    why: str
    is_settled: asyncio.Event
    error: RelightError | None = None
    wanted_shells: dict[Limits, int] = field(default_factory=dict)
    is_refilling: bool = False
    is_forgotten: bool = False
    is_restored: bool = False
    has_base: bool = False


class Templates:
    """`budget` bytes of memory are theirs, `memory` is the file in which they are remembered.

    `tell` hears what becomes of each; `outcomes` has all of it.
    """

    def __init__(self, forge: Forge, budget: int, memory: Path, tell: TellOutcome = lambda _: None) -> None:
        self._forge = forge
        self._tell = tell
        self._outcomes: dict[str, TemplateOutcome] = {}
        self._keeping = Keeping(budget)
        self._memory = memory
        self._entries: dict[str, _Entry] = {}
        self._unsafe: dict[str, str] = {}
        self._given_up: deque[str] = deque(maxlen=REMEMBERED)
        self._builds = asyncio.Semaphore(BUILDS)
        self._is_closing = False

    # -- what a worker asks

    def take(self, worker: str, spec: WorkerSpec, tell: TellLines) -> tuple[Forked, Cable] | None:
        """A fork that was made ahead for whoever comes first; None where none waits.

        What its template wrote is the first worker's, as with `fork`.
        """
        if self._refusal(spec) or spec.function.resources.gpu:
            return None
        key = template_key(spec)
        entry = self._entries.get(key)
        if entry is None or not entry.is_settled.is_set():
            return None
        limits = limits_of(spec)
        taken = entry.template.take(worker, limits)
        if taken is None:
            return None
        entry.template.listen(tell)
        entry.template.unlisten(tell)
        self._keeping.use(key)
        self._want_shells(entry, limits, had_shell=True)
        forked, cable = taken
        return self._forked(entry, forked), cable

    async def fork(
        self, worker: str, spec: WorkerSpec, ends: Ends, tell: TellLines, begin: BeginPhase
    ) -> Forked | NoTemplate:
        """Fork a worker of `spec`, once its template is there.  Raises RelightError when that cannot be made."""
        if refusal := self._refusal(spec):
            return NoTemplate(refusal)
        key = template_key(spec)
        entry = self._entry(key, spec)
        waited_for = "" if entry.is_settled.is_set() else entry.why
        await self._wait_settled(entry, tell, begin)
        try:
            if entry.error is not None:
                raise entry.error
            if key in self._unsafe:
                return NoTemplate(self._unsafe[key])
            begin("fork")
            limits = limits_of(spec)
            had_shell = entry.template.waiting_shells(limits) > 0
            self._keeping.use(key)
            forked = await entry.template.fork(worker, limits, ends, self._forge.gpus.grant(spec))
        except TemplateLost:
            return NoTemplate(_LOST)
        self._want_shells(entry, limits, had_shell=had_shell)
        return self._forked(entry, forked, waited_for)

    @staticmethod
    def _forked(entry: _Entry, forked: ForkedWorker, waited_for: str = "") -> Forked:
        layout = entry.template.layout
        assert layout is not None, "what can fork was laid out"
        return Forked(forked, layout.module_paths, layout.platform, waited_for, entry.has_base)

    async def _wait_settled(self, entry: _Entry, tell: TellLines, begin: BeginPhase) -> None:
        """Wait until it is known what became of a template; what that wrote is the first worker's that waits."""
        entry.template.listen(tell)
        try:
            if not entry.is_settled.is_set():
                begin("template")
            await entry.is_settled.wait()
        finally:
            entry.template.unlisten(tell)

    # -- what the server, or this node's past, asks

    def prepare(self, spec: WorkerSpec) -> None:
        """Have a template of this worker ready before anybody waits for it."""
        key, refusal = template_key(spec), self._refusal(spec)
        if refusal and refusal != never_forked(spec.function):  # that is this machine's, where others may take it
            self._note_none(key, refusal)
        elif not refusal and key not in self._entries and key not in self._unsafe:
            self._entry(key, spec, is_wanted=False)

    def forget(self, version: str) -> None:
        """A version is not served any more; where it was the last of its run, its packages need not be at hand."""
        for key, entry in tuple(self._entries.items()):
            if entry.template.spec.version != version:
                continue
            self._outcomes.pop(key, None)
            if entry.is_settled.is_set():
                self._drop(key)
            else:
                entry.is_forgotten = True
        self._forge.bases.keep_warm({run_of(entry.template.spec) for entry in self._entries.values()})
        self._remember()

    def outcomes(self) -> tuple[TemplateOutcome, ...]:
        """What became of each that was to be made, the newest last."""
        return tuple(self._outcomes.values())

    def codes(self) -> set[str]:
        """The digests of the code that templates use."""
        return {entry.template.spec.code.digest for entry in self._entries.values()}

    def restore(self) -> None:
        """Make again what was there when the agent before this one ended."""
        try:
            remembered = _FILE.unpack(self._memory.read_bytes())
        except (OSError, ProtocolError):
            return
        for spec in remembered.specs if isinstance(remembered, Remembered) else ():
            self.prepare(spec)
        for entry in self._entries.values():
            entry.is_restored = True
            entry.why = "restarted: the agent was started again, and makes its templates anew"

    async def close(self) -> None:
        """End them all; what is remembered stays."""
        self._is_closing = True
        self._forge.bases.close()
        for entry in tuple(self._entries.values()):
            await entry.template.close()

    # -- inside

    def _refusal(self, spec: WorkerSpec) -> str:
        """Why a worker of this spec is never forked; "" when it may be."""
        if self._is_closing:
            return "closing: the agent is leaving"
        if self._forge.isolation() is Isolation.PROCESS:
            return "no_namespaces: sandboxes are plain processes here; `relight doctor` says why"
        if not reaper.program():
            return f"machine: no template can be forked on {platform.machine()}"
        if spec.function.resources.gpu and self._forge.gpus.has_real and not self._forge.has_root():
            return "gpu: only root can hand a GPU to a worker that is there already, and this node is not root's"
        return never_forked(spec.function)

    def _entry(self, key: str, spec: WorkerSpec, *, is_wanted: bool = True) -> _Entry:
        entry = self._entries.get(key)
        if entry is not None and not entry.template.is_gone:
            return entry
        if entry is not None:
            self._drop(key)
        name = new_id("template", int(self._forge.clock.now() * 1000))
        below = self._forge.bases.below(spec)
        template = Template(name, spec, below, self._forge.doors)
        entry = self._entries[key] = _Entry(
            template, self._why_none(key, spec, was_lost=entry is not None), asyncio.Event()
        )
        self._note(TemplateOutcome(key=key, state=TemplateState.MAKING))
        self._forge.tasks.create_task(self._build(key, entry, below, is_wanted=is_wanted), name=f"{name}.build")
        return entry

    def _why_none(self, key: str, spec: WorkerSpec, *, was_lost: bool) -> str:
        if was_lost:
            return _LOST
        if key in self._given_up:
            return _EVICTED
        others = (
            entry.template.spec for entry in self._entries.values() if entry.template.spec.version != spec.version
        )
        place = (spec.workspace, spec.app, spec.environment, spec.function.module)
        if any((other.workspace, other.app, other.environment, other.function.module) == place for other in others):
            return "new_version: the first start of this version on this node"
        return "first: the first start of this function on this node"

    async def _build(self, key: str, entry: _Entry, below: Below, *, is_wanted: bool) -> None:
        try:
            if is_wanted:
                await self._make(key, entry)
            else:
                async with self._builds:
                    if entry.is_restored:  # one base, and forks of it, rather than a Python for each
                        await self._forge.bases.wait(entry.template.spec)
                    await self._make(key, entry)
        except LoadingFailed as error:
            if self._may_need_gpu(entry.template.spec):
                self._unsafe[key] = _needs_gpu(error)
                self._note_none(key, self._unsafe[key])
            else:
                entry.error = error
        except RelightError as error:
            entry.error = error
        except OSError as error:
            entry.error = StartFailed(f"cannot make a template of {entry.template.spec.function.name}: {error}")
        finally:
            entry.has_base = below.has_base
            entry.is_settled.set()
            if entry.error is not None and not self._is_closing:
                self._note_none(key, f"failed: {str(entry.error).partition(_LINE)[0]}")
            if entry.error is not None or key in self._unsafe:
                await entry.template.close()
                if self._entries.get(key) is entry:
                    del self._entries[key]
            elif entry.is_forgotten:
                self._drop(key)
                self._remember()

    def _may_need_gpu(self, spec: WorkerSpec) -> bool:
        """Whether what cannot be loaded in a template might be where there is a GPU, as in a worker started by itself."""
        return bool(spec.function.resources.gpu) and self._forge.gpus.has_real

    async def _make(self, key: str, entry: _Entry) -> None:
        template = entry.template
        layout = await self._forge.provider.layout(template.id, template.spec, is_template=True)
        layout = replace(layout, sandbox=self._forge.gpus.equip(layout.sandbox, template.spec))
        began = self._forge.clock.monotonic()
        frozen = await template.build(layout)
        if frozen.unsafe:
            self._unsafe[key] = f"unsafe: {frozen.unsafe[:MOST_WORDS]}"
            self._note_none(key, self._unsafe[key])
            _log.info("no template", extra={"function": template.spec.function.name, "why": frozen.unsafe})
            return
        self._forge.bases.warm(template.spec, frozen.packages)
        self._want_shells(entry, limits_of(template.spec), had_shell=True)
        memory, took = await asyncio.to_thread(memory_of, template.pid), self._forge.clock.monotonic() - began
        self._keeping.add(key, memory, took)
        self._note(TemplateOutcome(key=key, state=TemplateState.READY, seconds=took, memory_bytes=memory))
        self._give_up()
        self._remember()

    def _give_up(self) -> None:
        """Make room: by those that are worth least, and have no workers."""
        spared = [
            key for key, entry in self._entries.items() if entry.template.workers or not entry.is_settled.is_set()
        ]
        self._keeping.reserve(self._forge.bases.size)
        if self._keeping.size > self._keeping.budget:
            self._forge.bases.give_up_unused()
            self._keeping.reserve(self._forge.bases.size)
        for key in self._keeping.give_up(spared):
            self._given_up.append(key)
            self._note_none(key, _EVICTED)
            self._drop(key)

    def _note_none(self, key: str, why: str) -> None:
        self._note(TemplateOutcome(key=key, state=TemplateState.NONE, why=why[:MOST_WORDS]))

    def _note(self, outcome: TemplateOutcome) -> None:
        self._outcomes.pop(outcome.key, None)
        self._outcomes[outcome.key] = outcome
        if len(self._outcomes) > KEPT_OUTCOMES:
            del self._outcomes[next(iter(self._outcomes))]
        self._tell(outcome)

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key)
        self._keeping.remove(key)
        self._forge.tasks.create_task(entry.template.retire(), name=f"{entry.template.id}.retire")

    def _want_shells(self, entry: _Entry, limits: Limits, *, had_shell: bool) -> None:
        """Have shells wait for the next forks: twice as many as before, where this one found none."""
        wanted = entry.wanted_shells.get(limits, FEWEST_SHELLS // 2 if not had_shell else FEWEST_SHELLS)
        entry.wanted_shells[limits] = wanted if had_shell else min(MOST_SHELLS, 2 * wanted)
        if not entry.is_refilling:
            entry.is_refilling = True
            self._forge.tasks.create_task(self._refill(entry), name=f"{entry.template.id}.shells")

    async def _refill(self, entry: _Entry) -> None:
        """One by one, once the worker that was just forked has had the machine to itself."""
        template = entry.template
        try:
            await self._forge.clock.sleep(REST_SECONDS)
            for limits, wanted in tuple(entry.wanted_shells.items()):
                missing = self._ahead_of(template) - template.ahead(limits)
                while template.waiting_shells(limits) < wanted + max(0, missing) and not template.is_gone:
                    await template.make_shell(limits)
                while template.ahead(limits) < self._ahead_of(template) and template.waiting_shells(limits):
                    await template.fork_ahead(limits)
        except (RelightError, OSError) as error:  # the next fork makes its own, and tells what is wrong
            _log.warning("no shell made", extra={"template": template.id, "why": str(error)})
        finally:
            entry.is_refilling = False

    def _ahead_of(self, template: Template) -> int:
        """How many processes are to wait: none of whose worker it is not known, before its start, which GPU it will have."""
        return 0 if template.is_gone or template.spec.function.resources.gpu else self._forge.forks_ahead

    def _remember(self) -> None:
        specs = tuple(self._entries[key].template.spec for key in self._keeping.by_worth() if key in self._entries)
        making = self._memory.with_suffix(".new")
        try:
            making.write_bytes(pack(Remembered(specs=specs)))
            making.replace(self._memory)
        except OSError as error:
            _log.warning("templates not written down", extra={"why": str(error)})


def _needs_gpu(error: RelightError) -> str:
    said = str(error).partition(_LINE)[0][:MOST_WORDS]
    return f"gpu: its modules cannot be imported without a GPU, which a template has not; use it in @enter() or in the function ({said})"


_FILE = Kinds(Remembered)
_EVICTED = "evicted: its template was given up for others that are dearer to make or asked for more"
_LINE = "\n"
_LOST = "lost: its template's process had ended"
