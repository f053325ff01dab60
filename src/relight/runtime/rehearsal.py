"""What a worker would do for the first time at its first call, done before it is forked.

Codecs are made when a kind of message is first packed, modules imported when a call in JSON first needs them, and the
user's modules looked through for what C may hold back: some milliseconds, which all workers of a template share.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from relight.protocol.calls import CallEvent
from relight.protocol.channel import TO_AGENT, TO_WORKER, Ended, Item, Load, Ready, Run, Stop
from relight.protocol.codec import pack
from relight.protocol.errors import Failure
from relight.protocol.payload import JSON, PICKLE, Payload
from relight.protocol.values import dump_result, load_input
from relight.runtime import inputs as _inputs  # noqa: F401 - what calls in JSON need
from relight.runtime.native import find_flush

_ARGUMENTS = Payload(format=JSON, data=b'{"args": [], "kwargs": {"x": 1}}')
_WORD = "x"


class Rehearsal:
    """What was found out for all workers of this process; made once the user's modules are imported."""

    def __init__(self) -> None:
        self._flush = find_flush()
        self._modules = len(sys.modules)
        _speak()

    def find_flush(self) -> Callable[[], object] | None:
        """As `native.find_flush`; a worker looks again where it has imported more."""
        if self._flush is not None or len(sys.modules) == self._modules:
            return self._flush  # to look at a module is to count a reference to it, and so to copy its page
        return find_flush(self._modules)


def _speak() -> None:
    """Say what a worker and its agent say in a life without trouble, to nobody."""
    call = Run(call=_WORD, attempt=1, payload=_ARGUMENTS, accept=(JSON,))
    load = Load(module=_WORD, qualname=_WORD, is_class=True, paths=(_WORD,), mark=_WORD, parameters=((_WORD, 1),))
    for heard in (load, call, Stop()):
        TO_WORKER.unpack(pack(heard))
    load_input(_ARGUMENTS)
    results = [dump_result(1, accept) for accept in ((JSON,), (PICKLE,))]
    failure = Failure(code=_WORD, message=_WORD)
    ends = [Ended(call=_WORD, outcome=CallEvent.SUCCEEDED, result=result) for result in results]
    failed = Ended(call=_WORD, outcome=CallEvent.FAILED, failure=failure)
    ready = Ready(import_seconds=0.0, enter_seconds=0.0, python=_WORD)
    item = Item(call=_WORD, number=1, payload=results[0])
    for said in (ready, *ends, failed, item):
        TO_AGENT.unpack(pack(said))
