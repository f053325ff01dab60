"""One worker: from the order to start it until nothing of it is left.

Its states are those of `protocol.workers.STATES`, and each step is told with its time.  It dies of one of these, and
what is said of the calls it had follows from which:

    the process ends by itself       the call is lost (and charged): it may have been the call that did it
    a call outlives its grace        that call ends as cancelled or timed out; its neighbours are lost, uncharged
    it breaks the protocol           as if the process had ended by itself
    it is stopped                    lost, uncharged

Whatever it said before it died is heard first: an end that is in the channel counts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby

from relight.agent.attempts import (
    Attempt,
    Cancels,
    end_as_told,
    end_before_start,
    end_refused,
    end_with_worker,
    end_without_input,
    exit_of,
    start_reason,
)
from relight.agent.channel import Channel, payloads_of
from relight.agent.deliveries import Deliveries
from relight.agent.logs import Line, Output, Owners
from relight.agent.outbox import Held
from relight.agent.starter import Begun, Sandbox
from relight.agent.starts import Start
from relight.agent.surroundings import Surroundings
from relight.agent.template import Ends, failure_in, load_of
from relight.agent.turns import Turns
from relight.agent.values import check_value
from relight.protocol.calls import CallEvent, Token
from relight.protocol.channel import (
    Began,
    Ended,
    Grant,
    Interrupt,
    Item,
    LoadFailed,
    Ready,
    Recall,
    Recalled,
    Run,
    Stop,
    Tokens,
)
from relight.protocol.errors import Failure, ProtocolError, RelightError, StartFailed, Unavailable, failure_of
from relight.protocol.exits import WorkerExit
from relight.protocol.link import CallEnd, GrantItems, LogLines, RunCall, WorkerChange, WorkerSpec
from relight.protocol.manifest import Batching
from relight.protocol.starts import StartReport
from relight.protocol.workers import STATES, WorkerState
from relight.sandbox.spec import UNCOUNTED, SandboxExit

CREDIT = 128
"""How many calls may be with a worker at once, one of which runs."""

STALL_SECONDS = 0.05
"""When the one that runs takes longer, those behind it are given back: another worker may be free."""

RECALL_SECONDS = 0.2
"""What a worker has not given back by then is taken from it."""

RING_SECONDS = 0.2
"""A call that has not ended so long after it was told to is told once more: an event loop may not have heard it."""

STARTING_SECONDS = 0.01
"""How long word that it is being started waits for word that it is ready."""

READY_SECONDS = 0.002
"""How long word that it is ready, and runs a call at once, waits for that call's end."""

_log = logging.getLogger("relight.agent")
_BEFORE_SANDBOX = (WorkerState.PLACING, WorkerState.PULLING)
_BEFORE_READY = (*_BEFORE_SANDBOX, WorkerState.STARTING)


