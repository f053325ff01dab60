"""A server's writes without a server: takes calls in, claims and ends them, and says on stdout what was acknowledged.

python crash_workload.py FOLDER FAULT_POINTS
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from relight.protocol.calls import CallEvent, CallRequest, Token
from relight.protocol.payload import Payload
from relight.store.faults import Faults
from relight.store.rows import Claim, End, NewCall
from relight.store.store import Store, open_store

CALLS = 40


async def main(folder: Path, points: str) -> None:
    """Run the workload until it is done, or until a fault point kills this process."""
    store = await open_store(folder, Faults(points))
    epoch = await store.epochs.begin()
    for n in range(CALLS):
        await one(store, epoch, n)
    await store.close()


async def one(store: Store, epoch: int, n: int) -> None:
    """One call's life; each line says what a caller or a node has been told."""
    call, payload = f"call-{n:026d}", Payload(format="json", data=b"{}", size=2)
    request = CallRequest(id=call, app="a", function="f", payload=payload)
    await store.calls.submit("default", [NewCall(request=request, version="v", at=1.0)])
    say("acknowledged", call)
    token = Token(epoch, n + 1)
    claim = Claim(call=call, token=token, attempt=1, worker="w", node="n", at=2.0)
    await store.calls.claim("default", [claim])
    result = Payload(format="json", data=str(n).encode(), size=2)
    end = End(claim=claim, event=CallEvent.SUCCEEDED, at=3.0, result=result)
    await store.calls.end("default", [end])
    say("seen", call)


def say(what: str, call: str) -> None:
    """Tell whoever reads, at once."""
    sys.stdout.write(f"{what} {call}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
