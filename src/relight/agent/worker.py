"""One worker: from the order to start it until nothing of it is left.

What it is given and says of its calls is in `agent.calls`.  Its states are those of `protocol.workers.STATES`, and each
step is told with its time.  It dies of one of these, and what is said of the calls it had follows from which:

    the process ends by itself       the call is lost (and charged): it may have been the call that did it
    a call outlives its grace        that call ends as cancelled or timed out; its neighbours are lost, uncharged
    it breaks the protocol           as if the process had ended by itself
    it is stopped                    lost, uncharged

Whatever it said before it died is heard first: an end that is in the channel counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby

from relight.agent.attempts import (
    Cancels,
    exit_of,
    start_reason,
)
from relight.agent.calls import BEFORE_READY, Calls
from relight.agent.channel import Channel
from relight.agent.logs import Line, Output
from relight.agent.starter import Begun, Sandbox
from relight.agent.starts import Start
from relight.agent.surroundings import Surroundings
from relight.agent.template import failure_in, load_of
from relight.protocol.channel import (
    Began,
    Ended,
    Item,
    Load,
    LoadFailed,
    Ready,
    Recalled,
    Stop,
    Tokens,
)
from relight.protocol.errors import Failure, ProtocolError, RelightError, StartFailed, Unavailable, failure_of
from relight.protocol.exits import WorkerExit
from relight.protocol.link import LogLines, WorkerChange, WorkerSpec
from relight.protocol.starts import StartLevel, StartReport
from relight.protocol.workers import STATES, WorkerState
from relight.sandbox.spec import UNCOUNTED, SandboxExit

STARTING_SECONDS = 0.01
"""How long word that it is being started waits for word that it is ready."""

READY_SECONDS = 0.002
"""How long word that it is ready, and runs a call at once, waits for that call's end."""

_log = logging.getLogger("relight.agent")
_BEFORE_SANDBOX = (WorkerState.PLACING, WorkerState.PULLING)


