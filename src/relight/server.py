"""The server, put together: the only place that builds it, in the order in which it may serve.

lock the folder → open the store, begin an epoch, take over what was left → listen for nodes → listen for callers
→ start or adopt the agent → say that it is ready → … → take no more callers → let the agent leave → close
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from relight.blobs.store import BlobStore
from relight.clock import SystemClock
from relight.control.platform import Control, Rules, open_control
from relight.control.retention import Keeping
from relight.control.tokens import new_token
from relight.fleet.local import AgentOptions, LocalAgent
from relight.forge import Forge
from relight.gateway.app import Options, build
from relight.gateway.carried import carry
from relight.gateway.exchange import Limits
from relight.gateway.guard import Hosts
from relight.gateway.serving import HttpServer, Serving
from relight.links.session import Links
from relight.links.web import WebListener
from relight.log import LogOptions, start_logging
from relight.metering.cards import load_cards
from relight.protocol.errors import Conflict, InvalidRequest
from relight.scheduler.loop import Timing
from relight.scheduler.placement import Quota
from relight.settings import MIB, Settings
from relight.store.faults import Faults
from relight.store.store import open_store
from relight.transport import listen_unix, short_path

log = logging.getLogger("relight.server")

GC_THRESHOLD = (20_000, 20, 50)
"""A call makes some hundred short-lived objects and no rings of them: to look for rings each second call is a waste."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A server that lives for one client: it says so on `ready_fd` and leaves when `parent_fd` comes to its end.

    What it prepares for workers, and the next one needs too, is kept in `library_folder`.
    """

    ready_fd: int
    parent_fd: int
    library_folder: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens, and the token that its TCP address asks for.  `url` is empty when it has none."""

    socket: Path
    url: str
    token: str


def run_server(
    settings: Settings, *, embedded: Embedded | None = None, on_ready: Callable[[Address], None] = lambda _: None
) -> None:
    """Serve until SIGINT or SIGTERM (or until the embedding client is gone).  Raises Conflict when the folder is taken."""
    start_logging(
        LogOptions(
            level=settings.log_level,
            format=settings.log_format,
            to_stderr=settings.log_to != "file",
            file=None if settings.log_to == "stderr" else settings.data_dir / "server.log",
        )
    )
    gc.freeze()  # what was imported stays
    gc.set_threshold(*GC_THRESHOLD)
    uvloop.run(serve(settings, embedded=embedded, on_ready=on_ready))


async def serve(
    settings: Settings, *, embedded: Embedded | None = None, on_ready: Callable[[Address], None] = lambda _: None
) -> None:
    """As `run_server`, in a loop that runs already."""
    run_folder = _run_folder(settings.data_dir)
    with _locked(run_folder / "server.lock"):
        token = _own_token(settings.data_dir / "token")
        store = await open_store(settings.data_dir, Faults(settings.fault_points))
        try:
            blobs = BlobStore(settings.data_dir / "blobs")
            forge = Forge(settings.data_dir / "git")
            control = await open_control(store, blobs, SystemClock(), _rules(settings), forge)
            await control.tokens.admit(token)
            with ExitStack() as sockets:
                await _Serving(settings, control, embedded).run(token, on_ready, sockets)
        finally:
            await store.close()


