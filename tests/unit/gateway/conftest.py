"""A platform that answers from memory, and the gateway before it on real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import socket
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from relight.gateway.app import Gateway, Options, build
from relight.gateway.exchange import Limits
from relight.gateway.guard import Hosts
from relight.gateway.serving import HttpServer, Serving
from relight.protocol.api import Await, CallDetail, CallViews, Cancel, Deploy, Deployed, Submit
from relight.protocol.calls import CallKey, CallRequest, CallState, CallView
from relight.protocol.errors import InvalidRequest, KeyReused, NotFound, Unauthenticated
from relight.protocol.exits import WorkerExit
from relight.protocol.link import GpuFact
from relight.protocol.manifest import FunctionSpec, HostImage, Json, Queueing, Scaling
from relight.protocol.payload import Payload
from relight.protocol.scaleviews import DeadView, QueueView, ScalingView
from relight.protocol.starts import Phase, StartLevel
from relight.protocol.startviews import StartQuery, StartSummary, StartView
from relight.protocol.templates import TemplateState, TemplateView
from relight.protocol.views import (
    AppTemplates,
    AppView,
    CallPlace,
    CallQuery,
    FunctionStats,
    LogQuery,
    LogRecord,
    NodeView,
    Principal,
    RunEnded,
    Scope,
    TokenRequest,
    TokenView,
)
from relight.protocol.workers import WorkerState, WorkerView

TOKEN = "rl_test"
RUN = "run-01kb0000000000000000000000"
IMAGE = HostImage(python="/usr/bin/python3", prefix="/usr", base_prefix="/usr", version="3.11.7")


@dataclass
class FakeCalls:
    """Calls that stay as they are until a test ends them."""

    views: dict[str, CallView] = field(default_factory=dict)
    payloads: dict[str, Payload] = field(default_factory=dict)
    result: Payload | None = None
    keys: dict[tuple[str, str, str], tuple[str, str]] = field(default_factory=dict)
    asked: list[CallQuery] = field(default_factory=list)
    abandoned: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def submit(self, workspace: str, submit: Submit, /, *, worker: str = "") -> CallViews:
        assert workspace == "default"
        views = []
        for one in submit.calls:
            if one.function == "missing":
                raise NotFound("cannot find function 'missing' in app 'a': it has 'square'")
            if one.function == "broken":
                raise ZeroDivisionError("a fault of ours")
            view = CallView(id=one.id, app=one.app, environment=one.environment, version="v", function=one.function)
            view = replace(view, method=one.method, pending_reason="no_worker")
            if self.result is not None:
                view = replace(view, state=CallState.SUCCEEDED, result=self.result)
            self.views[one.id], self.payloads[one.id] = view, one.payload
            views.append(view)
        self.taken.set()
        return CallViews(calls=tuple(views))

    async def submit_once(
        self,
        workspace: str,
        request: CallRequest,
        key: CallKey | None,
        /,
        *,
        wait_seconds: float = 0.0,
        worker: str = "",
    ) -> CallView:
        submit = Submit(calls=(request,), wait_seconds=0.0 if key else wait_seconds)
        view = (await self.submit(workspace, submit, worker=worker)).calls[0]
        if key is not None:
            self.keys[key.owner, key.function, key.key] = (key.digest, view.id)
        return view

    async def named(self, workspace: str, key: CallKey, /) -> CallView | None:
        digest, call = self.keys.get((key.owner, key.function, key.key), ("", ""))
        if call and digest != key.digest:
            raise KeyReused(f"cannot call under {key.key}: it stands for {call}")
        return self.views.get(call)

    async def follow(self, workspace: str, call_id: str, /) -> AsyncIterator[CallView]:
        view = self.views[call_id]
        yield view
        if not view.state.is_final:
            await self.ended.wait()
            yield self.views[call_id]

    async def wait(self, workspace: str, query: Await, /, *, worker: str = "") -> CallViews:
        self.waiting.set()
        if query.wait_seconds >= 5 and not all(self.views[one].state.is_final for one in query.ids):
            try:
                await self.ended.wait()
            except asyncio.CancelledError:
                self.abandoned.set()
                raise
        return CallViews(calls=tuple(self.views[one] for one in query.ids))

    async def show(self, workspace: str, call_id: str, /) -> CallDetail:
        if call_id not in self.views:
            raise NotFound(f"cannot find call {call_id}: there is none; `relight calls list` shows them")
        return CallDetail(call=self.views[call_id])

    async def list(self, workspace: str, query: CallQuery, /) -> tuple[CallView, ...]:
        self.asked.append(query)
        return tuple(self.views.values())

    async def cancel(self, workspace: str, call_id: str, /) -> CallView:
        view = replace((await self.show(workspace, call_id)).call, state=CallState.CANCELLED)
        self.views[call_id] = view
        return view

    async def unfinished(self, workspace: str, named: Cancel, /) -> tuple[CallPlace, ...]:
        views = [
            view for view in self.views.values() if view.id in named.ids or (view.group and view.group == named.group)
        ]
        return tuple(
            CallPlace(id=one.id, app=one.app, environment=one.environment, version="v", function="f", binding="")
            for one in views
            if not one.state.is_final
        )

    async def cancel_all(self, workspace: str, calls: Sequence[CallPlace], /) -> int:
        for call in calls:
            self.views[call.id] = replace(self.views[call.id], state=CallState.CANCELLED)
        return len(calls)

    def put(self, view: CallView) -> None:
        """A call as a test wants it."""
        self.views[view.id] = view


@dataclass
class FakeTraffic:
    """Web requests that are over."""

    views: dict[str, CallView] = field(default_factory=dict)

    async def list(self, workspace: str, query: CallQuery, /) -> tuple[CallView, ...]:
        return tuple(self.views.values()) if query.kind != "call" else ()

    async def show(self, workspace: str, request_id: str, /) -> CallDetail:
        return CallDetail(call=self.views[request_id])


@dataclass
class FakeRetries:
    """A call made once more has the id of the first and a mark."""

    async def retry(self, workspace: str, call_id: str, /) -> CallView:
        return CallView(id=f"{call_id}-again", app="a", environment="main", version="v", function="f")


@dataclass
class FakeTunings:
    """What was asked last."""

    asked: list[tuple[object, ...]] = field(default_factory=list)

    async def show(self, name: tuple[str, str, str, str], /) -> ScalingView:
        _, app, environment, function = name
        return ScalingView(
            app=app, environment=environment, function=function, version="v", scaling=Scaling(), queue=Queueing()
        )

    async def update(self, name: tuple[str, str, str, str], changes: Mapping[str, Json], /) -> ScalingView:
        self.asked.append((name, changes))
        return await self.show(name)

    async def report(self, name: tuple[str, str, str, str], worker: str, values: Mapping[str, Json], /) -> None:
        self.asked.append((name, worker, values))


@dataclass
class FakeQueues:
    """One queue, which may be paused."""

    is_paused: bool = False

    async def show(self, name: tuple[str, str, str, str], /) -> QueueView:
        return QueueView(waiting=3, is_paused=self.is_paused, priorities={"0": 3}, reasons={"paused": 3})

    async def pause(self, name: tuple[str, str, str, str], /, *, is_paused: bool) -> QueueView:
        self.is_paused = is_paused
        return await self.show(name)

    async def purge(self, name: tuple[str, str, str, str], /) -> int:
        return 3

    async def dead(self, name: tuple[str, str, str, str], limit: int, /) -> DeadView:
        return DeadView(calls=(), dead=limit)

    async def rerun(self, name: tuple[str, str, str, str], limit: int, /) -> tuple[str, ...]:
        return (f"call-{limit}",)


@dataclass
class FakeDeploys:
    """One app."""

    stopped: list[tuple[str, str]] = field(default_factory=list)

    async def templates(self, workspace: str, app: str, environment: str, wait_seconds: float, /) -> AppTemplates:
        ready = TemplateView(function="square", state=TemplateState.READY, node="n", seconds=0.5, memory_mib=38.0)
        return AppTemplates(version=f"version-of-{app}-in-{environment}", templates=(ready,))

    async def deploy(self, workspace: str, deploy: Deploy, /, *, made_by: str = "") -> Deployed:
        return Deployed(version="version-1", app=deploy.manifest.app, environment=deploy.environment)

    async def apps(self, workspace: str, /) -> tuple[AppView, ...]:
        return (AppView(app="a", environment=RUN, version="v", functions=("square",), deployed_at=1.5),)

    async def function(self, workspace: str, app: str, environment: str, name: str, /) -> FunctionSpec:
        return FunctionSpec(name=name, module="m", qualname=name, image=IMAGE)

    async def stats(self, workspace: str, app: str, environment: str, name: str, /) -> FunctionStats:
        return FunctionStats(backlog=len(app), running=len(environment), workers=len(name))

    async def stop(self, workspace: str, app: str, environment: str, /, *, made_by: str = "") -> int:
        self.stopped.append((app, environment))
        return 3


def record(number: int) -> LogRecord:
    """A line."""
    return LogRecord(
        id=number,
        at=1.0,
        app="a",
        environment="main",
        function="f",
        worker="w",
        call="c",
        source="stdout",
        text=f"line {number}",
    )


@dataclass
class FakeLogs:
    """Two lines; a follower hears them, and then nothing for ever."""

    asked: list[LogQuery] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, workspace: str, query: LogQuery, /) -> tuple[LogRecord, ...]:
        self.asked.append(query)
        return (record(1), record(2))

    async def follow(self, workspace: str, query: LogQuery, /) -> AsyncIterator[LogRecord]:
        try:
            yield record(1)
            yield record(2)
            await asyncio.Event().wait()
        finally:
            self.closed.set()


@dataclass
class FakeRuns:
    """A run that has written a line and ends."""

    stops: list[tuple[str, bool]] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)

    async def attach(self, workspace: str, run: str, after: int = 0, /) -> AsyncIterator[LogRecord | RunEnded]:
        yield record(after + 1)
        yield RunEnded(run=run)

    async def stop(self, workspace: str, run: str, /, *, cancel: bool) -> int:
        self.stops.append((run, cancel))
        return 2

    async def tell_fault(self, workspace: str, run: str, text: str, /) -> None:
        self.faults[run] = text

    def fault(self, workspace: str, run: str, /) -> str:
        return self.faults.get(run, "")


class FakeNodes:
    """One node with one busy worker."""

    def workers(self, workspace: str, /) -> tuple[WorkerView, ...]:
        state = WorkerState.BUSY
        return (WorkerView(id="w", node="n", app="a", environment="main", version="v", function="f", state=state),)

    async def past_workers(self, workspace: str, /) -> tuple[WorkerView, ...]:
        (here,) = self.workers(workspace)
        ending = WorkerExit(reason="out_of_memory", signal=9)
        return (replace(here, id="v", state=WorkerState.GONE, exit=ending), replace(here, id="u"), here)

    def now(self) -> float:
        return 1_800_000_000.0

    def nodes(self) -> tuple[NodeView, ...]:
        gpu = GpuFact(id="0", kind="A100", is_simulated=True)
        return (
            NodeView(
                id="n",
                is_connected=True,
                isolation="namespaces",
                cpu=2,
                free_cpu=1,
                memory_mib=8,
                free_memory_mib=4,
                gpus=(gpu,),
                free_gpus=(),
                workers=1,
            ),
        )


@dataclass
class FakeStarts:
    """One start."""

    asked: list[StartQuery] = field(default_factory=list)

    async def list(self, workspace: str, query: StartQuery, /) -> tuple[StartView, ...]:
        self.asked.append(query)
        return (
            StartView(
                worker="w",
                node="n",
                app="a",
                environment="main",
                version="v",
                function="f",
                binding="",
                level=StartLevel.BOOT,
                why="first: of all",
                phases=(Phase(name="sandbox", seconds=0.25),),
                seconds=0.25,
                at=1.5,
            ),
        )

    async def summary(self, workspace: str, query: StartQuery, /) -> StartSummary:
        self.asked.append(query)
        return StartSummary(starts=1, since=query.since, is_whole=True, bounds=(0.1,))


def token_view(name: str, scope: Scope = Scope.READ, app: str = "") -> TokenView:
    """A token."""
    return TokenView(id=f"id-{name}", name=name, scope=scope, app=app, created_at=1.0)


@dataclass
class FakeTokens:
    """One token for all, and `SCOPE` or `SCOPE:APP` for less."""

    asked: list[TokenRequest] = field(default_factory=list)

    def verify(self, token: str, /) -> Principal:
        if token == TOKEN:
            return Principal(workspace="default", token_id="t")
        scope, _, app = token.partition(":")
        if scope not in {one.value for one in Scope}:
            raise Unauthenticated("cannot let you in: the token is missing or not one of this server's")
        return Principal(workspace="default", token_id="less", scope=Scope(scope), app=app)

    async def create(self, workspace: str, request: TokenRequest, /) -> tuple[TokenView, str]:
        self.asked.append(request)
        return token_view(request.name, request.scope, request.app), "rl_secret"

    def list(self, workspace: str, /) -> tuple[TokenView, ...]:
        return (token_view("ci"),)

    def get(self, principal: Principal, /) -> TokenView | None:
        return token_view("shown", principal.scope) if principal.token_id else None

    async def revoke(self, workspace: str, token: str, /) -> TokenView:
        if token != "id-ci":
            raise NotFound(f"cannot find the token {token!r}")
        return token_view("ci")

    def local(self) -> Principal:
        return Principal(workspace="default")


@dataclass
class FakeBlobs:
    """Bytes in memory."""

    kept: dict[str, bytes] = field(default_factory=dict)
    broken_off: asyncio.Event = field(default_factory=asyncio.Event)

    def has(self, digest: str, /) -> bool:
        return digest in self.kept

    def size(self, digest: str, /) -> int:
        return len(self.kept[digest])

    async def read(self, digest: str, /) -> AsyncIterator[bytes]:
        data = self.kept[digest]
        for start in range(0, len(data), 65536):
            yield data[start : start + 65536]

    async def put(self, chunks: AsyncIterable[bytes], digest: str, /) -> None:
        try:
            data = b"".join([chunk async for chunk in chunks])
        except BaseException:
            self.broken_off.set()
            raise
        if hashlib.sha256(data).hexdigest() != digest:
            raise InvalidRequest(f"cannot keep blob {digest}: its bytes have another SHA-256")
        self.kept[digest] = data


@dataclass
class FakePlatform:
    """All of it."""

    calls: FakeCalls = field(default_factory=FakeCalls)
    traffic: FakeTraffic = field(default_factory=FakeTraffic)
    retries: FakeRetries = field(default_factory=FakeRetries)
    tunings: FakeTunings = field(default_factory=FakeTunings)
    queues: FakeQueues = field(default_factory=FakeQueues)
    deploys: FakeDeploys = field(default_factory=FakeDeploys)
    runs: FakeRuns = field(default_factory=FakeRuns)
    logs: FakeLogs = field(default_factory=FakeLogs)
    nodes: FakeNodes = field(default_factory=FakeNodes)
    starts: FakeStarts = field(default_factory=FakeStarts)
    tokens: FakeTokens = field(default_factory=FakeTokens)
    blobs: FakeBlobs = field(default_factory=FakeBlobs)


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> SimpleNamespace:
        """The body as an object, its fields as attributes."""
        return json.loads(self.body, object_hook=lambda fields: SimpleNamespace(**fields))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))


@dataclass
class Api:
    """The gateway, reachable both ways."""

    platform: FakePlatform
    gateway: Gateway
    server: HttpServer
    path: Path
    port: int
    serving: asyncio.Task[None]

    async def ask(self, method: str, path: str, body: bytes | str | None = None, **headers: str) -> Reply:
        """One request over the unix socket."""
        return await asyncio.to_thread(self._ask, _UnixConnection(self.path), method, path, body, headers)

    async def ask_tcp(self, method: str, path: str, body: bytes | str | None = None, **headers: str) -> Reply:
        """One request over TCP; without a token unless `headers` have one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        return await asyncio.to_thread(self._ask, connection, method, path, body, headers)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare connection to the unix socket."""
        return await asyncio.open_unix_connection(self.path)

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | str | None,
        headers: Mapping[str, str],
    ) -> Reply:
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            said = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, said, answer.read())
        finally:
            connection.close()


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """The gateway with small limits, on a unix socket and on a free port."""
    platform = FakePlatform()
    limits = Limits(frame_bytes=1_000_000, json_bytes=400_000, blob_bytes=1_000_000)
    gateway = build(platform, Options(hosts=Hosts.of("127.0.0.1", ("relight.example",)), limits=limits))
    server = HttpServer(gateway, Serving(max_connections=20, stop_seconds=2))
    local, tcp = socket.socket(socket.AF_UNIX), socket.socket()
    local.bind(str(tmp_path / "s"))
    tcp.bind(("127.0.0.1", 0))
    for one in (local, tcp):
        one.listen()
    port = tcp.getsockname()[1]
    serving = asyncio.create_task(server.serve([local, tcp]))
    yield Api(platform, gateway, server, tmp_path / "s", port, serving)
    server.stop()
    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(serving, 10)
