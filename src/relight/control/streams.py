"""The items of generators on their way from a worker to a reader.

    made ─▶ told by the node ─▶ here ─▶ handed to a reader ─▶ taken: the reader asked for those after it

A reader that asks for what comes after item t has those up to t: they are dropped, here and on the node, and the
generator may go on to item t + min(2 t, WINDOW).  So the second item is not made before the first is with its reader, and
a reader that stops asking stops the generator.  Nothing here outlives the server: what was not taken is told again by the
node, what was taken is known by the reader, who says so each time.

A call that is run again begins at item 1; those its reader has are dropped by their number.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from relight.clock import Clock
from relight.protocol.api import MAX_WAIT_SECONDS, Items, ReadItems
from relight.protocol.calls import CallState, CallView, Token
from relight.protocol.errors import Conflict, Failure
from relight.protocol.link import CallItem, GrantItems
from relight.protocol.payload import Payload
from relight.scheduler.leases import Lease
from relight.scheduler.loop import Scheduler

WINDOW = 32
"""How many items a generator may be ahead of its reader at most."""

ANSWER_BYTES = 8 * 1024 * 1024
"""An answer holds about no more bytes of items than these, and one item at least."""

KEPT_ENDED = 1000
KEPT_BYTES = 64 * 1024 * 1024
"""Of so many calls that have ended, and so many bytes of them, are the untaken items kept; the node has them too."""

PATIENCE_SECONDS = 30.0
"""So long after its start a server waits for nodes to tell again what the one before it had."""

_STREAM_BYTES = 512

Find = Callable[[str], Awaitable[CallView]]
"""A call as it stands.  Raises NotFound."""


@dataclass(slots=True, eq=False)
class Stream:
    """One call's items from number `first` on.  `granted` and `told` are what the node was told last.

    `is_over`: the attempt that `token` names is, and the call is to be run again; nothing it says counts any more.
    """

    call: str
    first: int = 1
    items: deque[Payload] = field(default_factory=deque)
    taken: int = 0
    delivered: int = 0
    token: Token | None = None
    node: str = ""
    granted: int = 1
    told: int = 0
    is_over: bool = False
    workspace: str = ""
    view: CallView | None = None
    readers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_ended(self) -> bool:
        """Whether the call has ended, so that no more items are made."""
        return self.view is not None and self.view.state.is_final

    @property
    def made(self) -> int:
        """How many items are known to have been made."""
        return self.first - 1 + len(self.items)

    @property
    def is_whole(self) -> bool:
        """Whether the call has ended, and all of its items are here or with their reader."""
        return self.view is not None and self.view.state.is_final and self.made >= self.view.items

    def begin(self, token: Token, node: str) -> None:
        """Another attempt makes the items, from the first."""
        self.token, self.node = token, node
        self.items.clear()
        self.first, self.granted, self.told, self.is_over = self.taken + 1, 1, 0, False

    def add(self, number: int, payload: Payload) -> None:
        """Item `number` came; one that was here before changes nothing."""
        following = self.made + 1
        if number < following:
            return
        if number > following:  # this server has not seen those before it: they were taken from the last one
            self.items.clear()
            self.first = number
            self.delivered = max(self.delivered, number - 1)
        self.items.append(payload)

    def take(self, taken: int) -> None:
        """Those up to `taken` are with the reader."""
        self.taken = max(self.taken, taken)
        self.delivered = max(self.delivered, taken)
        while self.items and self.first <= taken:
            self.items.popleft()
            self.first += 1
        if not self.items:
            self.first = max(self.first, taken + 1)

    def after(self, taken: int) -> tuple[Payload, ...]:
        """What comes next, as much as an answer holds.  Raises Conflict when it was dropped."""
        if self.first > taken + 1:
            raise Conflict(
                f"cannot read item {taken + 1} of {self.call}: those up to {self.first - 1} were taken before; "
                "let one reader read it from its beginning"
            )
        size = 0
        answer: list[Payload] = []
        for payload in self.items:
            if answer and size + len(payload.data or b"") > ANSWER_BYTES:
                break
            size += len(payload.data or b"")
            answer.append(payload)
        return tuple(answer)

    def bytes(self) -> int:
        """About what it takes of memory."""
        return _STREAM_BYTES + sum(_STREAM_BYTES + len(payload.data or b"") for payload in self.items)

    def wake(self) -> None:
        """Let its readers look again."""
        self.changed.set()
        self.changed = asyncio.Event()


class Streams:
    """Every call whose items are asked for, or were told of."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.now()
        self._streams: dict[str, Stream] = {}
        self._ended: OrderedDict[str, int] = OrderedDict()  # of those that have ended: their bytes
        self._scheduler: Scheduler

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler

    # -- what readers ask

    async def read(self, workspace: str, query: ReadItems, find: Find) -> Items:
        """The items after number `taken`, as soon as there is one, or the call has ended, or the wait is over.

        Raises NotFound for a call that is not there, Conflict when the items asked for were taken before.
        """
        until = self._clock.monotonic() + min(query.wait_seconds, MAX_WAIT_SECONDS)
        stream = self._streams.setdefault(query.call, Stream(query.call))
        stream.readers += 1
        try:
            if stream.view is None or stream.workspace != workspace:
                view = await find(query.call)
                stream.workspace, stream.view = workspace, stream.view or view
            await self._wait(stream, query.taken, until)
            return await self._answer(stream, query, find)
        finally:
            stream.readers -= 1
            self._drop_idle(stream)

    async def _wait(self, stream: Stream, taken: int, until: float) -> None:
        stream.take(taken)
        self._grant(stream)
        while not (stream.after(taken) or stream.is_whole):
            left = until - self._clock.monotonic()
            if left <= 0:
                return
            try:
                async with asyncio.timeout(left):
                    await stream.changed.wait()
            except TimeoutError:
                return

    async def _answer(self, stream: Stream, query: ReadItems, find: Find) -> Items:
        items = stream.after(query.taken)
        view = stream.view
        assert view is not None, "read looks for it"
        if items:
            has_all = query.taken + len(items)
            stream.delivered = max(stream.delivered, has_all)
            return Items(call=view if stream.is_whole and has_all >= stream.made else _running(view), items=items)
        if not stream.is_ended:
            return Items(call=await find(stream.call))
        return Items(call=view if stream.is_whole else self._awaited(view, query.taken))

    def _awaited(self, view: CallView, taken: int) -> CallView:
        """A call that has ended, and of which items are missing here, as it stands to its reader."""
        if self._clock.now() < max(view.ended_at or 0.0, self._began) + PATIENCE_SECONDS:
            return _running(view)  # this server is new: the node that made them tells them again
        why = (
            f"cannot read items {taken + 1} to {view.items} of {view.id}: neither this server nor the node that made them "
            "has them any more; read them as they are made, or call the function again"
        )
        return replace(view, state=CallState.FAILED, result=None, failure=Failure(code="worker_lost", message=why))

    # -- what nodes tell

    def told(self, node: str, items: Iterable[CallItem]) -> None:
        """Items were made on a node, or are told again: on a new link, or to a new server."""
        changed: dict[str, Stream] = {}
        for item in items:
            stream = self._of(node, item)
            if stream is not None:
                stream.add(item.number, item.payload)
                changed[stream.call] = stream
        for stream in changed.values():
            if stream.taken > stream.told:
                self._grant(stream)
            if self._scheduler.lease(stream.call) is None:
                self._keep_ended(stream)
            stream.wake()

    def _of(self, node: str, item: CallItem) -> Stream | None:
        """Where an item belongs; None when it is of an attempt that does not count any more."""
        lease = self._scheduler.lease(item.call)
        stream = self._streams.get(item.call)
        if lease is not None and (lease.token != item.token or lease.node != node):
            return None
        if stream is None:
            stream = self._streams[item.call] = Stream(item.call)
        if stream.token is None or stream.token < item.token:
            stream.begin(item.token, node)
        return None if stream.token != item.token or stream.is_over else stream

    def connected(self, node: str) -> None:
        """A node's link is new: what it was told last may not have been heard."""
        for stream in self._streams.values():
            if stream.node in (node, ""):
                self._tell_again(stream)

    # -- what becomes of calls

    def claimed(self, leases: Sequence[Lease]) -> None:
        """Calls were given to workers; those whose reader has items already may go on to those after them at once."""
        for lease in leases if self._streams else ():
            stream = self._streams.get(lease.call.id)
            if stream is not None and stream.token != lease.token:
                self._ended.pop(stream.call, None)
                stream.begin(lease.token, lease.node)
                self._grant(stream)

    def sent(self, lease: Lease) -> None:
        """A call was sent to its node only now: what that was told of it before, it did not know."""
        stream = self._streams.get(lease.call.id)
        if stream is not None and stream.token == lease.token:
            self._tell_again(stream)

    def delivered(self, call_id: str) -> int:
        """How many items of a call a reader was handed."""
        stream = self._streams.get(call_id)
        return 0 if stream is None else stream.delivered

    def made(self, call_id: str) -> int:
        """How many items of a call were told here."""
        stream = self._streams.get(call_id)
        return 0 if stream is None else stream.made

    def restart(self, leases: Iterable[Lease]) -> None:
        """These attempts are over, and others will begin at the first item."""
        for lease in leases:
            stream = self._streams.setdefault(lease.call.id, Stream(lease.call.id))
            stream.begin(lease.token, lease.node)
            stream.is_over = True

    def ended(self, view: CallView) -> None:
        """A call has ended, and its end is kept."""
        stream = self._streams.get(view.id)
        if stream is None:
            return
        stream.view = view
        stream.wake()
        self._keep_ended(stream)
        self._drop_idle(stream)

    # -- inside

    def _grant(self, stream: Stream) -> None:
        """Tell the node what was taken, and how far the generator may go."""
        if stream.token is None:
            lease = self._scheduler.lease(stream.call)
            if lease is None:
                return
            stream.begin(lease.token, lease.node)
        items = max(stream.granted, stream.taken + min(2 * stream.taken, WINDOW))
        if stream.token is None or stream.is_over or (items == stream.granted and stream.taken == stream.told):
            return
        stream.granted, stream.told = items, stream.taken
        order = GrantItems(call=stream.call, token=stream.token, items=items, taken=stream.taken)
        self._scheduler.grant_items(stream.node, order)

    def _tell_again(self, stream: Stream) -> None:
        stream.granted, stream.told = 1, 0
        self._grant(stream)

    def _drop_idle(self, stream: Stream) -> None:
        """Forget a stream of which nothing is here, unless it is of a generator that runs."""
        is_idle = stream.is_ended or (stream.token is None and not stream.taken)
        if is_idle and not stream.items and not stream.readers:
            self._forget(stream.call)

    def _keep_ended(self, stream: Stream) -> None:
        self._ended[stream.call] = stream.bytes()
        self._ended.move_to_end(stream.call)
        while len(self._ended) > KEPT_ENDED or (len(self._ended) > 1 and sum(self._ended.values()) > KEPT_BYTES):
            self._forget(next(iter(self._ended)))

    def _forget(self, call_id: str) -> None:
        self._ended.pop(call_id, None)
        self._streams.pop(call_id, None)


def _running(view: CallView) -> CallView:
    """A call of which more items may be read, as it stands to its reader."""
    return replace(
        view, state=CallState.RUNNING, pending_reason="", ended_at=None, result=None, failure=None, sequence=0
    )