class _Serving:
    """One server while it serves."""

    def __init__(self, settings: Settings, control: Control, embedded: Embedded | None) -> None:
        self._settings = settings
        self._control = control
        self._embedded = embedded
        self._run_folder = settings.data_dir / "run"
        self._http = HttpServer(build(control, _gateway_options(settings)), _http_options(settings))
        self._web = WebListener(control.web, carry)
        self._links = Links(control, self._http.serve_stream, self._web.serve_stream)
        self._agent = LocalAgent(self._agent_options(), SystemClock(), self._agent_died)
        self._leave = asyncio.Event()

    async def run(self, token: str, on_ready: Callable[[Address], None], sockets: ExitStack) -> None:
        """Serve until told to leave, then close in order."""
        listener = await listen_unix(
            _fresh(self._run_folder / "link.sock"),
            on_message=self._links.on_message,
            on_stream=self._links.on_stream,
            on_connect=self._links.on_connect,
        )
        web = await self._web.listen(_fresh(self._run_folder / "web.sock"))
        listening = [sockets.enter_context(one) for one in self._listen()]
        self._watch_for_end()
        serving = asyncio.ensure_future(self._http.serve(listening))
        working = [asyncio.ensure_future(self._control.run())]
        if self._settings.with_agent:
            working.append(asyncio.ensure_future(self._agent.run()))
        self._tell_ready(self._address(listening, token), on_ready)
        leaving = asyncio.ensure_future(self._leave.wait())
        try:
            done, _ = await asyncio.wait([serving, leaving, *working], return_when=asyncio.FIRST_COMPLETED)
            log.info("server stopping")
        finally:
            self._http.stop()
            working[-1].cancel()
            await asyncio.wait([working[-1]])
            await self._agent.stop()
            await serving
            for task in (*working, leaving):
                task.cancel()
            await asyncio.gather(*working, leaving, return_exceptions=True)
            self._links.close()
            listener.close()
            web.close()
        for task in done:
            task.result()

    def _listen(self) -> Iterator[socket.socket]:
        local = socket.socket(socket.AF_UNIX)
        with short_path(_fresh(self._run_folder / "relight.sock")) as name:
            local.bind(name)
        local.listen(1024)
        yield local
        if self._embedded is None:
            yield _listen_tcp(self._settings.host, self._settings.port)

    def _address(self, listening: list[socket.socket], token: str) -> Address:
        url = ""
        if len(listening) > 1:
            host, port = listening[1].getsockname()[:2]
            url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._control.web.base_url = url
        return Address(socket=self._run_folder / "relight.sock", url=url, token=token)

    def _tell_ready(self, address: Address, on_ready: Callable[[Address], None]) -> None:
        facts = {"pid": os.getpid(), "socket": str(address.socket), "url": address.url}
        (self._run_folder / "server.json").write_text(json.dumps(facts))
        log.info("server ready", extra=facts)
        if self._embedded is not None:
            os.write(self._embedded.ready_fd, json.dumps(facts).encode() + b"\n")
            os.close(self._embedded.ready_fd)
        on_ready(address)

    def _watch_for_end(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._leave.set)
        if self._embedded is not None:
            loop.add_reader(self._embedded.parent_fd, self._leave.set)  # nothing is ever written: it can only end

    def _agent_options(self) -> AgentOptions:
        return AgentOptions(
            node=self._settings.node or socket.gethostname() or "local",
            run_folder=self._run_folder,
            data_folder=self._settings.data_dir / "agent",
            declare_gpu=self._settings.declare_gpu,
            leaves_with_server=self._embedded is not None,
            library_folder=self._embedded.library_folder if self._embedded is not None else None,
            code_cache_mib=self._settings.code_cache_mib,
            template_memory_mib=self._settings.template_memory_mib,
            forks_ahead=self._settings.forks_ahead,
            is_metered=self._settings.metering,
        )

    def _agent_died(self, why: str) -> None:
        log.warning("agent ended", extra={"why": why})
        self._control.nodes.died(self._agent_options().node, why)


def _rules(settings: Settings) -> Rules:
    return Rules(
        timing=Timing(
            lease_seconds=settings.lease_seconds,
            sweep_seconds=settings.sweep_seconds,
            longest_backoff_seconds=settings.crash_backoff_seconds,
        ),
        keeping=Keeping(result_days=settings.result_days, log_days=settings.log_days),
        run_grace_seconds=settings.run_grace_seconds,
        quota=Quota(
            workers=settings.quota_workers or None,
            cpu=settings.quota_cpu or None,
            memory_mib=settings.quota_memory_mib or None,
            gpus=settings.quota_gpus or None,
        ),
        max_waiting=settings.max_waiting or None,
        cards=load_cards(settings.data_dir / "rates"),
        card=settings.rate_card,
        is_metered=settings.metering,
    )


def _gateway_options(settings: Settings) -> Options:
    limits = Limits(
        frame_bytes=settings.max_frame_mib * MIB,
        json_bytes=settings.max_json_mib * MIB,
        blob_bytes=settings.max_blob_mib * MIB,
    )
    return Options(
        hosts=Hosts.of(settings.host, settings.allowed_hosts),
        limits=limits,
        trusted_proxies=settings.trusted_proxies,
    )


def _http_options(settings: Settings) -> Serving:
    return Serving(max_connections=settings.max_connections, stop_seconds=settings.stop_seconds)


def _listen_tcp(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        raise InvalidRequest(
            f"cannot listen on {host}:{port}: {os.strerror(error.errno) if error.errno and error.errno > 0 else error}; choose another with --host and --port"
        ) from error


def _run_folder(data: Path) -> Path:
    """The folder of what belongs to a server that runs.  Raises InvalidRequest where nothing can be written."""
    folder = data / "run"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise InvalidRequest(
            f"cannot keep anything in {data}: {error.strerror or error}; choose another folder with --data-dir"
        ) from error
    return folder


def _fresh(path: Path) -> str:
    """The path of a socket, free to be bound: whoever left one there is gone, for the folder is locked."""
    path.unlink(missing_ok=True)
    return str(path)


def _own_token(path: Path) -> str:
    """The token that this server's user shows; made once, readable by that user alone."""
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(new_token())
    return path.read_text().strip()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a data folder: one server each."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Conflict(
                f"cannot start a server on {path.parent.parent}: process {file.read().strip() or '?'} serves it; "
                "stop that one, or choose another folder with --data-dir"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
