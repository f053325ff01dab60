"""The calls that one worker has: from the order to run each until its end is told.

    fetched (a large input) ─▶ waiting its turn ─▶ running ─▶ ended, by the worker's word or with the worker
              └──────────────────────┴── interrupted, or given back: another worker may be free

How the worker comes about and how it ends is in `agent.worker`; whose turn it is, in `agent.turns`; what an end means, in
`agent.attempts`; in which order things are told, in `agent.deliveries`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Protocol

from relight.agent.attempts import (
    Attempt,
    Cancels,
    end_as_told,
    end_before_start,
    end_refused,
    end_with_worker,
    end_without_input,
)
from relight.agent.channel import Channel, payloads_of
from relight.agent.deliveries import Deliveries
from relight.agent.logs import Output, Owners
from relight.agent.meter import Meters
from relight.agent.outbox import Held
from relight.agent.surroundings import Surroundings
from relight.agent.turns import Turns
from relight.agent.values import check_value
from relight.protocol.calls import CallEvent, Token
from relight.protocol.channel import Began, Ended, Grant, Interrupt, Item, Recall, Recalled, Run
from relight.protocol.errors import ProtocolError, RelightError, Unavailable
from relight.protocol.exits import WorkerExit
from relight.protocol.link import CallEnd, GrantItems, RunCall
from relight.protocol.manifest import Batching, FunctionSpec
from relight.protocol.workers import STATES, WorkerState

CREDIT = 128
"""How many calls may be with a worker at once, one of which runs."""

STALL_SECONDS = 0.05
"""When the one that runs takes longer, those behind it are given back: another worker may be free."""

RECALL_SECONDS = 0.2
"""What a worker has not given back by then is taken from it."""

RING_SECONDS = 0.2
"""A call that has not ended so long after it was told to is told once more: an event loop may not have heard it."""

BEFORE_READY = (WorkerState.PLACING, WorkerState.PULLING, WorkerState.STARTING)
"""What is given to a worker in these states waits for it."""


class RunsCalls(Protocol):
    """The worker, as its calls know it.  `verdict` says why it has to end, once it has to."""

    id: str
    state: WorkerState
    verdict: str
    has_ended: bool

    def enter(self, state: WorkerState) -> None:
        """It is in another state from now on."""

    def kill(self, why: str) -> None:
        """End it at once: a call does not obey."""

    def signal(self, number: int) -> None:
        """Send its first process a signal."""

    def limit_leaving(self) -> None:
        """A call has ended: once it has none, and was told to leave, it has its grace to do so."""


class Calls:
    """The calls of one worker.  What is given to it comes by `take` and `feed`, what the worker says by `hear_...`."""

    def __init__(self, worker: RunsCalls, function: FunctionSpec, around: Surroundings, meter: Meters) -> None:
        self.credit = max(CREDIT, function.width)
        self._worker = worker
        self._function = function
        self._around = around
        self._meter = meter
        self._deliveries = Deliveries(around.outbox, around.values, around.tasks, self._stop_undeliverable)
        self._attempts: dict[str, Attempt] = {}
        self._turns = Turns(function.width)
        self._batched = {one.name: one.batching for one in function.methods if one.batching is not None}
        self._stall: Cancels | None = None
        self._channel: Channel | None = None
        self._output: Output | None = None
        self._drained_at = 0

    def meet(self, channel: Channel, output: Output) -> None:
        """The worker has a process, which is spoken to here and writes there."""
        self._channel = channel
        self._output = output

    # -- which there are

    @property
    def has_any(self) -> bool:
        """Whether there are any, in whatever state."""
        return bool(self._attempts)

    @property
    def are_given(self) -> bool:
        """Whether the worker has one of them."""
        return self._turns.head is not None

    @property
    def ids(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._attempts)

    @property
    def owners(self) -> Owners:
        """Whose the lines are that the worker writes."""
        return Owners(self._attempts.__contains__, self._turns.running_call)

    def held(self) -> Iterable[Held]:
        """The attempts it has."""
        return [attempt.held for attempt in self._attempts.values()]

    # -- orders

    def take(self, order: RunCall) -> None:
        """A call to run, after those before it, once this worker is ready; `feed` lets it begin.

        One that cannot be taken ends, uncharged.
        """
        attempt = Attempt(order=order)
        known = self._attempts.get(order.call)
        if known is not None and known.order.token == order.token:
            return  # the order was repeated
        worker = self._worker
        is_up = STATES[worker.state].takes_calls
        is_ending = bool(worker.verdict) or worker.has_ended
        if is_ending or not (is_up or worker.state in BEFORE_READY) or len(self._attempts) >= self.credit:
            why = f"worker {worker.id} is {worker.state.value} and has {len(self._attempts)} of {self.credit} calls"
            self._around.outbox.end(attempt.held, end_refused(attempt, why))
            return
        self._attempts[order.call] = attempt
        if is_up and worker.state is not WorkerState.BUSY:
            worker.enter(WorkerState.BUSY)
        if order.payload.data is None:
            attempt.is_fetching = True
            attempt.timers = (self._around.tasks.create_task(self._fetch(attempt), name=f"{self._worker.id}.fetch"),)
        else:
            self._turns.add(attempt)

    def feed(self) -> None:
        """Give the worker what it has room for, all at once, once it is ready."""
        if self._channel is None or self._worker.state in BEFORE_READY:
            return
        while (attempt := self._turns.next()) is not None:
            self._give(self._channel, attempt)
            rule = self._batched.get(attempt.order.method)
            if rule is not None:
                self._gather(attempt, rule)
            elif self._turns.runs(attempt):
                self._begin(attempt)
        self._channel.flush()
        self._watch()

    def give_ahead(self, channel: Channel) -> None:
        """Give the first to a worker that is ready sooner than it could be asked back; it waits there for `begin`."""
        if self._function.width == 1 and not self._function.is_class and not self._batched:
            attempt = self._turns.next()
            if attempt is not None:
                self._give(channel, attempt)

    def begin(self) -> None:
        """The worker is ready, for what it has been given and for the rest."""
        self._go_on()
        self.feed()

    def _give(self, channel: Channel, attempt: Attempt) -> None:
        order = attempt.order
        run = Run(
            call=order.call,
            attempt=order.attempt,
            payload=order.payload,
            method=order.method,
            accept=order.accept,
            is_behind=not self._turns.runs(attempt),
        )
        channel.queue(run, attempt.descriptors)
        attempt.descriptors = ()
        granted = self._deliveries.granted(attempt)
        if granted > 1:
            channel.queue(Grant(call=order.call, items=granted))

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
        if self._worker.state in BEFORE_READY and attempt.interrupted is None and self._turns.leave(attempt):
            self._refuse((attempt,), f"worker {self._worker.id} is still being started, and another is free")
        return True

    def grant(self, order: GrantItems) -> bool:
        """Let a generator make more items; false when it is not here."""
        attempt = self._attempts.get(order.call)
        if attempt is None or attempt.order.token != order.token:
            return False
        if self._deliveries.grant(attempt, order.items) and self._turns.has_given(attempt):
            self._send(Grant(call=order.call, items=order.items))
        return True

    def refuse_waiting(self, why: str) -> None:
        """Give back what the worker has not been given yet."""
        self._refuse(self._turns.take_waiting(), why)

    # -- the worker speaks

    def hear_end(self, ended: Ended, descriptors: Sequence[int]) -> None:
        """A call has ended.  Raises ProtocolError when that cannot be believed."""
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

    def hear_began(self, message: Began) -> None:
        """It has come to these.  Raises ProtocolError when it cannot run them."""
        for attempt in map(self._turns.running, message.calls):
            if attempt.began is None:
                self._begin(attempt)

    def hear_item(self, item: Item, descriptors: Sequence[int]) -> None:
        """A generator has made an item.  Raises ProtocolError when that cannot be believed."""
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

    def hear_recalled(self, message: Recalled) -> None:
        """It gives back what it was told to.  Raises ProtocolError when it gives back anything else."""
        before = self._turns.head
        for call in message.calls:
            attempt = self._turns.give_back(call)
            if attempt is not None:
                self._give_up(attempt)
        if self._turns.head is not before:
            self._go_on()

    # -- the worker ends

    def end_all(self, ending: WorkerExit) -> None:
        """The worker has ended, and all it had with it."""
        for attempt in tuple(self._attempts.values()):
            attempt.disarm()
            has_run = attempt.began is not None and self._turns.runs(attempt)
            end = end_with_worker(attempt, ending, is_own_fault=has_run)
            self._deliveries.end(attempt, self._meter.ended(end))
        self._attempts.clear()

    def stop_looking(self) -> None:
        """The worker is gone: nothing of it stalls any more."""
        if self._stall is not None:
            self._stall.cancel()

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
            self._limit(attempt, self._function.timeout_seconds)

    def _gather(self, attempt: Attempt, rule: Batching) -> None:
        """The worker has it, and says when its batch begins; a worker that never does is not waited for without end."""
        attempt.disarm()
        self._limit(attempt, 2 * self._function.timeout_seconds + rule.wait_seconds)

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
        self._worker.signal(signal.SIGUSR1)

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
        self._worker.signal(signal.SIGUSR1)

    def _limit_grace(self, attempt: Attempt) -> None:
        attempt.timers = (
            self._around.later(self._function.grace_seconds, partial(self._outlive, attempt)),
            self._around.later(RING_SECONDS, partial(self._worker.signal, signal.SIGUSR1)),
        )

    def _outlive(self, attempt: Attempt) -> None:
        attempt.has_outlived_grace = True
        assert attempt.interrupted is not None, "only an interrupted attempt has a grace to outlive"
        self._worker.kill(f"killed:{attempt.interrupted.value}")

    def _finish(self, attempt: Attempt, end: CallEnd, descriptors: Sequence[int] = ()) -> None:
        attempt.disarm()
        del self._attempts[attempt.order.call]
        self._deliveries.end(attempt, self._meter.ended(end), descriptors)
        if self._attempts or self._worker.verdict:
            return
        if self._worker.state is WorkerState.BUSY:
            self._worker.enter(WorkerState.IDLE)
        self._worker.limit_leaving()

    def _stop_undeliverable(self, attempt: Attempt) -> None:
        if self._attempts.get(attempt.order.call) is attempt:
            self._interrupt(attempt, CallEvent.CANCELLED)

    def _send(self, message: object) -> None:
        assert self._channel is not None, "nothing is sent before the sandbox is started"
        self._channel.send(message)


def _check_values(message: Ended | Item, descriptors: Sequence[int]) -> None:
    large = [payload for payload in payloads_of(message) if payload.data is None]
    for payload, descriptor in zip(large, descriptors, strict=True):
        check_value(payload, descriptor)


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
