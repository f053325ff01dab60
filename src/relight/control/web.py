"""Web requests: which worker answers which, and when there must be more workers.

A worker serves the web for as long as there are requests for it: that time, its *session*, is what the scheduler sees, as
one call that nobody keeps (its payload has the format `web`).  So starting from zero, making room, draining and losing
workers are what they are for any other call, and a request costs the scheduler nothing:

    request ─▶ a session with room ─▶ its connection ─▶ answered
          └─▶ waits ─▶ a call for one session more ─▶ scheduler ─▶ a worker, started if need be ─▶ its connection

An agent opens the connection as soon as it hears of the call, while the worker is still being started: what waits is
written into it at once, and is there when the worker is ready.  A session without requests ends after LINGER_SECONDS; its
worker is idle then, and the scheduler's to stop.  One that is lost gives back what it had (`exchanges.py`).  What is over is
noted (`traffic.py`).
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from relight.clock import Clock, now_ms
from relight.control.catalog import Catalog, Version, key_of
from relight.control.exchanges import Carries, Exchange
from relight.control.traffic import Shares, Traffic
from relight.protocol.calls import CallEvent
from relight.protocol.errors import (
    ERRORS,
    Conflict,
    Failure,
    FunctionTimeout,
    NotFound,
    ProtocolError,
    RelightError,
    StartFailed,
    Unavailable,
    WorkerLost,
)
from relight.protocol.ids import new_id
from relight.protocol.link import CallEnd
from relight.protocol.manifest import FunctionSpec, MethodSpec, WebSpec
from relight.protocol.payload import Payload
from relight.protocol.web import FORMAT, Kind
from relight.protocol.workers import WorkerState
from relight.scheduler.leases import Lease
from relight.scheduler.loop import Scheduler
from relight.scheduler.queue import FunctionKey, WaitingCall
from relight.scheduler.state import Worker
from relight.store.requests import Place as RequestPlace

Place = tuple[str, str, str]
"""App, environment and name."""

LINGER_SECONDS = 1.0
"""How long a session without requests waits for the next: as long, its worker counts as busy."""

MAX_TRIES = 3
"""After so many workers that were lost under it, a request is told so."""

SWEEP_SECONDS = 0.1
"""How often it is looked for requests that have taken too long."""

TARGETS_IN_MEMORY = 4096

PREFIX = "web-"
"""The ids of sessions begin so: they are calls to the scheduler and the agents, and to nobody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something that answers requests: a function of a version, or a method of a class."""

    version: Version
    key: FunctionKey
    function: FunctionSpec
    method: MethodSpec
    web: WebSpec

    @property
    def name(self) -> str:
        """As people know it."""
        return self.key.function + (f".{self.method.name}" if self.method.name else "")

    @property
    def place(self) -> RequestPlace:
        """As it is written beside what it answered."""
        version = self.version
        return RequestPlace(
            version.workspace, version.app, version.environment, version.id, self.key.function, self.method.name
        )


@dataclass(slots=True, kw_only=True)
class Session:
    """One worker's time with the web.  `secret` is what its agent shows; the worker never has it."""

    id: str
    secret: str
    pool: Pool
    worker: str = ""
    way: Carries | None = None
    is_ready: bool = False
    is_finishing: bool = False
    idle_since: float = 0.0
    exchanges: dict[int, Exchange] = field(default_factory=dict)
    shares: Shares = field(default_factory=Shares)

    @property
    def room(self) -> int:
        """How many requests more it may have."""
        if self.way is None or self.is_finishing:
            return 0
        return self.pool.target.web.max_inputs - len(self.exchanges)

    def give(self, exchange: Exchange) -> None:
        """Have it answered here."""
        assert self.way is not None, "only a session with room is given any"
        if self.is_ready:
            self._begin(exchange, self.pool.now())
        self.exchanges[exchange.number] = exchange
        exchange.tries += 1
        exchange.give(self.way, self)

    def over(self, exchange: Exchange) -> None:
        """One is answered: there is room."""
        self._charge(exchange, self.pool.now())
        self.exchanges.pop(exchange.number, None)
        self.pool.web.has_room(self)

    def be_ready(self) -> None:
        """Its worker is: what it was given before begins now."""
        self.is_ready = True
        self.idle_since = now = self.pool.now()
        self.shares.passed(now, 0)
        for exchange in self.exchanges.values():
            self._begin(exchange, now)

    def be_lost(self) -> list[Exchange]:
        """Its connection is gone; what it had."""
        now, lost = self.pool.now(), list(self.exchanges.values())
        for exchange in lost:
            self._charge(exchange, now)
        self.exchanges.clear()
        self.way = None
        return lost

    def _begin(self, exchange: Exchange, now: float) -> None:
        exchange.worker, exchange.given_at = self.worker, now
        exchange.shared_from = self.shares.passed(now, len(self.exchanges))

    def _charge(self, exchange: Exchange, now: float) -> None:
        if self.is_ready:
            exchange.used_seconds += self.shares.passed(now, len(self.exchanges)) - exchange.shared_from


