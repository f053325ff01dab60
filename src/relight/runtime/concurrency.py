"""Several calls at once in one worker: `async def` as tasks of the worker's loop, all else in threads.

    Run ▶ ( gathered ▶ ) running ▶ Ended

The main thread runs the loop, and it alone reads and writes the channel: no interrupt cuts a message.  A call is stopped by
cancelling its task, or by raising in its thread.  Of a batch, one call is ended while the others go on; once all of them are
to stop, what runs the batch is stopped.  What does not let itself be stopped is killed with its worker by the agent.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from relight.protocol.calls import CallEvent
from relight.protocol.channel import Began, Ended, Interrupt, Item, Load, Recall, Run, Stop
from relight.protocol.errors import ProtocolError
from relight.protocol.inside import inside
from relight.protocol.payload import Payload
from relight.protocol.values import dump_result
from relight.runtime.attempt import Callees, Loop, Prepared, Result, failure_from, interrupted, succeeded
from relight.runtime.batching import Gathering, Rule, apart, check_fit, together
from relight.runtime.calloutput import CallOutput
from relight.runtime.channel import Channel, ChannelClosed, Received
from relight.runtime.generators import Items, makes_items
from relight.runtime.interrupts import CallInterrupted, Interrupts
from relight.runtime.native import raise_in
from relight.runtime.sealed import sealed
from relight.runtime.tokens import TokenReports

_RAISES_AT = 2
"""The first ring lets the loop cancel the task, which is better; the second comes when it has not."""


@dataclass(slots=True, eq=False)
class Call:
    """One call that is here.  `stop` stops what runs it; `room` is set when its generator may go on."""

    order: Run
    descriptor: int | None
    room: asyncio.Event
    reason: CallEvent | None = None
    stop: Callable[[], object] | None = None
    batch: Batch | None = None
    rings: int = 0
    is_over: bool = False

    @property
    def id(self) -> str:
        """The call's own."""
        return self.order.call

    def raise_if_stopped(self) -> None:
        """Raise CallInterrupted when it is to stop."""
        if self.reason is not None:
            raise CallInterrupted(self.id)


