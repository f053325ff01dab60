"""The agent, put together: the only place that builds one."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import gc
import logging
import os
import platform
import resource
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvloop

import relight
from relight.agent.bases import Bases
from relight.agent.code import Bound, CodeCache
from relight.agent.fitness import Ground, look
from relight.agent.gpu import Gpus, find_libraries
from relight.agent.gpuwatch import GpuWatch
from relight.agent.library import Library
from relight.agent.link import Link, LinkOptions
from relight.agent.memory import MemoryWatch
from relight.agent.meter import Meter, Unmetered
from relight.agent.node import Identity, Node
from relight.agent.nvml import open_nvml
from relight.agent.outbox import Outbox
from relight.agent.platform import Doors
from relight.agent.provider import Provider, Sources
from relight.agent.resources import cores, declared_gpus, memory_mib
from relight.agent.sandboxes import Sandboxes
from relight.agent.slots import Slots
from relight.agent.starter import Starter
from relight.agent.surroundings import Surroundings
from relight.agent.templates import Forge, Templates
from relight.agent.values import Values
from relight.agent.ways import WEB_SOCKET, Ways
from relight.agent.workers import Workers
from relight.builder.host import host_mounts
from relight.clock import SystemClock, now_ms
from relight.log import LogOptions, start_logging
from relight.protocol.errors import Conflict, RelightError, StartFailed
from relight.protocol.fitness import Check
from relight.protocol.ids import new_id
from relight.protocol.link import HEARTBEAT_SECONDS, GpuFact
from relight.protocol.manifest import HostImage
from relight.sandbox import reaper
from relight.sandbox.egress.setup import PROXY
from relight.sandbox.spec import Isolation

TEMPLATE_SHARE = 4
"""Templates may use this part of a node's memory, unless told otherwise: a quarter."""

CODE_CACHE_MIB = 4096
"""So much code is kept, unless told otherwise."""

_log = logging.getLogger("relight.agent")

GC_THRESHOLD = (20_000, 20, 50)
"""As in `server.py`: calls make no rings of objects to look for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What an agent is started with."""

    socket: str
    data_dir: Path
    cache_dir: Path
    library_dir: Path
    code_cache_bytes: int | None
    node: str
    declare_gpu: tuple[str, ...]
    heartbeat_seconds: float
    leaves_with_server: bool
    template_memory_mib: int | None
    forks_ahead: int
    is_metered: bool


def main() -> int:
    """Run an agent until SIGTERM; 0 when it left in good order, 1 when it could not start."""
    options = _read_options()
    start_logging(LogOptions())
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a shell that waits for its worker is a dozen files
    try:
        with _locked(options.data_dir):
            gc.freeze()  # what was imported stays
            gc.set_threshold(*GC_THRESHOLD)
            uvloop.run(_serve(options))
    except RelightError as error:
        raise SystemExit(f"relight agent: {error}") from error
    return 0


async def _serve(options: Options) -> None:
    sandboxes = Sandboxes(options.data_dir / "sandboxes")
    await sandboxes.open()
    has_left = False
    try:
        async with asyncio.TaskGroup() as tasks:
            library = Library(_library_folder(options), Path(relight.__file__).parent)
            tasks.create_task(_warm(library), name="agent.warm")
            node, link = _build(options, sandboxes, library, tasks)
            leave = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave.set)
            await node.serve(link, leave.wait)
            has_left = True
            raise asyncio.CancelledError  # ends what waits for a server that will not come; the group waits for all else
    except asyncio.CancelledError:
        if not has_left:
            raise
    finally:
        await sandboxes.close()


async def _warm(library: Library) -> None:
    """Make the library ready for this very Python, as most images are of it, while nobody waits for that yet."""
    with suppress(StartFailed):  # whoever then needs it finds out, and is told
        await library.get(_own_image())


def _own_image() -> HostImage:
    return HostImage(
        python=sys.executable, prefix=sys.prefix, base_prefix=sys.base_prefix, version=platform.python_version()
    )


def _build(options: Options, sandboxes: Sandboxes, library: Library, tasks: asyncio.TaskGroup) -> tuple[Node, Link]:
    clock, outbox = SystemClock(), Outbox()
    link_options = LinkOptions(
        path=options.socket,
        heartbeat_seconds=options.heartbeat_seconds,
        leaves_with_server=options.leaves_with_server,
    )
    link = Link(link_options, outbox, clock)
    values = Values(link, _folder(options.data_dir / "values"), clock)
    forbidden = (str(options.data_dir.parent), str(options.cache_dir), str(options.library_dir))
    users: list[Callable[[], set[str]]] = []
    doors = Doors(options.data_dir / "platform", link)
    provider = Provider(
        Sources(
            code=CodeCache(_folder(options.cache_dir / "code"), values, tasks, clock, _bound(options, users)),
            library=library,
            image_mounts=lambda image: host_mounts(image, forbidden=forbidden),
            isolation=lambda: sandboxes.isolation,
            proxy=lambda: PROXY if sandboxes.facts.is_proxied else "",
            doors=doors,
        )
    )
    gpus = Gpus(open_nvml(), clock, simulated=declared_gpus(options.declare_gpu), libraries=find_libraries())
    bases = Bases(sandboxes, provider, clock, tasks, lambda: _can_have_bases(sandboxes), gpus.needs_fresh)
    forge = Forge(
        sandboxes=sandboxes,
        provider=provider,
        doors=doors,
        clock=clock,
        tasks=tasks,
        isolation=lambda: sandboxes.isolation,
        bases=bases,
        gpus=gpus,
        has_root=lambda: sandboxes.facts.is_privileged,
        forks_ahead=options.forks_ahead,
    )
    budget = options.template_memory_mib or memory_mib() // TEMPLATE_SHARE
    templates = Templates(forge, budget << 20, options.data_dir / "templates", outbox.template)
    templates.restore()
    surroundings = Surroundings(
        starter=Starter(templates, provider, bases, gpus),
        provider=provider,
        values=values,
        ways=Ways(Path(options.socket).with_name(WEB_SOCKET), link),
        outbox=outbox,
        slots=Slots(),
        meter=partial(Meter, clock=clock) if options.is_metered else lambda _worker, _spec: Unmetered(),
        clock=clock,
        later=asyncio.get_running_loop().call_later,
        tasks=tasks,
    )
    workers = Workers(surroundings)
    users += [workers.codes, templates.codes]
    if not sandboxes.facts.groups.enforces("memory"):
        tasks.create_task(MemoryWatch(workers, clock).run(), name="agent.memory")
    watch = GpuWatch(gpus, workers, clock)
    if gpus.has_real:
        tasks.create_task(watch.run(), name="agent.gpus")
    checks = look(Ground(facts=sandboxes.facts, folder=options.data_dir, clock=clock))
    return Node(_identity(options, sandboxes, gpus.facts, checks), workers, templates, outbox, watch.latest), link