class Worker:
    """One worker.  `live` is its life; the rest are orders, which return at once."""

    def __init__(self, name: str, spec: WorkerSpec, around: Surroundings) -> None:
        self.id = name
        self.spec = spec
        self.state = WorkerState.PLACING
        self.since = around.clock.now()
        self.isolation = ""
        self.start: StartReport | None = None
        self._around = around
        self._deliveries = Deliveries(around.outbox, around.values, around.tasks, self._stop_undeliverable)
        self._attempts: dict[str, Attempt] = {}
        self._turns = Turns(spec.function.width)
        self._batched = {one.name: one.batching for one in spec.function.methods if one.batching is not None}
        self.credit = max(CREDIT, spec.function.width)
        self._stall: Cancels | None = None
        self._timers: list[Cancels] = []
        self._start_seen = Start(around.clock.monotonic)
        self._meter = around.meter(name, spec)
        self._starting: asyncio.Future[Begun] | None = None
        self._sandbox: Sandbox | None = None
        self._channel: Channel | None = None
        self._output: Output | None = None
        self._drained_at = 0
        self._verdict = ""  # why it has to end, where that is our decision: the reason of its exit
        self._failure: Failure | None = None
        self._is_leaving = False
        self._has_ended = False

    # -- orders

    def take(self, order: RunCall) -> None:
        """A call to run, after those before it, once this worker is ready; `feed` lets it begin.

        One that cannot be taken ends, uncharged.
        """
        attempt = Attempt(order=order)
        known = self._attempts.get(order.call)
        if known is not None and known.order.token == order.token:
            return  # the order was repeated
        is_up = STATES[self.state].takes_calls
        is_ending = bool(self._verdict) or self._has_ended
        if is_ending or not (is_up or self.state in _BEFORE_READY) or len(self._attempts) >= self.credit:
            why = f"worker {self.id} is {self.state.value} and has {len(self._attempts)} of {self.credit} calls"
            self._around.outbox.end(attempt.held, end_refused(attempt, why))
            return
        self._attempts[order.call] = attempt
        if is_up and self.state is not WorkerState.BUSY:
            self._enter(WorkerState.BUSY)
        if order.payload.data is None:
            attempt.is_fetching = True
            attempt.timers = (self._around.tasks.create_task(self._fetch(attempt), name=f"{self.id}.fetch"),)
        else:
            self._turns.add(attempt)

    def feed(self) -> None:
        """Give the worker what it has room for, all at once, once it is ready."""
        if self._channel is None or self.state in _BEFORE_READY:
            return
        while (attempt := self._turns.next()) is not None:
            order = attempt.order
            run = Run(
                call=order.call,
                attempt=order.attempt,
                payload=order.payload,
                method=order.method,
                accept=order.accept,
                is_behind=not self._turns.runs(attempt),
            )
            self._channel.queue(run, attempt.descriptors)
            attempt.descriptors = ()
            granted = self._deliveries.granted(attempt)
            if granted > 1:
                self._channel.queue(Grant(call=order.call, items=granted))
            rule = self._batched.get(order.method)
            if rule is not None:
                self._gather(attempt, rule)
            elif self._turns.runs(attempt):
                self._begin(attempt)
        self._channel.flush()
        self._watch()

    def cancel(self, call: str, token: Token) -> bool:
        """Interrupt an attempt; false when it is not here."""
        attempt = self._attempts.get(call)
        if attempt is None or attempt.order.token != token:
            return False
        self._interrupt(attempt, CallEvent.CANCELLED)
        return True

    def ask_back(self, call: str, token: Token) -> bool:
        """Give back a call that waits for this worker to be ready; false when it is not here."""
        attempt = self._attempts.get(call)
        if attempt is None or attempt.order.token != token:
            return False
        if self.state in _BEFORE_READY and attempt.interrupted is None:
            self._turns.leave(attempt)
            self._refuse((attempt,), f"worker {self.id} is still being started, and another is free")
        return True

    def grant(self, order: GrantItems) -> bool:
        """Let a generator make more items; false when it is not here."""
        attempt = self._attempts.get(order.call)
        if attempt is None or attempt.order.token != order.token:
            return False
        if self._deliveries.grant(attempt, order.items) and self.state not in _BEFORE_READY:
            self._send(Grant(call=order.call, items=order.items))  # lost on a worker that has not got it: see `feed`
        return True

    def stop(self, *, now: bool = False) -> None:
        """Leave: after the calls it has, or at once."""
        if self.state is WorkerState.GONE or self._verdict:
            return
        if self.state in _BEFORE_SANDBOX:
            self._leave(WorkerExit(reason="stopped"))
        elif now or self.state is WorkerState.STARTING:
            self._kill("stopped")
        elif not self._is_leaving:
            self._is_leaving = True
            self._enter(WorkerState.DRAINING)
            self._refuse(self._turns.take_waiting(), f"worker {self.id} is leaving")
            self._send(Stop())
            self._limit_leaving()

    def evict(self, why: str, words: str) -> None:
        """End it at once, as it takes what is others'; `words` tell so in its log."""
        if self.state is not WorkerState.GONE and not self._verdict:
            self._tell_system(words)
            self._kill(why)

    @property
    def pid(self) -> int:
        """Its process, as this machine sees it; 0 when that is not known."""
        return self._sandbox.pid if self._sandbox is not None and not self._has_ended else 0

    @property
    def sandbox(self) -> str:
        """The name of its control groups, "" before there are any."""
        return self._sandbox.id if self._sandbox is not None else ""

    def seal(self, *, is_last: bool = False) -> None:
        """Tell what it used since the last time."""
        counted = self._sandbox.counted() if self._sandbox is not None else UNCOUNTED
        record = self._meter.seal(counted, is_last=is_last)
        if record is not None:
            self._around.outbox.usage(record)

    def held(self) -> Iterable[Held]:
        """The attempts it has."""
        return [attempt.held for attempt in self._attempts.values()]

    # -- life

    async def live(self) -> None:
        """Returns when nothing of it is left and all of that has been told."""
        try:
            await self._live()
        finally:
            self._around.provider.release(self.id)

    async def _live(self) -> None:
        try:
            if not self._around.provider.has(self.spec):
                self._start_seen.fetch()
                self._enter(WorkerState.PULLING)
                await self._around.provider.fetch(self.spec)
            if self.state is WorkerState.GONE:
                return  # it was stopped meanwhile
            self._enter(WorkerState.STARTING)
            sandbox = await self._start()
        except (RelightError, OSError) as error:
            ending = WorkerExit(reason=self._verdict or start_reason(error))
            failure = self._failure or self._failure_of(error)
            self._tell_ending(ending)
            self._leave(ending, failure)
            return
        ending = self._wind_up(await sandbox.wait())
        await self._around.slots.wait_clear(sandbox, partial(self._tell_late, ending))
        self._leave(ending, self._failure)

    async def _start(self) -> Sandbox:
        ours, theirs = socket.socketpair()
        mark = secrets.token_hex(16)
        self._channel = Channel(ours, on_message=self._hear, on_closed=self._hear_close)
        output = self._output = Output(
            mark, Owners(self._attempts.__contains__, self._turns.running_call), self._tell_lines
        )
        self._later(self.spec.function.startup_timeout_seconds, self._give_up_start)
        ends = Ends(channel=theirs, stdout=output.stdout.writer, stderr=output.stderr.writer)
        try:
            begun = await self._begin_process(ends)
        finally:
            theirs.close()
            output.close_writers()
        self._sandbox = begun.sandbox
        self.isolation = begun.isolation
        self._start_seen.begun(begun.level, begun.why)
        if self._verdict:  # stopped before there was anything to kill
            self._end_sandbox()
        else:
            self._send(load_of(self.spec, begun.module_paths, mark=mark, platform=begun.platform))
        return begun.sandbox

    async def _begin_process(self, ends: Ends) -> Begun:
        """Start its process.  Raises Unavailable when it was told to leave while it waited for that."""
        starting = self._starting = asyncio.ensure_future(
            self._around.starter.start(self.id, self.spec, ends, self._tell_lines, self._start_seen.begin)
        )
        try:
            return await starting
        except asyncio.CancelledError:
            if not self._verdict:
                raise
            raise Unavailable(f"cannot start worker {self.id}: it was stopped; another takes its place") from None
        finally:
            self._starting = None

    def _failure_of(self, error: RelightError | OSError) -> Failure:
        """Why it could not be started; what the user's code raised is shown as Python would."""
        if not isinstance(error, RelightError):
            return failure_of(StartFailed(f"cannot start a worker: {error}"))
        failure = failure_in(error)
        self._tell_traceback(failure)
        return failure

    def _tell_traceback(self, failure: Failure) -> None:
        """Python would have written it, had nobody caught it."""
        if failure.traceback:
            self._tell_lines("stderr", [Line(text) for text in failure.traceback.rstrip().split("\n")])

    def _wind_up(self, ended: SandboxExit) -> WorkerExit:
        """Its process has ended: hear its last words, then say how."""
        self._has_ended = True
        if self._channel is not None:
            self._channel.drain()
        last_lines: tuple[str, ...] = ()
        if self._output is not None:
            self._output.close()
            last_lines = self._output.last_lines
        ending = exit_of(ended, killed_for=self._verdict, is_leaving=self._is_leaving, last_lines=last_lines)
        if self.state is WorkerState.STARTING and self._failure is None and ending.reason != "stopped":
            name = self.spec.function.name
            told = f"its worker {ending.how} while loading it{ending.last_words}; {ending.advice}"
            self._failure = failure_of(StartFailed(f"cannot start {name}: {told}"))
        self._tell_ending(ending)
        return ending

    def _tell_late(self, ending: WorkerExit) -> None:
        """Its room is not clear yet: its calls do not wait for that, and nobody gives it others."""
        if self.state is not WorkerState.DRAINING:
            detail = "it has ended, and its processes or its GPU memory are still there"
            self._enter(WorkerState.DRAINING, detail=detail)
        self._end_attempts(ending)

    def _tell_ending(self, ending: WorkerExit) -> None:
        if ending.reason != "stopped":
            self._tell_system(f"the worker ended: {ending.reason}")

    def _end_attempts(self, ending: WorkerExit) -> None:
        for attempt in tuple(self._attempts.values()):
            attempt.disarm()
            end = end_with_worker(attempt, ending, is_own_fault=self._turns.runs(attempt))
            self._deliveries.end(attempt, self._meter.ended(end))
        self._attempts.clear()

    def _leave(self, ending: WorkerExit, failure: Failure | None = None) -> None:
        self._end_attempts(ending)
        for timer in (*self._timers, *([self._stall] if self._stall else [])):
            timer.cancel()
        if self._channel is not None:
            self._channel.close()
        if self._output is not None:
            self._output.close()
        start = None if self.start is not None or ending.reason == "stopped" else self._start_seen.failed()
        self._enter(WorkerState.GONE, failure=failure, ending=ending, start=start)

    # -- one call

    async def _fetch(self, attempt: Attempt) -> None:
        try:
            if attempt.is_session:
                descriptor = await self._around.ways.open(attempt.order.payload.blob)
            else:
                descriptor = await self._around.values.fetch(attempt.order.payload.blob)
        except (RelightError, OSError) as error:
            refusal = error if isinstance(error, RelightError) else Unavailable(f"cannot fetch an input: {error}")
            is_elsewhere = attempt.is_session  # the server is away, or has given it up
            end = end_refused(attempt, str(refusal)) if is_elsewhere else end_without_input(attempt, refusal)
            self._finish(attempt, end)
            return
        attempt.is_fetching = False
        attempt.descriptors = (descriptor,)
        self._turns.add(attempt)
        self.feed()

    def _begin(self, attempt: Attempt) -> None:
        """The worker has come to it: its time runs from here."""
        attempt.disarm()
        self._meter.began(attempt.order.call)
        attempt.began = self._around.clock.monotonic()
        if attempt.interrupted is not None:
            self._limit_grace(attempt)
            return
        if not attempt.is_session:  # each of whose requests has a time of its own
            self._limit(attempt, self.spec.function.timeout_seconds)

    def _gather(self, attempt: Attempt, rule: Batching) -> None:
        """The worker has it, and says when its batch begins; a worker that never does is not waited for without end."""
        attempt.disarm()
        self._limit(attempt, 2 * self.spec.function.timeout_seconds + rule.wait_seconds)

    def _limit(self, attempt: Attempt, seconds: float) -> None:
        attempt.timers = (self._around.later(seconds, partial(self._interrupt, attempt, CallEvent.TIMED_OUT)),)

    def _watch(self) -> None:
        """See after a while whether it has gone on."""
        head = self._turns.head
        if self._stall is None and head is not None and self._turns.has_others:
            self._stall = self._around.later(STALL_SECONDS, partial(self._look, head))

    def _look(self, head: Attempt) -> None:
        self._stall = None
        if self._turns.head is not head:
            self._watch()
            return
        self._refuse(self._turns.take_waiting(), "the call before it takes long")
        if self._turns.behind:
            self._recall([self._attempts[call] for call in self._turns.behind])

    def _recall(self, attempts: Sequence[Attempt]) -> None:
        """Have the worker give back what it has not begun; what it does not, as it cannot look, is taken from it."""
        self._send(Recall(calls=tuple(attempt.order.call for attempt in attempts)))
        for attempt in attempts:
            attempt.is_recalled = True
            attempt.timers = (self._around.later(RECALL_SECONDS, partial(self._take_back, attempt)),)
        self._signal(signal.SIGUSR1)

    def _take_back(self, attempt: Attempt) -> None:
        if self._channel is not None:
            self._channel.hear()  # its turn may have come
        if self._attempts.get(attempt.order.call) is attempt and self._turns.take(attempt):
            self._give_up(attempt)

    def _give_up(self, attempt: Attempt) -> None:
        """It was given to the worker, and did not begin."""
        if attempt.interrupted is not None:
            self._finish(attempt, end_before_start(attempt, attempt.interrupted))
        else:
            self._refuse((attempt,), "the call before it takes long")

    def _refuse(self, attempts: Iterable[Attempt], why: str) -> None:
        for attempt in attempts:
            self._finish(attempt, end_refused(attempt, why))

    def _interrupt(self, attempt: Attempt, reason: CallEvent) -> None:
        """Ask the function to stop, and kill its worker if it does not."""
        if attempt.interrupted is not None:
            return
        attempt.interrupted = reason
        attempt.disarm()
        if attempt.is_fetching or self._turns.leave(attempt):
            self._finish(attempt, end_before_start(attempt, reason))
            return
        self._send(Interrupt(call=attempt.order.call, reason=reason))
        if not self._turns.runs(attempt):
            self._recall((attempt,))
            return
        self._limit_grace(attempt)
        self._signal(signal.SIGUSR1)

    def _limit_grace(self, attempt: Attempt) -> None:
        attempt.timers = (
            self._around.later(self.spec.function.grace_seconds, partial(self._outlive, attempt)),
            self._around.later(RING_SECONDS, partial(self._signal, signal.SIGUSR1)),
        )

    def _outlive(self, attempt: Attempt) -> None:
        attempt.has_outlived_grace = True
        assert attempt.interrupted is not None, "only an interrupted attempt has a grace to outlive"
        self._kill(f"killed:{attempt.interrupted.value}")

    def _finish(self, attempt: Attempt, end: CallEnd, descriptors: Sequence[int] = ()) -> None:
        attempt.disarm()
        del self._attempts[attempt.order.call]
        self._deliveries.end(attempt, self._meter.ended(end), descriptors)
        if self._attempts or self._verdict:
            return
        if self.state is WorkerState.BUSY:
            self._enter(WorkerState.IDLE)
        self._limit_leaving()

    def _stop_undeliverable(self, attempt: Attempt) -> None:
        if self._attempts.get(attempt.order.call) is attempt:
            self._interrupt(attempt, CallEvent.CANCELLED)

    # -- the worker speaks

    def _hear(self, message: object, descriptors: Sequence[int]) -> None:
        if isinstance(message, Ended):
            self._hear_end(message, descriptors)
        elif isinstance(message, Began):
            for attempt in map(self._turns.running, message.calls):
                if attempt.began is None:
                    self._begin(attempt)
        elif isinstance(message, Item):
            self._hear_item(message, descriptors)
        elif isinstance(message, Tokens):
            self._meter.took(message.call, message.read, message.written)
        elif isinstance(message, Recalled):
            self._hear_recalled(message)
        elif isinstance(message, Ready):
            self._hear_ready(message)
        elif isinstance(message, LoadFailed):
            self._hear_load_failed(message)

    def _hear_end(self, ended: Ended, descriptors: Sequence[int]) -> None:
        if self._turns.was_taken(ended.call):
            _close_all(descriptors)
            return
        try:
            attempt = self._turns.running(ended.call)
            end = end_as_told(attempt, ended, self._around.clock.monotonic())
            _check_values(ended, descriptors)
        except ProtocolError:
            _close_all(descriptors)
            raise
        self._drain_output()
        self._turns.end(attempt)
        self._finish(attempt, end, descriptors)
        self._go_on()

    def _go_on(self) -> None:
        """The worker is done with the one that ran, or never began it: whose turn is it now?"""
        following = self._turns.head
        if following is not None and following.began is None and following.order.method not in self._batched:
            self._begin(following)
        if self._turns.has_waiting:
            self.feed()

    def _hear_item(self, item: Item, descriptors: Sequence[int]) -> None:
        if self._turns.was_taken(item.call):
            _close_all(descriptors)
            return
        try:
            attempt = self._turns.running(item.call)
            self._deliveries.check_item(attempt, item)
            _check_values(item, descriptors)
        except ProtocolError:
            _close_all(descriptors)
            raise
        self._deliveries.item(attempt, item, descriptors)

    def _drain_output(self) -> None:
        """So that what a call wrote is told before its end; once for all the ends that came together."""
        if self._output is not None and self._channel is not None and self._drained_at != self._channel.reads:
            self._drained_at = self._channel.reads
            self._output.end_call()

    def _hear_recalled(self, message: Recalled) -> None:
        before = self._turns.head
        for call in message.calls:
            attempt = self._turns.give_back(call)
            if attempt is not None:
                self._give_up(attempt)
        if self._turns.head is not before:
            self._go_on()

    def _hear_ready(self, ready: Ready) -> None:
        if self.state is not WorkerState.STARTING or self._verdict:
            if self._verdict:
                return
            raise ProtocolError("cannot believe a worker that says it is ready twice")
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self.start = self._start_seen.ready(ready.import_seconds, ready.enter_seconds)
        if self._sandbox is not None and self.spec.function.resources.cpu is not None:
            self._sandbox.settle()
        detail = f"Python {ready.python}: import {ready.import_seconds:.3f} s, enter {ready.enter_seconds:.3f} s"
        self._enter(WorkerState.READY, start=self.start, detail=detail)
        if self._attempts:
            if self._output is not None:
                self._output.end_call()  # what loading wrote is no call's
            self._enter(WorkerState.BUSY)
            self.feed()

    def _hear_load_failed(self, message: LoadFailed) -> None:
        if self.state is not WorkerState.STARTING:
            raise ProtocolError("cannot believe a worker that was ready and says that it cannot load")
        self._failure = self._failure or message.failure
        if self._output is not None:
            self._output.drain()  # so that the traceback stands after what the module printed
        self._tell_traceback(message.failure)
        self._verdict = self._verdict or start_reason(None, message.failure)
        self._later(self.spec.function.grace_seconds, self._end_sandbox)

    def _hear_close(self, reason: str) -> None:
        if reason:
            self._tell_system(f"the worker was killed: {reason}")
            self._kill("killed:protocol")
        elif self.state is not WorkerState.GONE:  # as a rule it is ending, and its exit says more
            self._later(self.spec.function.grace_seconds, lambda: self._kill("killed:channel_closed"))

    # -- small things

    def _enter(
        self,
        state: WorkerState,
        *,
        detail: str = "",
        failure: Failure | None = None,
        ending: WorkerExit | None = None,
        start: StartReport | None = None,
    ) -> None:
        assert state in STATES[self.state].may_become, f"a worker cannot become {state} from {self.state}"
        self.since = max(self._around.clock.now(), self.since)
        self.state = state
        if state is WorkerState.GONE:
            self.seal(is_last=True)
        else:
            self._meter.enter(state)
        if state in (WorkerState.BUSY, WorkerState.IDLE):
            return  # the server knows by the calls
        change = WorkerChange(
            worker=self.id,
            state=state,
            at=self.since,
            credit=self.credit,
            isolation=self.isolation,
            sandbox=self.sandbox,
            detail=detail,
            failure=failure,
            exit=ending,
            start=start,
        )
        self._around.outbox.change(change, self._patience())

    def _patience(self) -> float:
        """How long word of its state may wait for company."""
        if self.state is WorkerState.READY and self._attempts:
            return READY_SECONDS
        return STARTING_SECONDS if self.state is WorkerState.STARTING else 0.0

    def _kill(self, why: str) -> None:
        self._verdict = self._verdict or why
        self._end_sandbox()

    def _end_sandbox(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
        if self._sandbox is not None and self.state is not WorkerState.GONE:
            self._around.tasks.create_task(self._sandbox.kill(), name=f"{self.id}.kill")

    def _give_up_start(self) -> None:
        seconds = self.spec.function.startup_timeout_seconds
        why = f"cannot start {self.spec.function.name}: loading it took more than {seconds:g} s"
        self._failure = failure_of(StartFailed(f"{why}; raise startup_timeout=, or load less"))
        self._kill("start_timed_out")

    def _limit_leaving(self) -> None:
        """It was told to leave and has no calls: it does so within its grace."""
        if self._is_leaving and not self._attempts:
            self._later(self.spec.function.grace_seconds, lambda: self._kill("stopped"))

    def _send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        assert self._channel is not None, "nothing is sent before the sandbox is started"
        self._channel.send(message, descriptors)

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            if self._sandbox is not None:
                self._sandbox.signal(number)

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._timers.append(self._around.later(seconds, act))

    def _tell_lines(self, source: str, lines: list[Line]) -> None:
        at = self._around.clock.now()
        groups = [
            LogLines(worker=self.id, at=at, source=source, texts=tuple(line.text for line in some), call=call)
            for call, some in groupby(lines, key=lambda line: line.call)
        ]
        self._around.outbox.lines(groups, self._output)

    def _tell_system(self, text: str) -> None:
        _log.info(text, extra={"worker": self.id, "version": self.spec.version})
        calls = list(self._attempts) if self.state not in _BEFORE_READY else []
        at = self._around.clock.now()
        self._around.outbox.lines(
            [
                LogLines(worker=self.id, at=at, source="system", texts=tuple(text.split("\n")), call=call)
                for call in calls or [""]
            ]
        )


def _check_values(message: Ended | Item, descriptors: Sequence[int]) -> None:
    large = [payload for payload in payloads_of(message) if payload.data is None]
    for payload, descriptor in zip(large, descriptors, strict=True):
        check_value(payload, descriptor)


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
