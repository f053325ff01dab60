"""What the workers of a node share: where processes come from, what they need on this machine, where their values go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from relight.agent.attempts import Cancels
from relight.agent.deliveries import KeepsValues
from relight.agent.meter import Meters
from relight.agent.outbox import Outbox
from relight.agent.slots import Slots
from relight.agent.starter import Begun
from relight.agent.starts import BeginPhase
from relight.agent.template import TellLines
from relight.clock import Clock
from relight.protocol.link import WorkerSpec


class StartsProcesses(Protocol):
    """Where workers' processes come from."""

    def take(self, worker: str, spec: WorkerSpec, tell: TellLines) -> Begun | None:
        """One that waits for whoever comes first; None where none does."""

    async def start(self, worker: str, spec: WorkerSpec, tell: TellLines, begin: BeginPhase) -> Begun:
        """Start one; what is written meanwhile is told by `tell`, its phases by `begin`.  Raises RelightError, OSError."""


class Provides(Protocol):
    """Makes ready what a worker needs on this machine."""

    def has(self, spec: WorkerSpec) -> bool:
        """Whether nothing of it has to be fetched."""

    async def fetch(self, spec: WorkerSpec) -> None:
        """Bring what is not here.  Raises RelightError."""

    def release(self, worker: str) -> None:
        """Take away what was for that worker alone."""


class MovesValues(KeepsValues, Protocol):
    """Brings large values to workers, and from them."""

    async def fetch(self, digest: str) -> int:
        """A read-only descriptor of the bytes with this digest.  Raises RelightError."""


class OpensWays(Protocol):
    """Connections from workers that serve the web to the server."""

    async def open(self, secret: str) -> int:
        """A descriptor of the connection that the server waits for under this secret.  Raises RelightError, OSError."""


Later = Callable[[float, Callable[[], None]], Cancels]
"""Call something after so many seconds, unless it is cancelled before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the workers of a node share.  `meter` makes the meter of one of them, by its name."""

    starter: StartsProcesses
    provider: Provides
    values: MovesValues
    ways: OpensWays
    outbox: Outbox
    slots: Slots
    meter: Callable[[str, WorkerSpec], Meters]
    clock: Clock
    later: Later
    tasks: asyncio.TaskGroup
