"""An app run in this very process: no server, no workers, so that a breakpoint in a function is one here.

`Here` answers the requests of the SDK as a server would, and runs each call where and when somebody asks how it stands:
in the caller's own thread, arguments and results through the same bytes as on their way to a worker.  What a function
raises comes out as it is, with its own frames.  What it lacks is everything below: sandboxes, limits, time-outs, retries.

    with running_here(app):
        square.remote(7)
"""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field, replace
from threading import Condition
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from relight.clock import SystemClock
from relight.protocol.api import Await, CallViews, Cancel, Items, ReadItems, Submit
from relight.protocol.binding import parse_binding, values_of
from relight.protocol.calls import CallRequest, CallState, CallView
from relight.protocol.codec import pack, unpack
from relight.protocol.errors import Failure, InvalidRequest, NotFound, RelightError, failure_of
from relight.protocol.inside import EXIT, HOOK, PARAMETERS, RAW, inside
from relight.protocol.manifest import Json
from relight.protocol.payload import Payload
from relight.protocol.values import dump_result, load_input
from relight.sdk.concurrency import batching_of, only
from relight.sdk.connection import Connection
from relight.sdk.http import Address
from relight.sdk.requests import Reply, Request
from relight.sdk.session import Session
from relight.sdk.steps import Steps

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

A = TypeVar("A")
R = TypeVar("R")

ENVIRONMENT = "local"
_END = object()
_CHOSEN: ContextVar[bool] = ContextVar("relight_local", default=False)


class HasFunctions(Protocol):
    """An app, as far as its calls need it."""

    name: str

    @property
    def functions(self) -> Mapping[str, object]:
        """Its functions, by name."""

    @property
    def classes(self) -> Mapping[str, type]:
        """Its classes, by name."""

    def using(self, session: Session, /) -> AbstractContextManager[None]:
        """The time in which its calls go where this session leads."""


AnApp = TypeVar("AnApp", bound=HasFunctions)


@contextmanager
def chosen() -> Iterator[None]:
    """The time in which `app.run()` runs apps in this process."""
    token = _CHOSEN.set(True)
    try:
        yield
    finally:
        _CHOSEN.reset(token)


def is_chosen() -> bool:
    """Whether `app.run()` shall run apps in this process."""
    return _CHOSEN.get()


@contextmanager
def running_here(app: AnApp) -> Iterator[AnApp]:
    """The time in which an app's calls run in this process.  Calls that nobody fetched run when it ends."""
    here = Here(app)
    try:
        with app.using(LocalSession(here.connection(), app.name, ENVIRONMENT, here=here)):
            yield app
            here.run_all()
    finally:
        here.close()


@dataclass(slots=True)
class LocalSession(Session):
    """A session whose calls run here: what they raise is raised as it is."""

    here: Here | None = None

    def outcome(self, view: CallView) -> Steps[Any]:
        """What an ended call returned; raises the very exception it raised."""
        error = self.here.errors.get(view.id) if self.here is not None else None
        if error is not None:
            raise error
        return (yield from Session.outcome(self, view))


@dataclass(slots=True)
class _Generator:
    """A generator that has begun; an asynchronous one keeps the loop it began on, unless its reader brings one."""

    items: Any
    loop: AbstractEventLoop | None = None

    def close(self) -> None:
        """Let it leave."""
        if inspect.isgenerator(self.items):
            self.items.close()
        if self.loop is not None:
            _in_a_thread_without_loop(self._end_loop, self.loop)
            self.loop = None

    def _end_loop(self, loop: AbstractEventLoop) -> None:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class Finish(Protocol):
    """Runs a coroutine to its end, and gives what it returned; one of a generator on that generator's loop."""

    def __call__(self, work: Coroutine[Any, Any, Any], generator: _Generator | None = None, /) -> Any: ...