@dataclass(slots=True, eq=False)
class Batch:
    """Calls that run as one."""

    calls: Sequence[Call]
    results: dict[str, Result] = field(default_factory=dict)
    stop: Callable[[], object] | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for what it gives."""
        return any(call.reason is None and not call.is_over for call in self.calls)


@dataclass(frozen=True, slots=True)
class Desk:
    """What a worker has of its own: the way to its agent, its signals, its pipes, what is to be told of tokens."""

    channel: Channel
    interrupts: Interrupts
    output: CallOutput
    tokens: TokenReports


class Crowd:
    """Runs the calls of one loaded function together."""

    def __init__(self, order: Load, callees: Callees, desk: Desk, loop: Loop) -> None:
        self._callees = callees
        self._channel = desk.channel
        self._interrupts = desk.interrupts
        self._output = desk.output
        self._tokens = desk.tokens
        self._loop = loop.made()
        self._left: asyncio.Future[None] = self._loop.create_future()
        self._threads = ThreadPoolExecutor(order.max_inputs, thread_name_prefix="relight.call")
        self._calls: dict[str, Call] = {}
        self._tasks: dict[asyncio.Task[None], Call | Batch] = {}
        self._granted = threading.Condition()
        self._is_leaving = False
        self._is_busy = False
        self._gatherings: dict[str, Gathering[Call]] = {
            method: Gathering(
                Rule(size=size, wait_seconds=seconds, most=order.max_inputs),
                self._begin_batch,
                self._loop.time,
                self._loop.call_later,
            )
            for method, size, seconds in order.batches
        }

    def serve(self) -> None:
        """Run calls until told to leave, and none is left.  Raises ChannelClosed and ProtocolError."""
        self._loop.add_reader(self._channel.fileno(), self._hear)
        self._interrupts.hand_over(ring=self._ring, leave=partial(self._loop.call_soon_threadsafe, self._leave))
        self._hear()  # what came with the order to load
        try:
            self._loop.run_until_complete(self._left)
        finally:
            self._loop.remove_reader(self._channel.fileno())
            self._threads.shutdown(wait=False)

    # -- the agent speaks

    def _hear(self) -> None:
        self._is_busy = True
        try:
            for received in self._channel.take():
                self._take(received)
        except (ChannelClosed, ProtocolError) as error:
            self._loop.remove_reader(self._channel.fileno())
            if not self._left.done():
                self._left.set_exception(error)
        finally:
            self._is_busy = False
        for call in self._calls.values():
            call.room.set()
        with self._granted:
            self._granted.notify_all()

    def _take(self, received: Received) -> None:
        message = received.message
        if isinstance(message, Run):
            self._begin(Call(message, received.descriptor, asyncio.Event()))
        elif isinstance(message, Interrupt):
            self._stop(message)
        elif isinstance(message, Stop):
            self._leave()
        elif not isinstance(message, Recall):  # all that has come has begun
            raise ProtocolError(f"cannot go on: a {type(message).__name__} came where a call was expected")

    def _ring(self) -> None:
        """A signal: a task that holds the loop up keeps it from hearing.  At the second, it is raised in that task."""
        task = asyncio.current_task(self._loop)
        if task is None or self._is_busy:
            return
        self._hear()
        held = self._tasks.get(task)
        call = held.calls[0] if isinstance(held, Batch) else held
        if call is None or call.reason is None or (isinstance(held, Batch) and held.is_wanted):
            return
        call.rings += 1
        if call.rings == _RAISES_AT:
            raise CallInterrupted(call.id)

    def _leave(self) -> None:
        self._is_leaving = True
        if not self._calls and not self._left.done():
            self._left.set_result(None)

    # -- a call

    def _begin(self, call: Call) -> None:
        self._calls[call.id] = call
        gathering = self._gatherings.get(call.order.method)
        if gathering is not None:
            gathering.add(call)
        else:
            self._start(self._run(call), call)

    def _start(self, work: Coroutine[Any, Any, None], held: Call | Batch) -> None:
        task = self._loop.create_task(work)
        self._tasks[task] = held
        task.add_done_callback(self._tasks.pop)

    def _stop(self, order: Interrupt) -> None:
        call = self._calls.get(order.call)
        if call is None or call.reason is not None:
            return
        call.reason = order.reason
        gathering = self._gatherings.get(call.order.method)
        if gathering is not None and gathering.remove(call):
            self._end(call, interrupted(call.id, call.reason))
        elif call.batch is None:
            _halt(call)
        elif call.batch.is_wanted:
            self._end(call, interrupted(call.id, call.reason))
        else:
            _halt(call.batch)

    async def _run(self, call: Call) -> None:
        inside.begin_here(call.id)
        call.stop = _current().cancel
        try:
            result = self._made(call, await self._payload(call))
        except BaseException as error:  # noqa: BLE001 - the boundary of user code: whatever it raises is the call's end
            result = self._raised(call, error)
        self._callees.forget_files()
        self._end(call, result)

    def _made(self, call: Call, made: Payload | Raised) -> Result:
        if isinstance(made, Raised):
            return self._raised(call, made.error)
        return succeeded(call.id, made) if call.reason is None else interrupted(call.id, call.reason)

    async def _payload(self, call: Call) -> Payload | Raised:
        call.raise_if_stopped()
        function = self._callees.find(call.order.method)
        if inspect.isasyncgenfunction(function):
            prepared = self._callees.prepare(call.order, call.descriptor)
            await self._send_items(call, prepared.function(*prepared.args, **prepared.kwargs), prepared.say)
            return dump_result(None, call.order.accept)
        if inspect.iscoroutinefunction(function):
            prepared = self._callees.prepare(call.order, call.descriptor)
            value = await prepared.function(*prepared.args, **prepared.kwargs)
            return dump_result(prepared.say(value), call.order.accept)
        made = await self._in_thread(call, partial(self._call_plain, call))
        if isinstance(made, _Unfinished):
            return dump_result(made.say(await made.value), call.order.accept)
        payload: Payload | Raised = made
        return payload

    def _call_plain(self, call: Call) -> Payload | _Unfinished:
        """In a thread."""
        function, args, kwargs, say = self._callees.prepare(call.order, call.descriptor)
        if makes_items(function):
            Items(_Gate(self, call), _NoLoop()).send_all(call.order, function(*args, **kwargs), say)
            return dump_result(None, call.order.accept)
        value = function(*args, **kwargs)
        return _Unfinished(value, say) if inspect.iscoroutine(value) else dump_result(say(value), call.order.accept)

    def _raised(self, call: Call, error: BaseException) -> Result:
        if call.reason is not None:
            return interrupted(call.id, call.reason, error)
        return self._callees.failed(call.order, error)

    def _end(self, call: Call, result: Result) -> None:
        """Say how a call ended; once for each."""
        if call.is_over:
            _close(result.descriptors)
            return
        call.is_over = True
        del self._calls[call.id]
        self._channel.forget(call.id)
        self._output.end(call.id)
        for tokens in self._tokens.take():
            self.send(tokens)
        self.send(result.ended, result.descriptors)
        if self._is_leaving:
            self._leave()

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        """Tell the agent, on the loop's thread; the descriptors are closed here."""
        self._is_busy = True
        try:
            self._channel.send(message, descriptors)
        except ChannelClosed as error:
            if not self._left.done():
                self._left.set_exception(error)
        finally:
            self._is_busy = False
            _close(descriptors)

    async def _in_thread(self, held: Call | Batch, work: Callable[[], Any]) -> Any:
        """What `work` gives, or a `Raised`, from a thread of its own, in this context."""
        thread = _Thread()
        held.stop, before = thread.stop, held.stop
        context = contextvars.copy_context()
        made = await self._loop.run_in_executor(self._threads, context.run, thread.run, work)
        held.stop = before
        return made

    # -- generators

    async def _send_items(self, call: Call, made: AsyncGenerator[Any, None], say: Callable[[Any], Any]) -> None:
        number = 1
        try:
            async for value in made:
                call.raise_if_stopped()
                payload, descriptors = sealed(dump_result(say(value), call.order.accept))
                self.send(Item(call=call.id, number=number, payload=payload), descriptors)
                number += 1
                while self._channel.granted(call.id) < number:
                    call.room.clear()
                    await call.room.wait()
        finally:
            await made.aclose()

    def send_from_thread(self, message: object, descriptors: Sequence[int]) -> None:
        """The same as `send`, later; the descriptors stay the caller's."""
        copies = [os.dup(descriptor) for descriptor in descriptors]
        self._loop.call_soon_threadsafe(self.send, message, copies)

    def wait_granted(self, call: Call, items: int) -> None:
        """Return, in a thread, when a call may make so many items.  Raises CallInterrupted when it is to stop."""
        with self._granted:
            while self._channel.granted(call.id) < items:
                call.raise_if_stopped()
                self._granted.wait()

    # -- batches

    def _begin_batch(self, calls: Sequence[Call]) -> None:
        batch = Batch(calls)
        for call in calls:
            call.batch = batch
        self.send(Began(calls=tuple(call.id for call in calls)))
        self._start(self._run_batch(batch), batch)

    async def _run_batch(self, batch: Batch) -> None:
        method = batch.calls[0].order.method
        inside.write_here_for(batch.calls[0].id)
        batch.stop = _current().cancel
        error: BaseException | None = None
        try:
            if not batch.is_wanted:
                raise CallInterrupted(batch.calls[0].id)
            if inspect.iscoroutinefunction(self._callees.find(method)):
                ready = self._prepare(batch)
                if ready:
                    self._share(batch, ready, await _call_together(ready))
            else:
                made = await self._in_thread(batch, partial(self._call_batch, batch))
                error = made.error if isinstance(made, Raised) else None
        except BaseException as raised:  # noqa: BLE001 - the boundary of user code: it is the end of all that are left
            error = raised
        for call in batch.calls:
            contextvars.copy_context().run(self._end_of_batch, call, batch.results.get(call.id), error)
        self._gatherings[method].over()

    def _end_of_batch(self, call: Call, result: Result | None, error: BaseException | None) -> None:
        inside.begin_here(call.id)
        self._callees.forget_files()
        if call.reason is not None:
            _close(result.descriptors if result is not None else ())
            self._end(call, interrupted(call.id, call.reason, error))
        elif result is not None:
            self._end(call, result)
        else:
            assert error is not None, "who has no result has that"
            self._end(call, self._callees.failed(call.order, error))

    def _call_batch(self, batch: Batch) -> None:
        """In a thread."""
        ready = self._prepare(batch)
        if ready:
            function = ready[0][1].function
            args, kwargs = together(function, [(one.args, one.kwargs) for _, one in ready])
            self._share(batch, ready, function(*args, **kwargs))

    def _prepare(self, batch: Batch) -> list[tuple[Call, Prepared]]:
        """Those of a batch that can be called; of the others it is the end."""
        ready: list[tuple[Call, Prepared]] = []
        for call in batch.calls:
            made = contextvars.copy_context().run(self._prepare_one, call)
            if isinstance(made, Prepared):
                ready.append((call, made))
            else:
                batch.results[call.id] = made
        return ready

    def _prepare_one(self, call: Call) -> Prepared | Result:
        inside.begin_here(call.id)
        try:
            prepared = self._callees.prepare(call.order, call.descriptor)
            check_fit(*prepared[:3])
        except Exception as error:  # noqa: BLE001 - arguments are rebuilt by the user's code: it is this call's end
            return self._callees.failed(call.order, error)
        return prepared

    def _share(self, batch: Batch, ready: Sequence[tuple[Call, Prepared]], returned: Any) -> None:
        """Give each call its own of what the batch returned."""
        values = apart(ready[0][1].function, returned, len(ready))
        for (call, prepared), value in zip(ready, values, strict=True):
            batch.results[call.id] = self._result(call, prepared, value)

    def _result(self, call: Call, prepared: Prepared, value: Any) -> Result:
        try:
            if not isinstance(value, BaseException):
                return succeeded(call.id, dump_result(prepared.say(value), call.order.accept))
            failure = failure_from(value)
        except Exception as error:  # noqa: BLE001 - a result is taken apart by the user's code: it is this call's end
            failure = failure_from(error)
        return Result(Ended(call=call.id, outcome=CallEvent.FAILED, failure=failure))


