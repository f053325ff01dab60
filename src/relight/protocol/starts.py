"""How a worker was started: on which rung of the ladder of cold starts, why on that one, and what took how long."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class StartLevel(str, Enum):
    """The rungs, quickest first.  A call that finds an idle worker (level 0) needs no start at all."""

    PARKED = "parked"
    """0p: forked and confined ahead of time, never used."""
    FORK = "fork"
    """1: a fork of the template of its function's version, whose modules are imported."""
    IMPORT = "import"
    """2: a fork of the image's base template; the user's module was imported for it."""
    RESTORE = "restore"
    """3: a process image, restored."""
    BOOT = "boot"
    """4: a fresh process: sandbox, interpreter, imports."""
    FETCH = "fetch"
    """5: as `boot`, after the image or the code was brought to this node."""


NUMBERS = {
    StartLevel.PARKED: "0p",
    StartLevel.FORK: "1",
    StartLevel.IMPORT: "2",
    StartLevel.RESTORE: "3",
    StartLevel.BOOT: "4",
    StartLevel.FETCH: "5",
}
"""The rungs as people number them."""


PHASES = {
    "take": "a worker that was started ahead is given its first call; or a process that was forked ahead becomes a worker",
    "place": "the node has the order, and comes to it",
    "gpu": "its GPU is still to be given back by whoever had it before",
    "fetch": "the code, or the image, is brought to the node",
    "template": "a template is made, as there is none yet: its sandbox, Python, imports and `@enter(snap=True)`",
    "fork": "the template is forked, into a sandbox that was made for it",
    "thaw": "the fork moves into that sandbox, and becomes unlike its siblings",
    "layout": "what a sandbox of its own will show is put together",
    "sandbox": "that sandbox is made",
    "python": "the interpreter starts in it",
    "import": "the worker imports the function's module (in a fork: what the template could not)",
    "enter": "the class's `@enter` methods run",
    "load": "python, import and enter, where the start failed and nobody can say how far it came",
}
"""Each phase of a start, in the order in which they are passed, and what happens in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of a start, and how long it took."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StartReport:
    """One start.  `why` says why it was not on a quicker rung, `code: sentence` ("" for level 1 and parked ones).

    `phases` are in the order in which they were passed, without gap: their sum is the time from the agent's order to
    `ready`.  `PHASES` has their names.
    """

    level: StartLevel
    why: str = ""
    phases: tuple[Phase, ...] = ()

    @property
    def seconds(self) -> float:
        """How long it took."""
        return sum(phase.seconds for phase in self.phases)