class Worker:
    """One worker.  `live` is its life and `calls` are its calls; the rest are orders, which return at once."""

    def __init__(self, name: str, spec: WorkerSpec, around: Surroundings) -> None:
        self.id = name
        self.spec = spec
        self.state = WorkerState.PLACING
        self.since = around.clock.now()
        self.isolation = ""
        self.start: StartReport | None = None
        self._around = around
        self._timers: list[Cancels] = []
        self._start_seen = Start(around.clock.monotonic)
        self._meter = around.meter(name, spec)
        self.calls = Calls(self, spec.function, around, self._meter)
        self._starting: asyncio.Future[Begun] | None = None
        self._sandbox: Sandbox | None = None
        self._channel: Channel | None = None
        self._output: Output | None = None
        self.verdict = ""  # why it has to end, where that is our decision: the reason of its exit
        self._failure: Failure | None = None
        self._is_leaving = False
        self.has_ended = False

    # -- orders

    def stop(self, *, now: bool = False) -> None:
        """Leave: after the calls it has, or at once."""
        if self.state is WorkerState.GONE or self.verdict:
            return
        if self.state in _BEFORE_SANDBOX:
            self._leave(WorkerExit(reason="stopped"))
        elif now or self.state is WorkerState.STARTING:
            self.kill("stopped")
        elif not self._is_leaving:
            self._is_leaving = True
            self.enter(WorkerState.DRAINING)
            self.calls.refuse_waiting(f"worker {self.id} is leaving")
            self._send(Stop())
            self.limit_leaving()

    def evict(self, why: str, words: str) -> None:
        """End it at once, as it takes what is others'; `words` tell so in its log."""
        if self.state is not WorkerState.GONE and not self.verdict:
            self._tell_system(words)
            self.kill(why)

    @property
    def pid(self) -> int:
        """Its process, as this machine sees it; 0 when that is not known."""
        return self._sandbox.pid if self._sandbox is not None and not self.has_ended else 0

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
                self.enter(WorkerState.PULLING)
                await self._around.provider.fetch(self.spec)
            if self.state is WorkerState.GONE:
                return  # it was stopped meanwhile
            self.enter(WorkerState.STARTING)
            sandbox = await self._start()
        except (RelightError, OSError) as error:
            ending = WorkerExit(reason=self.verdict or start_reason(error))
            failure = self._failure or self._failure_of(error)
            self._tell_ending(ending)
            self._leave(ending, failure)
            return
        ending = self._wind_up(await sandbox.wait())
        await self._around.slots.wait_clear(sandbox, partial(self._tell_late, ending))
        self._leave(ending, self._failure)

    async def _start(self) -> Sandbox:
        self._later(self.spec.function.startup_timeout_seconds, self._give_up_start)
        begun = self._around.starter.take(self.id, self.spec, self._tell_lines)
        if begun is not None:
            self._start_seen.begin("take")
        else:
            begun = await self._begin_process()
        cable = begun.cable
        channel = self._channel = Channel(cable.ours, on_message=self._hear, on_closed=self._hear_close)
        self._sandbox = begun.sandbox
        if self.verdict:  # stopped before there was anything to kill
            self._end_sandbox()
        else:  # first of all, as it may be waiting for that
            channel.queue(self._load_of(begun))
            if begun.level is StartLevel.FORK:
                self.calls.give_ahead(channel)
            channel.flush()
        self._output = Output(cable, self.calls.owners, self._tell_lines)
        self.calls.meet(channel, self._output)
        self.isolation = begun.isolation
        self._start_seen.begun(begun.level, begun.why)
        return begun.sandbox

    def _load_of(self, begun: Begun) -> Load:
        mark = begun.cable.mark
        return load_of(self.spec, begun.module_paths, mark=mark, platform=begun.platform, worker=self.id)

    async def _begin_process(self) -> Begun:
        """Start its process.  Raises Unavailable when it was told to leave while it waited for that."""
        starting = self._starting = asyncio.ensure_future(
            self._around.starter.start(self.id, self.spec, self._tell_lines, self._start_seen.begin)
        )
        try:
            return await starting
        except asyncio.CancelledError:
            if not self.verdict:
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
        self.has_ended = True
        if self._channel is not None:
            self._channel.drain()
        last_lines: tuple[str, ...] = ()
        if self._output is not None:
            self._output.close()
            last_lines = self._output.last_lines
        ending = exit_of(ended, killed_for=self.verdict, is_leaving=self._is_leaving, last_lines=last_lines)
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
            self.enter(WorkerState.DRAINING, detail=detail)
        self.calls.end_all(ending)

    def _tell_ending(self, ending: WorkerExit) -> None:
        if ending.reason != "stopped":
            self._tell_system(f"the worker ended: {ending.reason}")

    def _leave(self, ending: WorkerExit, failure: Failure | None = None) -> None:
        self.calls.end_all(ending)
        self.calls.stop_looking()
        for timer in self._timers:
            timer.cancel()
        if self._channel is not None:
            self._channel.close()
        if self._output is not None:
            self._output.close()
        start = None if self.start is not None or ending.reason == "stopped" else self._start_seen.failed()
        self.enter(WorkerState.GONE, failure=failure, ending=ending, start=start)

    # -- the worker speaks

    def _hear(self, message: object, descriptors: Sequence[int]) -> None:
        if self.state in BEFORE_READY and not isinstance(message, (Ready, LoadFailed)):
            raise ProtocolError(f"cannot believe a {type(message).__name__} of a worker that is not ready")
        if isinstance(message, Ended):
            self.calls.hear_end(message, descriptors)
        elif isinstance(message, Began):
            self.calls.hear_began(message)
        elif isinstance(message, Item):
            self.calls.hear_item(message, descriptors)
        elif isinstance(message, Tokens):
            self._meter.took(message.call, message.read, message.written)
        elif isinstance(message, Recalled):
            self.calls.hear_recalled(message)
        elif isinstance(message, Ready):
            self._hear_ready(message)
        elif isinstance(message, LoadFailed):
            self._hear_load_failed(message)

    def _hear_ready(self, ready: Ready) -> None:
        if self.state is not WorkerState.STARTING or self.verdict:
            if self.verdict:
                return
            raise ProtocolError("cannot believe a worker that says it is ready twice")
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self.start = self._start_seen.ready(ready.import_seconds, ready.enter_seconds)
        if self._sandbox is not None and self.spec.function.resources.cpu is not None:
            self._sandbox.settle()
        detail = f"Python {ready.python}: import {ready.import_seconds:.3f} s, enter {ready.enter_seconds:.3f} s"
        self.enter(WorkerState.READY, start=self.start, detail=detail)
        if self.calls.has_any:
            if self._output is not None and not self.calls.are_given:
                self._output.end_call()  # what loading wrote is no call's
            self.enter(WorkerState.BUSY)
            self.calls.begin()

    def _hear_load_failed(self, message: LoadFailed) -> None:
        if self.state is not WorkerState.STARTING:
            raise ProtocolError("cannot believe a worker that was ready and says that it cannot load")
        self._failure = self._failure or message.failure
        if self._output is not None:
            self._output.drain()  # so that the traceback stands after what the module printed
        self._tell_traceback(message.failure)
        self.verdict = self.verdict or start_reason(None, message.failure)
        self._later(self.spec.function.grace_seconds, self._end_sandbox)

    def _hear_close(self, reason: str) -> None:
        if reason:
            self._tell_system(f"the worker was killed: {reason}")
            self.kill("killed:protocol")
        elif self.state is not WorkerState.GONE:  # as a rule it is ending, and its exit says more
            self._later(self.spec.function.grace_seconds, lambda: self.kill("killed:channel_closed"))

    # -- what its calls ask of it

    def enter(
        self,
        state: WorkerState,
        *,
        detail: str = "",
        failure: Failure | None = None,
        ending: WorkerExit | None = None,
        start: StartReport | None = None,
    ) -> None:
        """It is in another state from now on; told, but for BUSY and IDLE: the server knows by the calls."""
        assert state in STATES[self.state].may_become, f"a worker cannot become {state} from {self.state}"
        self.since = max(self._around.clock.now(), self.since)
        self.state = state
        if state is WorkerState.GONE:
            self.seal(is_last=True)
        else:
            self._meter.enter(state)
        if state in (WorkerState.BUSY, WorkerState.IDLE):
            return
        change = WorkerChange(
            worker=self.id,
            state=state,
            at=self.since,
            credit=self.calls.credit,
            isolation=self.isolation,
            sandbox=self.sandbox,
            detail=detail,
            failure=failure,
            exit=ending,
            start=start,
        )
        self._around.outbox.change(change, self._patience())

    def kill(self, why: str) -> None:
        """End it at once, for this reason unless it had to end for another before."""
        self.verdict = self.verdict or why
        self._end_sandbox()

    def limit_leaving(self) -> None:
        """It was told to leave and has no calls: it does so within its grace."""
        if self._is_leaving and not self.calls.has_any:
            self._later(self.spec.function.grace_seconds, lambda: self.kill("stopped"))

    def signal(self, number: int) -> None:
        """Send its first process a signal; without effect when that is gone, or not ready: it would die of it."""
        with suppress(ProcessLookupError):
            if self._sandbox is not None and self.state not in BEFORE_READY:
                self._sandbox.signal(number)

    # -- small things

    def _patience(self) -> float:
        """How long word of its state may wait for company."""
        if self.state is WorkerState.READY and self.calls.has_any:
            return READY_SECONDS
        return STARTING_SECONDS if self.state is WorkerState.STARTING else 0.0

    def _end_sandbox(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
        if self._sandbox is not None and self.state is not WorkerState.GONE:
            self._around.tasks.create_task(self._sandbox.kill(), name=f"{self.id}.kill")

    def _give_up_start(self) -> None:
        seconds = self.spec.function.startup_timeout_seconds
        why = f"cannot start {self.spec.function.name}: loading it took more than {seconds:g} s"
        self._failure = failure_of(StartFailed(f"{why}; raise startup_timeout=, or load less"))
        self.kill("start_timed_out")

    def _send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        assert self._channel is not None, "nothing is sent before the sandbox is started"
        self._channel.send(message, descriptors)

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
        calls = self.calls.ids if self.state not in BEFORE_READY else ()
        at = self._around.clock.now()
        self._around.outbox.lines(
            [
                LogLines(worker=self.id, at=at, source="system", texts=tuple(text.split("\n")), call=call)
                for call in calls or ("",)
            ]
        )
