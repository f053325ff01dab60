"""Which worker answers which request, and what becomes of requests whose worker does not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from relight.control.catalog import Catalog, Route, Version, key_of
from relight.control.exchanges import REPLAY_BYTES, Exchange
from relight.control.web import LINGER_SECONDS, MAX_TRIES, Session, Target, Web, label_of
from relight.protocol.calls import CallEvent, Token
from relight.protocol.errors import (
    Conflict,
    Failure,
    FunctionTimeout,
    ProtocolError,
    StartFailed,
    Unavailable,
    WorkerLost,
)
from relight.protocol.link import CallEnd
from relight.protocol.manifest import CodeBundle, FunctionSpec, Manifest, MethodSpec, WebSpec
from relight.protocol.web import WINDOW_BYTES, AnswerHead, Kind, join, pack_answer, pack_count
from relight.scheduler.leases import Lease
from relight.scheduler.queue import WaitingCall
from relight.store.requests import Place
from scheduled import IMAGE, Clock

SAID = join(pack_answer(AnswerHead(200, [(b"a", b"b")])), b"said")


async def a_turn() -> None:
    """Let the loop go on for one turn."""
    loop = asyncio.get_running_loop()
    turned = loop.create_future()
    loop.call_soon(turned.set_result, None)
    await turned


class Way:
    """A connection to a worker, and what was said on it."""

    def __init__(self) -> None:
        self.said: list[tuple[Kind, int, bytes]] = []
        self.is_closed = False

    def send(self, kind: Kind, request: int, data: bytes | memoryview = b"") -> None:
        self.said.append((kind, request, data))

    def close(self) -> None:
        self.is_closed = True

    def of(self, *kinds: Kind) -> list[int]:
        """The requests of which something of these kinds was said."""
        return [request for kind, request, _ in self.said if kind in kinds]


class FakeScheduler:
    """Keeps what it is asked."""

    def __init__(self) -> None:
        self.submitted: list[WaitingCall] = []
        self.cancelled: list[str] = []

    def knows(self, key: object) -> bool:
        return True

    def submit(self, calls: Sequence[WaitingCall]) -> None:
        self.submitted += calls

    def cancel(self, call: str, key: object) -> None:
        self.cancelled.append(call)

    def release(self, call: str, token: Token) -> Lease | None:
        found = next((one for one in self.submitted if one.id == call), None)
        if found is None:
            return None
        return Lease(call=found, token=token, worker="w", node="n", attempt=1, granted_at=0, renewed_at=0)

    def acknowledge(self, node: str, call: str, token: Token) -> None:
        pass

    def why_waiting(self, call: str, key: object) -> str:
        return "no_node: none is there"


class FakeTraffic:
    """Keeps what it is told of."""

    def __init__(self) -> None:
        self.noted: list[Exchange] = []

    def note(self, place: Place, exchange: Exchange) -> None:
        assert place == ("default", "shop", "main", "v-shop", "f", "")
        self.noted.append(exchange)


class World:
    """The web between a gateway and workers, under a clock that stands still."""

    def __init__(self, most: int = 2) -> None:
        self.clock, self.scheduler = Clock(), FakeScheduler()
        catalog: Any = Catalog(None)  # type: ignore[arg-type]  # nothing is looked up
        self.traffic = FakeTraffic()
        self.web = Web(catalog, self.traffic, self.clock)  # type: ignore[arg-type]  # as much of it as is asked
        self.web.use(self.scheduler)  # type: ignore[arg-type]  # as much of it as is asked
        spec = WebSpec(kind="asgi", max_inputs=most)
        self.version = version("shop", "f", spec)
        catalog.lead(Route(stable=self.version))
        bound = self.version.bind("f")
        self.target = Target(
            version=self.version,
            key=key_of(self.version, bound),
            function=bound.function,
            method=bound.function.methods[0],
            web=spec,
        )

    def ask(self, body: bytes | None = b"", *, is_idempotent: bool = True, is_tunnel: bool = False) -> Exchange:
        return self.web.open(self.target, b"head", body, is_idempotent=is_idempotent, is_tunnel=is_tunnel)

    def attach(self, number: int = -1, *, is_ready: bool = True) -> tuple[Way, Session]:
        """The agent has opened the connection of a session that was asked for."""
        way = Way()
        payload = self.scheduler.submitted[number].payload
        assert payload is not None
        session = self.web.attached(payload.blob, way)
        if is_ready:
            self.web.heard(session, Kind.READY, 0, b"")
        return way, session

    def end(self, session: Session, outcome: CallEvent = CallEvent.SUCCEEDED, failure: Failure | None = None) -> None:
        token = Token(1, 1)
        self.web.ended("n", CallEnd(call=session.id, token=token, outcome=outcome, worker="w", failure=failure))


def version(app: str, name: str, spec: WebSpec, environment: str = "main") -> Version:
    function = FunctionSpec(
        name=name, module="m", qualname=name, image=IMAGE, methods=(MethodSpec(web=spec),), timeout_seconds=10.0
    )
    manifest = Manifest(app=app, code=CodeBundle(digest="d", size=1, folder="/a"), functions=(function,))
    return Version(workspace="default", id=f"v-{app}", app=app, environment=environment, manifest=manifest)


@pytest.fixture
async def world() -> World:
    return World()


async def test_what_waits_asks_for_as_many_workers_as_it_needs_and_is_there_when_they_are(world: World) -> None:
    asked = [world.ask() for _ in range(3)]
    way, session = world.attach(0, is_ready=False)

    assert len(world.scheduler.submitted) == 2
    assert way.of(Kind.OPEN_WHOLE) == [asked[0].number, asked[1].number]
    world.web.heard(session, Kind.WHOLE, asked[0].number, SAID)
    assert way.of(Kind.OPEN_WHOLE) == [one.number for one in asked]
    assert asked[0].answered.result().body == b"said"


async def test_a_request_goes_to_the_worker_that_has_the_fewest(world: World) -> None:
    first = [world.ask() for _ in range(3)]
    ways = [world.attach(0)[0], world.attach(1)[0]]

    more = world.ask()

    assert ways[0].of(Kind.OPEN_WHOLE) == [first[0].number, first[1].number]
    assert ways[1].of(Kind.OPEN_WHOLE) == [first[2].number, more.number]


async def test_what_a_lost_worker_had_not_heard_and_what_may_be_asked_twice_goes_to_another(world: World) -> None:
    again, once = world.ask(), world.ask(is_idempotent=False)
    _, session = world.attach()

    world.web.detached(session)

    with pytest.raises(WorkerLost):
        once.answered.result()
    way, other = world.attach(is_ready=False)
    assert way.of(Kind.OPEN_WHOLE) == [again.number]
    late = world.ask(is_idempotent=False)
    world.web.detached(other)  # it was never ready: nothing was delivered
    assert world.attach()[0].of(Kind.OPEN_WHOLE) == [again.number, late.number]


async def test_a_request_is_not_tried_for_ever_nor_once_its_answer_has_begun(world: World) -> None:
    tried = world.ask()
    for _ in range(MAX_TRIES):
        world.web.detached(world.attach()[1])
    begun = world.ask()
    _, session = world.attach()
    world.web.heard(session, Kind.HEAD, begun.number, pack_answer(AnswerHead(200, ())))
    world.web.detached(session)

    with pytest.raises(WorkerLost):
        tried.answered.result()
    with pytest.raises(WorkerLost):
        [data async for data in begun.parts()]


async def test_a_body_is_sent_again_as_far_as_it_was_sent_and_no_longer_than_it_is_held(world: World) -> None:
    small, large = world.ask(None), world.ask(None)
    _, session = world.attach()
    await small.send(b"a" * 100)
    for _ in range(REPLAY_BYTES // 65536 + 1):
        world.web.heard(session, Kind.CREDIT, large.number, pack_count(65536))
        await large.send(b"b" * 65536)

    world.web.detached(session)

    way, _ = world.attach()
    assert [data for kind, number, data in way.said if kind is Kind.BODY and number == small.number] == [b"a" * 100]
    with pytest.raises(WorkerLost):
        large.answered.result()


async def test_a_body_waits_for_credit(world: World) -> None:
    exchange = world.ask(None)
    way, session = world.attach()
    sending = asyncio.ensure_future(exchange.send(b"x" * (WINDOW_BYTES + 65536)))
    await a_turn()

    sent = sum(len(data) for kind, _, data in way.said if kind is Kind.BODY)
    assert (sent, sending.done()) == (WINDOW_BYTES, False)
    world.web.heard(session, Kind.CREDIT, exchange.number, pack_count(65536))
    await sending


async def test_what_is_taken_of_an_answer_is_granted_again_and_more_is_not_believed(world: World) -> None:
    exchange = world.ask()
    way, session = world.attach()
    world.web.heard(session, Kind.HEAD, exchange.number, pack_answer(AnswerHead(200, ())))
    world.web.heard(session, Kind.BODY, exchange.number, b"x" * WINDOW_BYTES)
    parts = exchange.parts()

    await anext(parts)
    pending = asyncio.ensure_future(anext(parts))
    await a_turn()
    assert way.of(Kind.CREDIT) == [exchange.number]
    for _ in range(2):
        world.web.heard(session, Kind.BODY, exchange.number, b"x" * (WINDOW_BYTES // 2 + 1))
    await pending
    world.web.heard(session, Kind.BODY, exchange.number, b"x" * WINDOW_BYTES)
    with pytest.raises(ProtocolError):
        world.web.heard(session, Kind.BODY, exchange.number, b"x" * WINDOW_BYTES)


@pytest.mark.parametrize(("kind", "number"), [(Kind.WHOLE, 99), (Kind.END, 1), (Kind.OPEN, 1), (99, 1)])
async def test_what_makes_no_sense_is_not_believed(world: World, kind: int, number: int) -> None:
    world.ask()
    _, session = world.attach()

    with pytest.raises(ProtocolError):
        world.web.heard(session, kind, number, SAID)


async def test_who_hangs_up_is_told_and_its_place_is_free_once_the_worker_is_done(world: World) -> None:
    first, _, waiting = world.ask(), world.ask(), world.ask()
    way, session = world.attach(0)

    first.hang_up()
    before = way.of(Kind.OPEN_WHOLE)
    world.web.heard(session, Kind.BROKEN, first.number, b"")

    assert way.of(Kind.GONE) == [first.number]
    assert waiting.number not in before
    assert way.of(Kind.OPEN_WHOLE)[-1] == waiting.number


async def test_a_request_that_takes_too_long_is_told_why(world: World) -> None:
    taken = world.ask()
    way, session = world.attach()
    world.ask()
    waiting = world.ask()
    world.clock.time += 11

    world.web.sweep()

    with pytest.raises(FunctionTimeout):
        taken.answered.result()
    with pytest.raises(Unavailable, match="no_node"):
        waiting.answered.result()
    assert taken.number in way.of(Kind.GONE)
    assert session.room == 0  # until the worker is done with them


async def test_a_tunnel_has_no_time_once_it_is_open(world: World) -> None:
    tunnel = world.ask(None, is_tunnel=True)
    _, session = world.attach()
    world.web.heard(session, Kind.HEAD, tunnel.number, pack_answer(AnswerHead(101, ())))
    world.clock.time += 1000

    world.web.sweep()

    assert not tunnel.is_over


async def test_a_session_without_requests_ends_and_one_that_leaves_gets_no_more(world: World) -> None:
    exchange = world.ask()
    way, session = world.attach()
    world.web.heard(session, Kind.WHOLE, exchange.number, SAID)
    world.clock.time += LINGER_SECONDS / 2
    world.web.sweep()
    assert not way.of(Kind.FINISH)

    busy = world.ask()
    world.web.heard(session, Kind.LEAVE, 0, b"")
    other = world.ask()

    assert not way.of(Kind.FINISH)
    world.web.heard(session, Kind.WHOLE, busy.number, SAID)
    assert way.of(Kind.FINISH) == [0]
    assert len(world.scheduler.submitted) == 2
    assert world.attach()[0].of(Kind.OPEN_WHOLE) == [other.number]


async def test_an_idle_session_is_told_to_finish_after_a_while(world: World) -> None:
    exchange = world.ask()
    way, session = world.attach()
    world.web.heard(session, Kind.WHOLE, exchange.number, SAID)
    world.clock.time += LINGER_SECONDS

    world.web.sweep()
    world.end(session)

    assert way.of(Kind.FINISH) == [0]
    assert way.is_closed


async def test_an_app_that_cannot_be_made_is_told_to_all_who_wait(world: World) -> None:
    asked = [world.ask() for _ in range(3)]
    _, session = world.attach(0, is_ready=False)

    world.end(session, CallEvent.FAILED, Failure(code="function_failed", message="ValueError: no"))

    for exchange in asked:
        with pytest.raises(StartFailed, match="ValueError: no"):
            exchange.answered.result()


async def test_a_node_that_leaves_is_no_reason_to_answer(world: World) -> None:
    exchange = world.ask()

    world.web.cannot_start(world.scheduler.submitted, Failure(code="unavailable", message="this node is being stopped"))
    world.web.sweep()

    assert not exchange.answered.done()
    assert len(world.scheduler.submitted) == 2


async def test_a_start_that_failed_for_good_is_told(world: World) -> None:
    exchange = world.ask()

    world.web.cannot_start(world.scheduler.submitted, Failure(code="start_failed", message="no module named x"))

    with pytest.raises(StartFailed, match="no module named x"):
        exchange.answered.result()


async def test_a_session_nobody_needs_any_more_is_taken_back(world: World) -> None:
    world.ask().hang_up()

    world.web.sweep()
    world.web.sweep()

    assert world.scheduler.cancelled == [world.scheduler.submitted[0].id]


async def test_labels_are_made_of_names_and_no_two_things_have_the_same_one(world: World) -> None:
    plain = WebSpec(kind="asgi")
    assert label_of(("My.Shop", "main", "get_price"), plain) == "get-price--my-shop"
    assert label_of(("shop", "staging", "f"), plain) == "f--shop--staging"
    assert len(label_of(("s" * 64, "main", "f" * 64), plain)) <= 63

    mine = WebSpec(kind="asgi", label="hello")
    one, other = version("one", "f", mine), version("other", "g", mine)
    world.web._catalog.lead(Route(stable=one))
    world.web.check_labels(one)
    with pytest.raises(Conflict):
        world.web.check_labels(other)
    assert world.web.labelled("hello") == ("one", "main", "f")