def _can_have_bases(sandboxes: Sandboxes) -> bool:
    """Only root can take mounts for a sandbox that is within another."""
    is_possible = sandboxes.isolation is Isolation.NAMESPACES and sandboxes.facts.is_privileged
    return is_possible and bool(reaper.program())


def _bound(options: Options, users: list[Callable[[], set[str]]]) -> Bound | None:
    """How much code is kept beside what the users, all known by then, say that they use; None: all of it."""
    if options.code_cache_bytes is None:
        return None
    return Bound(most_bytes=options.code_cache_bytes, in_use=lambda: set().union(*(codes() for codes in users)))


def _identity(options: Options, sandboxes: Sandboxes, gpus: tuple[GpuFact, ...], checks: tuple[Check, ...]) -> Identity:
    return Identity(
        node=options.node,
        incarnation=new_id("agent", now_ms()),
        cpu=cores(),
        memory_mib=memory_mib(),
        gpus=gpus,
        isolation=sandboxes.isolation.value,
        pid=os.getpid(),
        checks=checks,
    )


def _read_options() -> Options:
    parser = argparse.ArgumentParser(prog="python -m relight.agent", description="Run relight's agent on this machine.")
    parser.add_argument("--socket", required=True, help="where the server listens for nodes")
    parser.add_argument("--data-dir", required=True, type=Path, help="this agent's own folder")
    parser.add_argument(
        "--cache-dir",
        type=Path,
        help="where code and our own library are kept; agents may share it, and nothing leaves it",
    )
    parser.add_argument("--library-dir", type=Path, help="where our own library is kept; agents may share it")
    parser.add_argument("--code-cache", type=int, default=CODE_CACHE_MIB, metavar="MIB", help="how much code is kept")
    parser.add_argument("--node", required=True, help="the node's name")
    parser.add_argument(
        "--declare-gpu", action="append", default=[], metavar="KIND:COUNT", help="declare simulated GPUs"
    )
    parser.add_argument("--heartbeat", type=float, default=HEARTBEAT_SECONDS, metavar="SECONDS")
    parser.add_argument("--leave-with-server", action="store_true", help="leave once the server is gone")
    parser.add_argument(
        "--template-memory", type=int, metavar="MIB", help="what templates may use; else a quarter of all"
    )
    parser.add_argument(
        "--forks-ahead",
        type=int,
        default=1,
        metavar="N",
        help="so many processes of each template wait for the next worker",
    )
    parser.add_argument("--no-metering", action="store_true", help="do not meter: for measuring what that takes")
    given = parser.parse_args()
    return Options(
        socket=given.socket,
        data_dir=given.data_dir,
        cache_dir=given.cache_dir or given.data_dir,
        library_dir=given.library_dir or (given.cache_dir or given.data_dir) / "library",
        code_cache_bytes=None if given.cache_dir else given.code_cache << 20,
        node=given.node,
        declare_gpu=tuple(given.declare_gpu),
        heartbeat_seconds=given.heartbeat,
        leaves_with_server=given.leave_with_server,
        template_memory_mib=given.template_memory,
        forks_ahead=given.forks_ahead,
        is_metered=not given.no_metering,
    )


def _library_folder(options: Options) -> Path:
    """Where the library is kept: what is written there runs in every worker, so it is nobody else's to write."""
    shared = options.library_dir
    with suppress(OSError):
        facts = _folder(shared).lstat()
        if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid() and not facts.st_mode & 0o022:
            return shared
    _log.warning("library not shared", extra={"folder": str(shared), "why": "it is not this user's own"})
    return _folder(options.data_dir / "library")


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the agent's folder: two on one would end each other's sandboxes.  The lock says who holds it (`fleet/local.py`)."""
    with open(os.open(_folder(folder) / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "rb+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"cannot start an agent on {folder}: another runs there; stop it, or choose another --data-dir"
            ) from None
        # Over what a dead one left: whoever reads the first line meanwhile finds one pid or the other, and never none.
        os.ftruncate(file.fileno(), os.pwrite(file.fileno(), f"{os.getpid()}\n".encode(), 0))
        yield