@dataclass(slots=True, kw_only=True)
class Pool:
    """The sessions of one target, and the requests that wait for one."""

    web: Web
    target: Target
    place: RequestPlace
    sessions: dict[str, Session] = field(default_factory=dict)
    waiting: deque[Exchange] = field(default_factory=deque)

    def now(self) -> float:
        """The clock that exchanges go by."""
        return self.web.clock.monotonic()

    def note(self, exchange: Exchange) -> None:
        """One is over."""
        self.web.traffic.note(self.place, exchange)

    def roomiest(self) -> Session | None:
        """The session that has the fewest requests, None when none has room."""
        best: Session | None = None
        for session in self.sessions.values():
            if session.room > 0 and (best is None or len(session.exchanges) < len(best.exchanges)):
                best = session
        return best

    def put_back(self, exchanges: Iterable[Exchange]) -> None:
        """These wait again, before all others."""
        self.waiting.extendleft(sorted(exchanges, key=lambda one: -one.number))


class Web:
    """Every request that is on its way, and every session."""

    def __init__(self, catalog: Catalog, traffic: Traffic, clock: Clock) -> None:
        self._catalog = catalog
        self.traffic = traffic
        self.clock = clock
        self._targets: dict[tuple[str, str], Target] = {}
        self._pools: dict[tuple[FunctionKey, str], Pool] = {}
        self._sessions: dict[str, Session] = {}
        self._secrets: dict[str, Session] = {}
        self._labels: dict[str, Place] = {}
        self._labelled_at = -1
        self._requests = 0
        self._scheduler: Scheduler
        self.base_url = ""
        """Where the server listens for browsers, "" for nowhere."""

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler

    # -- what the gateway asks

    async def target(self, workspace: str, app: str, environment: str, name: str) -> Target:
        """What answers a request for a name (`function`, or `Class.method`): of one version or the other while there are
        two.  Raises NotFound.
        """
        route = await self._catalog.route(workspace, app, environment)
        return self._target_in(route.stable if route.canary is None else route.of(str(self._requests)), name)

    def _target_in(self, version: Version, name: str) -> Target:
        known = self._targets.get((version.id, name))
        if known is not None:
            return known
        function, _, method = name.partition(".")
        spec = version.function(function).method(method)
        if spec is None or spec.web is None:
            raise NotFound(
                f"cannot open {version.app}/{name}: it answers no web requests; put @relight.web_endpoint() under its decorator"
            )
        bound = version.bind(function)
        target = Target(version=version, key=key_of(version, bound), function=bound.function, method=spec, web=spec.web)
        if len(self._targets) >= TARGETS_IN_MEMORY:
            self._targets.clear()
        self._targets[(version.id, name)] = target
        return target

    def open(
        self, target: Target, head: bytes, body: bytes | None, *, is_idempotent: bool, is_tunnel: bool
    ) -> Exchange:
        """Have a request answered; by a worker that is there, or as soon as there is one."""
        self._requests += 1
        pool = self._pool(target)
        exchange = Exchange(
            self._requests & 0xFFFFFFFF, head, body, pool, is_idempotent=is_idempotent, is_tunnel=is_tunnel
        )
        exchange.started = pool.now()
        exchange.deadline = exchange.started + target.function.timeout_seconds
        session = pool.roomiest() if not pool.waiting else None
        if session is not None:
            session.give(exchange)
        else:
            pool.waiting.append(exchange)
            self._ask(pool)
        return exchange

    # -- where it answers

    def check_labels(self, version: Version) -> None:
        """Raise Conflict when a version asks for a label that another thing has."""
        for name, web in _answering(version):
            holder = self.labelled(web.label) if web.label else None
            if holder is not None and holder != (version.app, version.environment, name):
                raise Conflict(
                    f"cannot deploy {version.app}: the label {web.label!r} of {name} is that of {'/'.join(holder)}; "
                    "choose another"
                )

    def labelled(self, label: str) -> Place | None:
        """The app, environment and name that a host's label stands for; None when it stands for none."""
        if self._labelled_at != self._catalog.changes:
            self._labelled_at = self._catalog.changes
            self._labels = {}
            for route in self._catalog.routes():
                for name, web in _answering(route.stable):
                    place = (route.stable.app, route.stable.environment, name)
                    self._labels.setdefault(label_of(place, web), place)
        return self._labels.get(label)

    async def urls_of(self, workspace: str, app: str, environment: str) -> dict[str, str]:
        """Where each thing of an app answers, by its name.  Raises NotFound."""
        return self.urls((await self._catalog.route(workspace, app, environment)).stable)

    def urls(self, version: Version) -> dict[str, str]:
        """The same of a version."""
        where = version.app if version.environment == "main" else f"{version.app}@{version.environment}"
        return {name: f"{self.base_url}/w/{where}/{name}" for name, _ in _answering(version)}

    def _pool(self, target: Target) -> Pool:
        key = (target.key, target.method.name)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(web=self, target=target, place=target.place)
        return pool

    def counts(self, version: str, function: str) -> tuple[int, int]:
        """How many requests of a function wait, and how many workers have."""
        pools = [pool for (key, _), pool in self._pools.items() if (key.version, key.function) == (version, function)]
        waiting = sum(not exchange.is_over for pool in pools for exchange in pool.waiting)
        return waiting, sum(len(session.exchanges) for pool in pools for session in pool.sessions.values())

    # -- sessions: asked for, and given up

    def _ask(self, pool: Pool) -> None:
        """Ask for as many sessions as what waits needs, beyond those that are on their way."""
        waiting = [one for one in pool.waiting if not one.is_over]
        coming = sum(one.way is None and not one.is_finishing for one in pool.sessions.values())
        most = pool.target.web.max_inputs
        for _ in range(-(-len(waiting) // most) - coming):
            self._begin_session(pool)

    def _begin_session(self, pool: Pool) -> None:
        target = pool.target
        if not self._scheduler.knows(target.key):
            is_current = self._catalog.is_current(target.version)
            spec = target.version.worker_spec(target.version.bind(target.key.function, target.key.binding))
            self._scheduler.add_function(target.key, spec, is_superseded=not is_current)
        secret = secrets.token_hex(16)
        session = Session(id=new_id("web", now_ms()), secret=secret, pool=pool)
        pool.sessions[session.id] = self._sessions[session.id] = self._secrets[secret] = session
        call = WaitingCall(
            id=session.id,
            workspace=target.version.workspace,
            key=target.key,
            method=target.method.name,
            payload=Payload(format=FORMAT, blob=secret),
        )
        self._scheduler.submit([call])

    def _forget(self, session: Session) -> None:
        session.pool.sessions.pop(session.id, None)
        self._sessions.pop(session.id, None)
        self._secrets.pop(session.secret, None)
        pool = session.pool
        if not pool.sessions and not pool.waiting:
            self._pools.pop((pool.target.key, pool.target.method.name), None)

    def has_room(self, session: Session) -> None:
        """A session may have more requests: give it what waits; with none at all it is idle from now."""
        waiting = session.pool.waiting
        while waiting and session.room > 0:
            exchange = waiting.popleft()
            if not exchange.is_over:
                session.give(exchange)
        if not session.exchanges:
            session.idle_since = self.clock.monotonic()
            if session.is_finishing and session.way is not None:
                session.way.send(Kind.FINISH, 0)

    def _finish(self, session: Session) -> None:
        """Let it end: after the requests that it has."""
        if not session.is_finishing:
            session.is_finishing = True
            if session.way is not None and not session.exchanges:
                session.way.send(Kind.FINISH, 0)

    # -- from the workers

    def attached(self, secret: str, way: Carries) -> Session:
        """An agent has opened the connection of a session.  Raises NotFound when nobody asked for that."""
        session = self._secrets.get(secret)
        if session is None or session.is_ready:
            raise NotFound("cannot take a connection for the web: no session waits for it")
        if session.way is not None:  # the worker it was for did not start, and this is another's
            session.way.close()
            self.detached(session)
        session.way = way
        target = session.pool.target
        config = {
            "kind": target.web.kind,
            "methods": target.web.methods,
            "port": target.web.port,
            "max_inputs": target.web.max_inputs,
            "startup_timeout": target.web.startup_timeout_seconds,
            "schema": target.method.input_schema if target.web.kind == "endpoint" else None,
        }
        way.send(Kind.CONFIG, 0, json.dumps(config).encode())
        self.has_room(session)
        return session

    def heard(self, session: Session, kind: int, number: int, data: bytes) -> None:
        """A worker says something.  Raises ProtocolError, which ends its connection."""
        if kind == Kind.READY:
            session.be_ready()
            return
        if kind == Kind.LEAVE:
            self._finish(session)
            return
        exchange = session.exchanges.get(number)
        if exchange is None:
            raise ProtocolError(f"cannot take an answer to request {number}: this worker was not asked it")
        exchange.hear(kind, data)

    def detached(self, session: Session) -> None:
        """A connection is gone: what was not delivered, or may be asked twice, waits again."""
        session.is_finishing = session.is_ready
        again: list[Exchange] = []
        for exchange in session.be_lost():
            exchange.take_away()
            if exchange.is_over:
                continue
            exchange.tries -= not session.is_ready  # no worker has heard it
            is_safe = not session.is_ready or exchange.is_idempotent
            if exchange.may_go_again and is_safe and exchange.tries < MAX_TRIES:
                again.append(exchange)
            else:
                exchange.fail(WorkerLost("cannot answer: the worker that had the request is gone; ask again"))
        session.pool.put_back(again)
        if session.pool.waiting:
            self._ask(session.pool)

    # -- what the scheduler tells, of calls that are sessions

    def granted(self, leases: Sequence[Lease]) -> None:
        """Sessions are on their way to workers."""
        for lease in leases:
            session = self._sessions.get(lease.call.id)
            if session is not None:
                session.worker = lease.worker

    def worker_entered(self, worker: Worker) -> None:
        """A worker that leaves takes no more requests."""
        if worker.state is WorkerState.DRAINING:
            for session in [one for one in self._sessions.values() if one.worker == worker.id]:
                self._limit_tunnels(session)
                self._finish(session)

    def _limit_tunnels(self, session: Session) -> None:
        """What has no end of its own ends within the function's timeout, as its worker is to leave."""
        for exchange in session.exchanges.values():
            if exchange.is_tunnel:
                exchange.is_tunnel = False
                exchange.deadline = self.clock.monotonic() + session.pool.target.function.timeout_seconds

    def inherited(self, sessions: Sequence[str], heir: str) -> None:
        """These find no worker any more, as their version is being replaced: what waits for them is for the one after it."""
        for session in filter(None, map(self._sessions.get, sessions)):
            pool, version = session.pool, self._catalog.known(session.pool.target.version.workspace, heir)
            self._forget(session)
            waiting, pool.waiting = pool.waiting, deque()
            try:
                after = self._pool(self._target_in(version, pool.target.name))
            except NotFound as error:
                for exchange in waiting:
                    exchange.fail(error)
                continue
            after.waiting.extend(waiting)
            self._ask(after)

    def ended(self, node: str, end: CallEnd) -> FunctionKey | None:
        """A session ended on a node; the function whose worker is free then."""
        lease = self._scheduler.release(end.call, end.token)
        self._scheduler.acknowledge(node, end.call, end.token)
        if lease is None:
            return None
        session = self._sessions.get(end.call)
        if session is not None:
            self._end_session(session, end.failure if end.outcome is CallEvent.FAILED else None)
        return lease.call.key

    def lost(self, leases: Sequence[Lease]) -> None:
        """Sessions have no worker any more."""
        for lease in leases:
            session = self._sessions.get(lease.call.id)
            if session is not None:
                self._end_session(session, None)

    def cannot_start(self, calls: Sequence[WaitingCall], failure: Failure) -> None:
        """No worker can be started: whoever waits for one is told why, unless that may soon be otherwise.

        A node that leaves refuses to start any; requests wait for it to be back, or for another (`sweep` asks again).
        """
        may_help = ERRORS.get(failure.code, RelightError).retryable
        for call in calls:
            session = self._sessions.get(call.id)
            if session is not None and may_help:
                self._forget(session)
            elif session is not None:
                self._end_session(session, failure)

    def _end_session(self, session: Session, failure: Failure | None) -> None:
        pool = session.pool
        was_ready = session.is_ready
        if session.way is not None:
            session.way.close()
            self.detached(session)
        self._forget(session)
        if failure is not None and not was_ready:
            error = ERRORS.get(failure.code, StartFailed)
            kind = StartFailed if error.status < 500 or error.code == "function_failed" else error
            waiting, pool.waiting = pool.waiting, deque()
            for exchange in waiting:
                told = kind(f"cannot answer: {failure.message}")
                told.add_note(failure.traceback)
                exchange.fail(told)
            for other in [one for one in pool.sessions.values() if one.way is None]:
                self._scheduler.cancel(other.id, pool.target.key)
                self._forget(other)
            return
        if pool.waiting:
            self._ask(pool)

    def stop_version(self, version: str) -> None:
        """A version is stopped: what waits for it is told so."""
        for pool in [one for one in self._pools.values() if one.target.key.version == version]:
            for session in list(pool.sessions.values()):
                self._scheduler.cancel(session.id, pool.target.key)
                if session.way is None:
                    self._forget(session)
            waiting, pool.waiting = pool.waiting, deque()
            for exchange in waiting:
                exchange.fail(NotFound("cannot answer: the app was stopped; deploy it again"))

    # -- the time

    async def run(self) -> None:
        """Look for what takes too long, and for sessions without requests, until cancelled."""
        while True:
            await self.clock.sleep(SWEEP_SECONDS)
            self.sweep()

    def sweep(self) -> None:
        """Answer what is late, and end what is idle."""
        now = self.clock.monotonic()
        for pool in list(self._pools.values()):
            self._sweep_waiting(pool, now)
            for session in list(pool.sessions.values()):
                self._sweep_session(session, now)

    def _sweep_waiting(self, pool: Pool, now: float) -> None:
        if not pool.waiting:
            self._give_up_needless(pool)
            return
        limit = pool.target.function.queue_timeout_seconds
        kept: deque[Exchange] = deque()
        for exchange in pool.waiting:
            late = exchange.deadline if limit is None else min(exchange.deadline, exchange.started + limit)
            if exchange.is_over:
                continue
            if late > now:
                kept.append(exchange)
                continue
            why = self._why(pool)
            exchange.fail(
                Unavailable(
                    f"cannot answer: no worker took the request in {now - exchange.started:.1f} s ({why}); ask again"
                )
            )
        pool.waiting = kept
        self._ask(pool)

    def _why(self, pool: Pool) -> str:
        reasons = (self._scheduler.why_waiting(one.id, pool.target.key) for one in pool.sessions.values())
        return next((reason for reason in reasons if reason), "no_worker")

    def _give_up_needless(self, pool: Pool) -> None:
        """Nothing waits any more: sessions that have no worker yet need none."""
        for session in [one for one in pool.sessions.values() if not one.worker and one.way is None]:
            self._scheduler.cancel(session.id, pool.target.key)
            self._forget(session)

    def _sweep_session(self, session: Session, now: float) -> None:
        function = session.pool.target.function
        for exchange in list(session.exchanges.values()):
            if exchange.is_over and not exchange.is_leaving:
                exchange.is_leaving, exchange.deadline = True, now  # whoever asked is gone: its time to leave runs
            if exchange.is_over or exchange.deadline > now or (exchange.is_tunnel and exchange.has_begun):
                continue
            exchange.fail(
                FunctionTimeout(
                    f"cannot answer: it took longer than the function's timeout ({function.timeout_seconds:g} s); "
                    "raise timeout="
                )
            )
        is_stuck = any(
            one.is_leaving and one.deadline + function.grace_seconds < now for one in session.exchanges.values()
        )
        if is_stuck and session.pool.target.web.max_inputs == 1:
            self._scheduler.cancel(session.id, session.pool.target.key)
        is_idle = session.is_ready and not session.exchanges and now - session.idle_since >= LINGER_SECONDS
        if is_idle:
            self._finish(session)


def of_web(call: str) -> bool:
    """Whether what the scheduler calls a call is a session."""
    return call.startswith(PREFIX)


def label_of(place: Place, web: WebSpec) -> str:
    """The label of a host that leads to something: its own, or made of its names; 63 characters at most, as DNS has it."""
    if web.label:
        return web.label
    app, environment, name = place
    parts = (name, app) if environment == "main" else (name, app, environment)
    label = "--".join(re.sub(r"[^a-z0-9-]+", "-", part.lower()).strip("-") for part in parts)
    return label if len(label) <= 63 else f"{label[:52]}-{hashlib.sha256(label.encode()).hexdigest()[:10]}"


def _answering(version: Version) -> Iterator[tuple[str, WebSpec]]:
    """What of a version answers web requests, by its name."""
    for function in version.manifest.functions:
        for method in function.methods:
            if method.web is not None:
                yield (f"{function.name}.{method.name}" if method.name else function.name), method.web
