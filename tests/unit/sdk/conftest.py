"""A platform in a few lines: it keeps calls and runs them here, in the caller's own process, when asked how they stand.

It speaks through the same requests and replies as a server; what it lacks is everything below them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import queue
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from relight.protocol.api import (
    MEDIA_TYPE,
    Await,
    CallViews,
    Cancel,
    Deploy,
    Deployed,
    Items,
    ReadItems,
    Submit,
)
from relight.protocol.calls import CallRequest, CallState, CallView
from relight.protocol.codec import pack, to_plain, unpack
from relight.protocol.errors import Failure, NotFound, RelightError
from relight.protocol.payload import INLINE_BYTES, Payload
from relight.protocol.values import dump_exception, dump_result, load_input
from relight.protocol.views import LogRecord
from relight.sdk.connection import Connection
from relight.sdk.http import Address, Unreachable
from relight.sdk.requests import Reply, Request


@dataclass
class Platform:
    """`functions` are what calls run.  `down` replies to come are cut off, each before or after it was heard."""

    functions: dict[str, Callable[..., Any]] = field(default_factory=dict)
    calls: dict[str, CallView] = field(default_factory=dict)
    waiting: dict[str, CallRequest] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    deploys: list[Deploy] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    stops: list[tuple[str, bool]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    is_stuck: bool = False
    reason: str = ""
    seconds: float = 0.0
    streams: dict[str, queue.Queue[bytes]] = field(default_factory=dict)
    most_unfinished: int = 0
    lines_opened: int = 0
    at_once: int = 0
    most_at_once: int = 0
    hearing: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    cancels: list[Cancel] = field(default_factory=list)
    given: dict[str, list[Payload]] = field(default_factory=dict)
    generators: dict[str, Iterator[Payload]] = field(default_factory=dict)

    def connection(self) -> Connection:
        return Connection(
            Address(path="/nowhere"),
            clock=self,
            pause=self.pause,
            open_http=lambda _: Wire(self),
            open_line=self.open_line,
        )

    async def open_line(self, _address: Address) -> AsyncWire:
        self.lines_opened += 1
        return AsyncWire(self)

    # -- the clock

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await a_turn()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return once what was asked makes it so."""
        while not is_so():
            self.asked.clear()
            await self.asked.wait()

    def pause(self, seconds: float) -> None:
        self.seconds += seconds

    # -- the server

    def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        self.asked.set()
        try:
            return self._route(request)
        except RelightError as error:
            said = {"code": error.code, "detail": str(error), "status": error.status}
            return Reply(status=error.status, content_type="application/problem+json", body=json.dumps(said).encode())

    def log(self, run: str, **fields: Any) -> None:
        record = LogRecord(
            **{"at": 1.0, "app": "app", "environment": run, "function": "f", "worker": "w", "call": "c", **fields}
        )
        self.stream(run).put(json.dumps({"log": to_plain(record)}).encode() + b"\n")

    def stream(self, run: str) -> queue.Queue[bytes]:
        return self.streams.setdefault(run, queue.Queue())

    def _route(self, request: Request) -> Reply:
        parts = request.path.split("?")[0].split("/")[2:]
        if (request.method, parts) == ("POST", ["calls"]):
            return self._submit(unpack(request.body, Submit))
        if (request.method, parts) == ("POST", ["calls", "wait"]):
            return self._wait(unpack(request.body, Await))
        if parts == ["calls", "cancel"]:
            return self._cancel_all(unpack(request.body, Cancel))
        if parts == ["calls", "items"]:
            return self._items(unpack(request.body, ReadItems))
        if parts[0] == "calls" and parts[-1] == "cancel":
            self._cancel(parts[1])
            return Reply(status=200, body=b"{}")
        if parts[0] == "calls" and parts[-1] == "tree":
            return Reply(status=200, body=json.dumps({"tree": self._tree(self._known(parts[1]))}).encode())
        if parts[0] == "apps" and parts[-1] == "stats":
            return Reply(
                status=200, body=json.dumps({"backlog": len(self.waiting), "running": 0, "workers": 2}).encode()
            )
        if parts == ["deploys"]:
            deploy = unpack(request.body, Deploy)
            self.deploys.append(deploy)
            return frame(Deployed(version="v1", app=deploy.manifest.app, environment=deploy.environment))
        if parts[0] == "blobs":
            return self._blob(request, parts[1])
        if parts[0] == "runs" and parts[2] == "stop":
            return self._stop(parts[1], json.loads(request.body)["cancel"])
        raise NotFound(f"no such path: {request.path}")

    def _submit(self, message: Submit) -> Reply:
        for call in message.calls:
            if call.id in self.calls:
                assert message.is_again, "asked twice without saying so"
                continue
            self.waiting[call.id] = call
            self.calls[call.id] = CallView(
                id=call.id,
                app=call.app,
                environment=call.environment,
                version="v1",
                function=call.function,
                group=call.group,
                parent=call.parent,
                pending_reason=self.reason,
            )
        self.most_unfinished = max(self.most_unfinished, len(self.waiting))
        if message.wait_seconds:
            self._work()
        return frame(CallViews(calls=tuple(self.calls[call.id] for call in message.calls)))

    def _wait(self, query: Await) -> Reply:
        self._work()
        if self.is_stuck:
            self.seconds += query.wait_seconds
        if query.ids:
            return frame(CallViews(calls=tuple(self.calls[call] for call in query.ids if call in self.calls)))
        ended = [view for view in self.calls.values() if view.group == query.group and view.sequence > query.after]
        return frame(CallViews(calls=tuple(sorted(ended, key=lambda v: v.sequence)), group_reason=self.reason))

    def _work(self) -> None:
        """Run what waits, the newest first: nothing may hold on to the order of ends."""
        while self.waiting and not self.is_stuck:
            _, call = self.waiting.popitem()
            self.calls[call.id] = replace(
                self._run(call), sequence=sum(v.state.is_final for v in self.calls.values()) + 1
            )

    def _run(self, call: CallRequest) -> CallView:
        view = self.calls[call.id]
        payload = call.payload
        data = self.blobs[payload.blob] if payload.data is None else None
        try:
            args, kwargs = load_input(payload, data)
            name = f"{call.function}.{call.method}" if call.method else call.function
            result = dump_result(self.functions[name](*args, **kwargs), call.accept)
        except Exception as error:  # noqa: BLE001 - whatever a call raises is its end
            return replace(view, state=CallState.FAILED, failure=failure_of_user(error))
        if result.data is not None and len(result.data) > INLINE_BYTES:
            digest = hashlib.sha256(result.data).hexdigest()
            self.blobs[digest] = result.data
            result = replace(result, data=None, blob=digest)
        return replace(view, state=CallState.SUCCEEDED, result=result, pending_reason="")

    def _cancel(self, call: str) -> None:
        if not self.calls[call].state.is_final:
            self.waiting.pop(call, None)
            self.calls[call] = replace(self.calls[call], state=CallState.CANCELLED)

    def _cancel_all(self, message: Cancel) -> Reply:
        self.cancels.append(message)
        named = [
            *message.ids,
            *(view.id for view in self.calls.values() if message.group and view.group == message.group),
        ]
        before = sum(view.state.is_final for view in self.calls.values())
        for call in named:
            if call in self.calls:
                self._cancel(call)
        return Reply(
            status=200,
            body=json.dumps({"cancelled": sum(v.state.is_final for v in self.calls.values()) - before}).encode(),
        )

    def _known(self, call: str) -> CallView:
        if call not in self.calls:
            raise NotFound(f"cannot find call {call!r}")
        return self.calls[call]

    def _tree(self, view: CallView) -> dict[str, Any]:
        said = {"id": view.id, "function": view.function, "method": view.method, "state": view.state.value}
        below = [self._tree(one) for one in self.calls.values() if one.parent == view.id]
        return {**said, "children": below}

    def _items(self, query: ReadItems) -> Reply:
        """One item for each question, as long as there are any; a generator that is stuck gives none."""
        call = query.call
        if self.is_stuck:
            self.seconds += query.wait_seconds
            return frame(Items(call=self.calls[call]))
        if call not in self.generators:
            self.generators[call] = self._yielding(self.waiting.pop(call))
        return frame(self._next_item(call, query.taken))

    def _next_item(self, call: str, taken: int) -> Items:
        given = self.given.setdefault(call, [])
        if len(given) <= taken and not self.calls[call].state.is_final:
            try:
                given.append(next(self.generators[call]))
            except StopIteration:
                self.calls[call] = replace(self.calls[call], state=CallState.SUCCEEDED)
            except LookupError as error:
                self.calls[call] = replace(self.calls[call], state=CallState.FAILED, failure=failure_of_user(error))
        return Items(call=self.calls[call], items=tuple(given[taken : taken + 1]))

    def _yielding(self, call: CallRequest) -> Iterator[Payload]:
        args, kwargs = load_input(call.payload, None)
        for item in self.functions[call.function](*args, **kwargs):
            yield dump_result(item, call.accept)

    def _blob(self, request: Request, digest: str) -> Reply:
        if request.method == "PUT":
            assert hashlib.sha256(request.body).hexdigest() == digest
            self.blobs[digest] = request.body
            return Reply(status=201)
        if digest not in self.blobs:
            raise NotFound("no such blob")
        return Reply(status=200, body=b"" if request.method == "HEAD" else self.blobs[digest])

    def _stop(self, run: str, cancel: bool) -> Reply:
        self.stops.append((run, cancel))
        left = list(self.waiting)
        if cancel or not left:
            for call in left:
                self._cancel(call)
            self.stream(run).put(b'{"event": "ended"}\n')
        return Reply(status=200, body=json.dumps({"unfinished": len(left)}).encode())


