"""A worker's life, played in the template before any worker is forked.

What a worker does for the first time costs most: codecs are made when a kind of message is first packed, modules imported
when a call in JSON first needs them, bytecode specialised and methods looked up as they are first run.  A fork that does
so writes to memory that it shares with its template, and so has pages copied, 4 KB and 2 µs each.  So the life of a
worker is run here some times, by its own code, with a function of ours, on a channel that leads nowhere; then it is done,
once for all.  Nothing of the user's runs in it, and nothing is left of it but what it found out.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from relight.protocol.calls import CallEvent
from relight.protocol.channel import TO_AGENT, TO_WORKER, Ended, Item, Load, Run, Stop
from relight.protocol.codec import pack
from relight.protocol.errors import Failure, ProtocolError
from relight.protocol.inside import inside
from relight.protocol.payload import JSON, PICKLE, Payload
from relight.protocol.values import dump_input, dump_result
from relight.runtime.channel import Channel, ChannelClosed
from relight.runtime.freezing import Frozen
from relight.runtime.inputs import Inputs
from relight.runtime.loader import Loaded, RunAwaitable
from relight.runtime.native import find_flush
from relight.runtime.thawing import thaw
from relight.runtime.worker import Worker

_LIVES = 12  # Python 3.11 looks at bytecode once it has run eight times, and specialises it then
_ARGUMENTS = Payload(format=JSON, data=b'{"args": [], "kwargs": {"x": 1}}')
_WORD = "x"


class Rehearsal:
    """What was found out for all workers of this process; made once the user's modules are imported.

    `was_played`: by the base that this process was forked from, and so in its memory, too.
    """

    def __init__(self, loaded: Loaded, *, was_played: bool = False) -> None:
        self.inputs = Inputs()
        for function in loaded.functions():
            self.inputs.prepare(function)
        self._flush = find_flush()
        if not was_played:
            play()
        self._modules = len(sys.modules)

    def find_flush(self) -> Callable[[], object] | None:
        """As `native.find_flush`; a worker looks again where it has imported more."""
        if self._flush is not None or len(sys.modules) == self._modules:
            return self._flush  # to look at a module is to count a reference to it, and so to copy its page
        return find_flush(self._modules)


def play() -> None:
    """Have it all done once."""
    _speak()
    with suppress(OSError, ProtocolError, ChannelClosed):  # the user's modules may have left no descriptor
        for _ in range(_LIVES):
            _live()
    os.environ["RELIGHT_WORKER"] = ""


def replay() -> None:
    """Have it done once more, in a fork that waits for its worker's name: what is written to is its own from then on."""
    with suppress(OSError, ProtocolError, ChannelClosed):
        _live()


def _live() -> None:
    """Be a worker, from the fork to its end, that nobody hears."""
    thaw(Frozen(), None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        spare = os.dup(theirs.fileno())
        os.dup2(theirs.fileno(), spare)
        os.dup2(theirs.fileno(), spare, inheritable=False)
        os.close(spare)
        agent = _Agent(theirs)
        agent.say()
        Worker(Channel(ours), agent.load, find_flush=lambda: None).live()
    inside.app = inside.environment = inside.platform = inside.call = ""


class _Agent:
    """Says one thing at a time, as an agent does: the next as the worker loads, and as each of its calls runs."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._words: deque[object] = deque(
            (
                Load(module="", qualname=_WORD, is_class=False, paths=(), mark=_WORD, worker=_WORD),
                Run(call=_WORD, attempt=1, payload=_ARGUMENTS, accept=(JSON,)),
                Run(call=_WORD, attempt=1, payload=dump_input((1,), {}), accept=(PICKLE,)),
                Stop(),
            )
        )

    def say(self) -> None:
        data = pack(self._words.popleft())
        self._end.sendall(len(data).to_bytes(4, "big") + data)

    def load(self, order: Load, run_awaitable: RunAwaitable) -> Loaded:
        loaded = Loaded(self._answer, run_awaitable)
        loaded.enter(run_awaitable)
        self.say()
        return loaded

    def _answer(self, x: int) -> int:
        self.say()
        return x


def _speak() -> None:
    """Say what a worker and its agent say, to nobody: what a life without trouble has no word of, too."""
    heard = Load(module=_WORD, qualname=_WORD, is_class=True, paths=(_WORD,), mark=_WORD, parameters=((_WORD, 1),))
    TO_WORKER.unpack(pack(heard))
    results = [dump_result(1, accept) for accept in ((JSON,), (PICKLE,))]
    failure = Failure(code=_WORD, message=_WORD)
    failed = Ended(call=_WORD, outcome=CallEvent.FAILED, failure=failure)
    for said in (failed, *(Item(call=_WORD, number=1, payload=result) for result in results)):
        TO_AGENT.unpack(pack(said))