@dataclass(slots=True)
class Here:
    """The calls of one app in this process."""

    app: HasFunctions
    errors: dict[str, Exception] = field(default_factory=dict)
    _waiting: dict[str, CallRequest] = field(default_factory=dict)
    _views: dict[str, CallView] = field(default_factory=dict)
    _generators: dict[str, _Generator] = field(default_factory=dict)
    _objects: dict[tuple[str, str], Any] = field(default_factory=dict)
    _blobs: dict[str, bytes] = field(default_factory=dict)
    _ended: int = 0
    _changed: Condition = field(default_factory=Condition)

    def connection(self) -> Connection:
        """The way here."""

        async def open_line(_address: Address) -> _Line:
            return _Line(self)

        address = Address(path="(this process)")
        return Connection(address, open_http=lambda _address: _Wire(self), open_line=open_line)

    def run_all(self) -> None:
        """Run what was submitted and never asked about."""
        while self._waiting:
            self._run(next(iter(self._waiting)), _finish)

    def close(self) -> None:
        """Let the objects of classes leave: run their `@exit` methods."""
        for made in self._objects.values():
            for name in dict.fromkeys(name for kind in reversed(type(made).__mro__) for name in vars(kind)):
                if getattr(inspect.getattr_static(type(made), name, None), HOOK, None) == EXIT:
                    left = getattr(made, name)()
                    if inspect.iscoroutine(left):
                        _finish(left)
        self._objects.clear()

    # -- what is asked

    def answer(self, request: Request, finish: Finish) -> Reply:
        """Run what must have run before this can be answered, then answer it."""
        try:
            return self._answer(request, finish)
        except RelightError as error:
            problem = {"code": error.code, "detail": str(error), "status": error.status}
            return Reply(
                status=error.status, content_type="application/problem+json", body=json.dumps(problem).encode()
            )

    def _answer(self, request: Request, finish: Finish) -> Reply:
        parts = request.path.partition("?")[0].split("/")[2:]
        if parts == ["calls"]:
            return self._submit(unpack(request.body, Submit), finish)
        if parts == ["calls", "wait"]:
            return self._wait(unpack(request.body, Await), finish)
        if parts == ["calls", "items"]:
            return self._items(unpack(request.body, ReadItems), finish)
        if parts == ["calls", "cancel"]:
            return self._cancel(unpack(request.body, Cancel))
        if parts[0] == "calls" and parts[-1] == "cancel":
            return self._cancel(Cancel(ids=(parts[1],)))
        if parts[0] == "calls" and parts[-1] == "tree":
            return _json({"tree": self._tree(self._known(parts[1]))})
        if parts[0] == "apps" and parts[-1] == "stats":
            return _json({"backlog": len(self._waiting), "running": 0, "workers": 0})
        if parts[0] == "blobs":
            return self._blob(request, parts[1])
        raise InvalidRequest(
            f"cannot {request.method} {request.path} here: an app that runs in this process has no server; run it without --local"
        )

    def _submit(self, message: Submit, finish: Finish) -> Reply:
        for request in message.calls:
            if request.app != self.app.name:
                raise NotFound(
                    f"cannot call {request.app!r} from here: only {self.app.name!r} runs in this process; leave --local out"
                )
            self._waiting[request.id] = request
            self._views[request.id] = _view(request)
        if message.wait_seconds:
            for request in message.calls:
                self._run(request.id, finish)
        return _frame(CallViews(calls=tuple(self._views[one.id] for one in message.calls)))

    def _wait(self, query: Await, finish: Finish) -> Reply:
        if query.group:
            if query.wait_seconds and not self._group(query):
                asked = next((one.id for one in self._waiting.values() if one.group == query.group), None)
                if asked is not None:
                    self._run(asked, finish)
                self._wait_until(lambda: bool(self._group(query)), query.wait_seconds)
            return _frame(CallViews(calls=self._group(query)))
        if query.wait_seconds and not any(self._known(call).state.is_final for call in query.ids):
            self._run(query.ids[0], finish)
            self._wait_until(lambda: any(self._known(call).state.is_final for call in query.ids), query.wait_seconds)
        return _frame(CallViews(calls=tuple(self._known(call) for call in query.ids)))

    def _wait_until(self, is_so: Callable[[], bool], seconds: float) -> None:
        """Another thread may run what is waited for: several calls of an event loop do."""
        with self._changed:
            self._changed.wait_for(is_so, seconds)

    def _items(self, query: ReadItems, finish: Finish) -> Reply:
        self._known(query.call)
        request = self._waiting.pop(query.call, None)
        if request is not None:
            self._begin(request)
        generator = self._generators.get(query.call)
        item = _END if generator is None else self._next(query.call, generator, finish)
        items = () if item is _END else (dump_result(item, ("pickle5",)),)
        return _frame(Items(call=self._views[query.call], items=items))

    def _cancel(self, message: Cancel) -> Reply:
        named = set(message.ids) | {view.id for view in self._views.values() if view.group == (message.group or None)}
        ended = [call for call in named if call in self._views and not self._views[call].state.is_final]
        for call in ended:
            self._end(
                call,
                CallState.CANCELLED,
                failure=Failure(
                    code="cancelled", message="cannot finish the call: it was cancelled; call again to have a result"
                ),
            )
        return _json({"cancelled": len(ended)})

    def _blob(self, request: Request, digest: str) -> Reply:
        if request.method == "PUT":
            self._blobs[digest] = request.body
            return Reply(status=201)
        if digest not in self._blobs:
            raise NotFound(f"cannot find blob {digest}: it is not kept here; store it first")
        return Reply(status=200, body=self._blobs[digest] if request.method == "GET" else b"")

    def _group(self, query: Await) -> tuple[CallView, ...]:
        found = [view for view in self._views.values() if view.group == query.group and view.sequence > query.after]
        return tuple(sorted((view for view in found if view.state.is_final), key=lambda view: view.sequence))

    def _known(self, call: str) -> CallView:
        if call not in self._views:
            raise NotFound(f"cannot find call {call!r}: it was not made in this process; run without --local")
        return self._views[call]

    def _tree(self, view: CallView) -> dict[str, Json]:
        below: list[Json] = [self._tree(one) for one in self._views.values() if one.parent == view.id]
        named: dict[str, Json] = {"id": view.id, "function": view.function, "method": view.method}
        return {**named, "state": view.state.value, "children": below}

    # -- what is run

    def _run(self, call: str, finish: Finish) -> None:
        request = self._waiting.pop(call, None)
        if request is None:
            return
        with self._boundary(call):
            returned = self._call(request)
            if inspect.iscoroutine(returned):
                returned = finish(returned)
            if self._is_batched(request):
                returned = only(returned, request.method or request.function)
            self._end(call, CallState.SUCCEEDED, result=dump_result(returned, request.accept))

    def _begin(self, request: CallRequest) -> None:
        with self._boundary(request.id):
            self._generators[request.id] = _Generator(self._call(request))

    def _next(self, call: str, generator: _Generator, finish: Finish) -> Any:
        item = _END
        with self._boundary(call):
            if inspect.isasyncgen(generator.items):
                item = finish(_anext(generator.items), generator)
            else:
                item = next(generator.items, _END)
        if item is _END and not self._views[call].state.is_final:
            self._end(call, CallState.SUCCEEDED, result=dump_result(None, ("json",)))
        return item

    @contextmanager
    def _boundary(self, call: str) -> Iterator[None]:
        """The time in which a call's own code runs: what it calls has it as its parent, what it raises is its failure."""
        begun = inside.begin_here(call)
        try:
            yield
        except Exception as error:  # noqa: BLE001  # the boundary of one call: anything may come out of the user's code
            self._fail(call, error)
        finally:
            inside.end_here(begun)

    def _call(self, request: CallRequest) -> Any:
        args, kwargs = load_input(self._with_bytes(request.payload))
        if self._is_batched(request):  # a batch of one
            args, kwargs = tuple([one] for one in args), {name: [one] for name, one in kwargs.items()}
        if request.method:
            made = self._object(request.function, request.binding)
            return getattr(made, request.method).local(*args, **kwargs)
        found = self.app.functions.get(request.function)
        if found is None:
            raise NotFound(
                f"cannot find function {request.function!r}: app {self.app.name!r} has none of that name; decorate one"
            )
        return getattr(found, RAW)(*args, **kwargs)

    def _is_batched(self, request: CallRequest) -> bool:
        if not request.method:
            return batching_of(getattr(self.app.functions.get(request.function), RAW, None)) is not None
        marked = inspect.getattr_static(self.app.classes.get(request.function), request.method, None)
        return batching_of(getattr(marked, RAW, None)) is not None

    def _object(self, name: str, binding: str) -> Any:
        """The one object of a class and its parameters, as a worker would have."""
        kind = self.app.classes.get(name)
        if kind is None:
            raise NotFound(f"cannot find class {name!r}: app {self.app.name!r} has none of that name; decorate one")
        given = parse_binding(binding).parameters
        key = (name, repr(given))
        if key not in self._objects:
            self._objects[key] = kind(**values_of(getattr(kind, PARAMETERS, ()), given))
        return self._objects[key]

    def _with_bytes(self, payload: Payload) -> Payload:
        return payload if payload.data is not None else replace(payload, data=self._blobs[payload.blob])

    def _fail(self, call: str, error: Exception) -> None:
        self.errors[call] = error
        failure = (
            failure_of(error)
            if isinstance(error, RelightError)
            else Failure(code="function_failed", message=str(error))
        )
        self._end(call, CallState.FAILED, failure=failure)

    def _end(
        self, call: str, state: CallState, *, result: Payload | None = None, failure: Failure | None = None
    ) -> None:
        self._waiting.pop(call, None)
        generator = self._generators.pop(call, None)
        if generator is not None:
            generator.close()
        now = SystemClock().now()
        with self._changed:
            self._ended += 1
            self._views[call] = replace(
                self._views[call], state=state, result=result, failure=failure, sequence=self._ended, ended_at=now
            )
            self._changed.notify_all()


