"""A worker: one process, one function, calls one after the other, all in the main thread; or several at once (`concurrency`).

    Load ▶ Ready ▶ ( Run ▶ Ended )* ▶ Stop
       └ fails ▶ LoadFailed ▶ leave

It has no thread of its own: it waits on its channel, and user code finds the process as a plain program would.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from relight.protocol.channel import CHANNEL_FD, Interrupt, Load, LoadFailed, Ready, Recall, Run, Stop
from relight.protocol.errors import ProtocolError
from relight.protocol.inside import inside
from relight.runtime.attempt import Attempts, Callees, Loop
from relight.runtime.calloutput import CallOutput
from relight.runtime.channel import Channel, ChannelClosed
from relight.runtime.cpus import show_cpus, used_us
from relight.runtime.interrupts import Interrupts, Leave
from relight.runtime.loader import Loaded, RunAwaitable, load, load_failure
from relight.runtime.native import find_flush
from relight.runtime.output import Output
from relight.runtime.tokens import TokenReports

LOAD_FAILED = 70
"""The exit code of a worker that could not load its function."""

PROTOCOL_FAILED = 71
"""The exit code of a worker that did not understand its agent."""

PYTHON = sys.version.split()[0]
"""What runs here, as `platform.python_version` has it, which takes ten modules to say it."""


Loads = Callable[[Load, RunAwaitable], Loaded]
FindsFlush = Callable[[], Callable[[], object] | None]


class Worker:
    """Lives as long as its channel; `load` makes of its first order what it runs, `find_flush` says what C holds back."""

    def __init__(self, channel: Channel, load: Loads = load, find_flush: FindsFlush = find_flush) -> None:
        self._channel = channel
        self._load = load
        self._find_flush = find_flush
        self._interrupts = Interrupts(channel)
        self._loop = Loop(self._interrupts)
        self._tokens = TokenReports()

    def run(self) -> int:
        """Live; the exit code."""
        inside.is_worker = True
        self._interrupts.install()
        try:
            return self.live()
        except (ChannelClosed, Leave):
            return 0
        except ProtocolError as error:
            sys.stderr.write(f"{error}\n")
            return PROTOCOL_FAILED

    def live(self) -> int:
        """Live, where no signal comes and nobody forks."""
        order = self._interrupts.receive().message
        if isinstance(order, Stop):
            return 0
        if not isinstance(order, Load):
            raise ProtocolError(f"cannot start: a {type(order).__name__} came where Load was expected")
        inside.app, inside.environment, inside.platform = order.app, order.environment, order.platform
        if order.worker:
            os.environ["RELIGHT_WORKER"] = order.worker
        inside.report_tokens = self._tokens.add
        output = CallOutput(order.mark) if order.is_concurrent else Output(order.mark)
        try:
            loaded = self._load(order, self._loop.run)
        except BaseException as error:  # noqa: BLE001 - the boundary of user code: an import may raise anything, exits too
            output.flush()
            self._channel.send(LoadFailed(failure=load_failure(order, error)))
            return LOAD_FAILED
        output.flush_with(self._find_flush())
        ready = Ready(
            import_seconds=loaded.import_seconds,
            enter_seconds=loaded.snap_seconds + loaded.enter_seconds,
            python=PYTHON,
        )
        output.flush()
        self._channel.send(ready)
        callees = Callees(loaded, order.module)
        with suppress(Leave):
            if isinstance(output, CallOutput):
                self._serve_many(order, callees, output)
            else:
                self._serve(Attempts(callees, self._interrupts, self._loop, self._tell_tokens), output)
        return self._leave(loaded, output)

    def _serve(self, attempts: Attempts, output: Output) -> None:
        """Run calls until told to stop."""
        while True:
            received = self._interrupts.receive()
            message = received.message
            if isinstance(message, Stop):
                return
            if isinstance(message, (Interrupt, Recall)):
                continue  # for calls that have begun, or ended, meanwhile
            if not isinstance(message, Run):
                raise ProtocolError(f"cannot go on: a {type(message).__name__} came where a call was expected")
            output.begin(message.call, is_behind=message.is_behind)
            inside.call = message.call
            before_us = used_us()
            result = attempts.run(message, received.descriptor)
            ended = replace(result.ended, cpu_us=max(0, used_us() - before_us))
            inside.call = ""
            output.end(is_last=not self._channel.has_waiting_call)
            self._tell_tokens()
            self._channel.send(ended, result.descriptors)
            for descriptor in result.descriptors:
                os.close(descriptor)

    def _tell_tokens(self) -> None:
        for message in self._tokens.take():
            self._interrupts.send(message)

    def _serve_many(self, order: Load, callees: Callees, output: CallOutput) -> None:
        """The same, several at once."""
        from relight.runtime.concurrency import Crowd, Desk  # 30 ms of asyncio that most workers need not spend

        desk = Desk(self._channel, self._interrupts, output, self._tokens)
        Crowd(order, callees, desk, self._loop).serve()

    def _leave(self, loaded: Loaded, output: Output | CallOutput) -> int:
        """Run what the user wants done at the end."""
        try:
            loaded.exit()
        except BaseException:  # noqa: BLE001 - the boundary of user code: there is nobody to tell but the log
            sys.stderr.write(traceback.format_exc())
            return 1
        finally:
            output.flush()
        return 0


def load_afresh(order: Load, run_awaitable: RunAwaitable) -> Loaded:
    """Load with libraries told how many threads fit, as a template tells them."""
    if order.cpu is not None:
        from relight.runtime.freezing import prepare  # some milliseconds that most workers need not spend

        show_cpus(order.cpu)
        prepare(order.cpu)
    return load(order, run_awaitable)


def main() -> None:
    """Be a worker on the channel that this process inherited."""
    end = socket.socket(fileno=CHANNEL_FD)
    end.set_inheritable(False)  # user code's own children have no business there
    sys.exit(Worker(Channel(end), load_afresh).run())
