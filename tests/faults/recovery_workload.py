"""Servers without a server: each process takes over what the one before left, and goes on until every call has ended.

python recovery_workload.py FOLDER CALLS FAULT_POINTS

Several calls are in flight at once; a start is told of before its claim is on disk, as a real scheduler dispatches; every
fifth call fails its first two tries.  Each line on stdout is something that a caller or a node has been told.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from relight.protocol.calls import CallEvent, CallRequest, CallState, Token
from relight.protocol.payload import Payload
from relight.store.faults import Faults
from relight.store.rows import Claim, End, NewCall
from relight.store.store import Store, open_store

WS = "default"
IN_FLIGHT = 8


async def main(folder: Path, count: int, points: str) -> None:
    """Bring `count` calls to their ends."""
    store = await open_store(folder, Faults(points))
    epoch = await store.epochs.begin()
    platform = Platform(store, epoch)
    left = await platform.take_over()
    ids = [f"call-{n:026d}" for n in range(count)]
    there = await store.calls.existing(WS, ids)
    room = asyncio.Semaphore(IN_FLIGHT)
    async with asyncio.TaskGroup() as tasks:
        for call, attempts in left:
            tasks.create_task(platform.run(call, attempts, room), name=call)
        for call in ids:
            if call not in there:
                tasks.create_task(platform.submit(call, room), name=call)
    await store.close()
    say("done", "")


class Platform:
    """One epoch of claims and ends."""

    def __init__(self, store: Store, epoch: int) -> None:
        self._calls = store.calls
        self._epoch = epoch
        self._numbers: Iterator[int] = itertools.count(1)

    async def take_over(self) -> list[tuple[str, int]]:
        """What the process before left: those that ran have lost their worker."""
        unfinished = await self._calls.unfinished()
        lost = [
            End(claim=_claim(row.id, row.token, row.attempts + 1), event=CallEvent.LEASE_LOST, at=4.0)
            for row in unfinished
            if row.state is CallState.RUNNING and row.token is not None
        ]
        charged = {view.id: view.attempts for view in await self._calls.end(WS, lost) if view is not None}
        return [(row.id, charged.get(row.id, row.attempts)) for row in unfinished]

    async def submit(self, call: str, room: asyncio.Semaphore) -> None:
        """Take a call in, then run it; it is acknowledged when it is on disk."""
        say("submitted", call)
        payload = Payload(format="json", data=call.encode(), size=len(call))
        request = CallRequest(id=call, app="a", function="f", payload=payload)
        async with room:
            await self._calls.submit(WS, [NewCall(request=request, version="v", at=1.0)])
        say("acknowledged", call)
        await self.run(call, 0, room)

    async def run(self, call: str, attempts: int, room: asyncio.Semaphore) -> None:
        """Try a call until it ends."""
        is_over = False
        while not is_over:
            async with room:
                is_over = await self._try(call, attempts + 1)
            attempts += 1

    async def _try(self, call: str, attempt: int) -> bool:
        token = Token(self._epoch, next(self._numbers))
        claim = _claim(call, token, attempt)
        claimed = self._calls.claim(WS, [claim])
        say("started", call, token.epoch, token.n)
        if int(call[-3:]) % 2:
            await claimed  # one that takes long enough for its claim to be kept before its end
        is_good = int(call[-3:]) % 5 > 0 or attempt > 2
        value = (
            f"{call} by {token.epoch}/{token.n}"  # each try has a result of its own: a second visible one would show
        )
        result = Payload(format="json", data=value.encode(), size=len(value)) if is_good else None
        event = CallEvent.SUCCEEDED if is_good else CallEvent.RETRIED
        (view,) = await self._calls.end(WS, [End(claim=claim, event=event, at=3.0, result=result)])
        assert view is not None, f"the newest token of {call} was refused"
        if view.result is not None and view.result.data is not None:
            say("seen", call, view.attempts, view.result.data.decode())
        return view.state.is_final


def _claim(call: str, token: Token, attempt: int) -> Claim:
    return Claim(call=call, token=token, attempt=attempt, worker="w", node="n", at=2.0)


def say(what: str, call: str, *more: object) -> None:
    """Tell whoever reads, at once."""
    sys.stdout.write("\t".join((what, call, *map(str, more))) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