class _Wire:
    """The way here by blocking: no wire at all."""

    def __init__(self, here: Here) -> None:
        self._here = here
        self._sent: list[Request] = []

    def exchange(self, request: Request) -> Reply:
        return self._here.answer(request, _finish)

    def send(self, request: Request) -> None:
        self._sent.append(request)

    def receive(self) -> Reply:
        return self.exchange(self._sent.pop(0))

    def lines(self, request: Request) -> Iterator[bytes]:
        raise InvalidRequest(
            f"cannot read {request.path} here: an app that runs in this process has no server; run it without --local"
        )

    def close(self) -> None:
        """Nothing is open."""

    def shut_down(self) -> None:
        """Nothing is open."""


class _Line:
    """The way here on an event loop, in a thread beside it: its calls run while the loop goes on."""

    is_open = True

    def __init__(self, here: Here) -> None:
        self._here = here

    async def exchange(self, request: Request) -> Reply:
        from asyncio import get_running_loop, run_coroutine_threadsafe, to_thread

        loop = get_running_loop()

        def finish(work: Coroutine[Any, Any, Any], _generator: _Generator | None = None, /) -> Any:
            return run_coroutine_threadsafe(work, loop).result()

        return await to_thread(self._here.answer, request, finish)

    def close(self) -> None:
        """Nothing is open."""


def _finish(work: Coroutine[Any, Any, Any], generator: _Generator | None = None, /) -> Any:
    """Run a coroutine to its end by blocking."""
    import asyncio

    if generator is None:
        return _in_a_thread_without_loop(asyncio.run, work)
    if generator.loop is None:
        generator.loop = asyncio.new_event_loop()
    return _in_a_thread_without_loop(generator.loop.run_until_complete, work)


def _in_a_thread_without_loop(run: Callable[[A], R], argument: A) -> R:
    """This thread, unless a loop runs in it: then another, while this one waits."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run(argument)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(copy_context().run, run, argument).result()


async def _anext(items: AsyncIterator[Any]) -> Any:
    return await anext(items, _END)


def _view(request: CallRequest) -> CallView:
    return CallView(
        id=request.id,
        app=request.app,
        environment=request.environment,
        version=ENVIRONMENT,
        function=request.function,
        method=request.method,
        group=request.group,
        parent=request.parent,
        submitted_at=SystemClock().now(),
    )


def _frame(message: object) -> Reply:
    return Reply(status=200, body=pack(message))


def _json(value: Json) -> Reply:
    return Reply(status=200, body=json.dumps(value).encode())