@dataclass(frozen=True, slots=True)
class Raised:
    """What came out of a thread: no coroutine may raise a StopIteration, say."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class _Unfinished:
    """A plain function's coroutine, to be awaited on the loop."""

    value: Coroutine[Any, Any, Any]
    say: Callable[[Any], Any]


class _Thread:
    """User code in a thread, and the way to raise in it: while it runs, and neither before nor after."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ident: int | None = None
        self._is_stopped = False

    def run(self, work: Callable[[], Any]) -> Any:
        """What it gives, or a `Raised`."""
        try:
            try:
                self._enter()
                return work()
            finally:
                self._exit()
        except BaseException as error:  # noqa: BLE001 - the boundary of user code
            self._exit()  # the interrupt may have come in the middle of the first
            return Raised(error)

    def stop(self) -> None:
        """Raise CallInterrupted in it, once."""
        with self._lock:
            if self._ident is not None and not self._is_stopped:
                raise_in(self._ident, CallInterrupted)
            self._is_stopped = True

    def _enter(self) -> None:
        with self._lock:
            if self._is_stopped:
                raise CallInterrupted
            self._ident = threading.get_ident()

    def _exit(self) -> None:
        with self._lock:
            if self._ident is not None and self._is_stopped:
                raise_in(self._ident, None)
            self._ident = None


class _Gate:
    """What lets a generator in a thread go on."""

    def __init__(self, crowd: Crowd, call: Call) -> None:
        self._crowd = crowd
        self._call = call

    @property
    def reason(self) -> CallEvent | None:
        return self._call.reason

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        self._crowd.send_from_thread(message, descriptors)

    def wait_grant(self, _call: str, items: int) -> None:
        self._crowd.wait_granted(self._call, items)


class _NoLoop:
    """Plain generators leave nothing to await."""

    def run(self, value: Any) -> Any:
        return value


async def _call_together(ready: Sequence[tuple[Call, Prepared]]) -> Any:
    function = ready[0][1].function
    args, kwargs = together(function, [(one.args, one.kwargs) for _, one in ready])
    return await function(*args, **kwargs)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _current() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None, "it runs"
    return task


def _halt(held: Call | Batch) -> None:
    if held.stop is not None:
        held.stop()