class Wire:
    """A connection to the platform, which may break: `refused` unheard, `cut` when the answer is on its way, `busy`."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._sent: deque[Request] = deque()
        self._queue: queue.Queue[bytes] = queue.Queue()

    def exchange(self, request: Request) -> Reply:
        fault = self._platform.faults.pop(0) if self._platform.faults else ""
        if fault == "refused":
            raise Unreachable("it does not answer")
        if fault == "busy":
            return Reply(status=503, body=b'{"code": "unavailable", "detail": "cannot do it: it is leaving"}')
        reply = self._platform.answer(request)
        if fault == "cut":
            raise Unreachable("the connection broke")
        return reply

    def send(self, request: Request) -> None:
        """Heard at once, told when it is asked for: or cut off, which is seen only then."""
        self._sent = deque([request])

    def receive(self) -> Reply:
        return self.exchange(self._sent.popleft())

    def lines(self, request: Request) -> Iterator[bytes]:
        self._queue = self._platform.stream(request.path.split("/")[3])
        while line := self._queue.get(timeout=20):
            yield line

    def close(self) -> None:
        pass

    def shut_down(self) -> None:
        self._queue.put(b"")


class AsyncWire:
    """The same on an event loop.  It answers a turn later, and while the platform is not `hearing` not at all."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._wire = Wire(platform)
        self.is_open = True

    async def exchange(self, request: Request) -> Reply:
        try:
            self._platform.at_once += 1
            self._platform.most_at_once = max(self._platform.most_at_once, self._platform.at_once)
            self._platform.asked.set()
            await a_turn()
            await self._platform.hearing.wait()
            return self._wire.exchange(request)
        except BaseException:
            self.is_open = False
            raise
        finally:
            self._platform.at_once -= 1

    def close(self) -> None:
        self.is_open = False


async def a_turn() -> None:
    """Let all others have their turn."""
    loop = asyncio.get_running_loop()
    turned = loop.create_future()
    loop.call_soon(turned.set_result, None)
    await turned


def failure_of_user(error: Exception) -> Failure:
    return Failure(
        code="function_failed",
        message=f"{type(error).__name__}: {error}",
        type_name=type(error).__qualname__,
        traceback="Traceback: there",
        exception=dump_exception(error, INLINE_BYTES),
    )


def frame(message: object) -> Reply:
    return Reply(status=200, content_type=MEDIA_TYPE, body=pack(message))


@pytest.fixture
def platform() -> Platform:
    platform = Platform()
    platform.hearing.set()
    return platform
