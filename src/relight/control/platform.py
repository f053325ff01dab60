"""The whole of control, put together: what gateway, links and dialects are handed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from relight.blobs.store import BlobStore
from relight.clock import Clock
from relight.control.brakes import Brakes
from relight.control.budgets import Budgets
from relight.control.calls import Calls
from relight.control.catalog import Catalog
from relight.control.costs import CostReports
from relight.control.decisions import Decisions
from relight.control.deploys import Deploys
from relight.control.logs import Logs
from relight.control.nodes import Nodes
from relight.control.queues import Queues
from relight.control.recollections import Recollections
from relight.control.retention import Keeping, Retention
from relight.control.retries import Retries
from relight.control.runs import Runs
from relight.control.shadows import Shadows
from relight.control.sources import ReachesForge, Sources, Ways
from relight.control.starts import Starts
from relight.control.streams import Streams
from relight.control.templates import Templates
from relight.control.tokens import DEFAULT_WORKSPACE, Tokens
from relight.control.traffic import Traffic
from relight.control.tunings import Tunings
from relight.control.usage import Usage
from relight.control.versions import Versions
from relight.control.web import Web
from relight.metering.cards import DEFAULT_CARD, Card, find_card, load_cards
from relight.scheduler.loop import Policy, Scheduler, Timing
from relight.scheduler.orders import ACKNOWLEDGE_SECONDS, OrderBook
from relight.scheduler.placement import Quota
from relight.store.store import Store

WORKSPACES = (DEFAULT_WORKSPACE,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One server's platform."""

    calls: Calls
    traffic: Traffic
    retries: Retries
    tunings: Tunings
    queues: Queues
    deploys: Deploys
    versions: Versions
    runs: Runs
    sources: Sources
    logs: Logs
    nodes: Nodes
    starts: Starts
    costs: CostReports
    budgets: Budgets
    tokens: Tokens
    blobs: BlobStore
    scheduler: Scheduler
    retention: Retention
    recollections: Recollections
    web: Web

    async def run(self) -> None:
        """Do what must be done without being asked, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.scheduler.run(), name="control.scheduler")
            tasks.create_task(self.calls.beyond.run(), name="control.beyond")
            tasks.create_task(self.runs.watch(WORKSPACES), name="control.runs")
            tasks.create_task(self.retention.run(), name="control.retention")
            tasks.create_task(self.logs.run(), name="control.logs")
            tasks.create_task(self.tokens.run(), name="control.tokens")
            tasks.create_task(self.sources.run(), name="control.sources")
            tasks.create_task(self.budgets.run(), name="control.budgets")
            tasks.create_task(self.recollections.run(), name="control.recollections")
            tasks.create_task(self.web.run(), name="control.web")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What an operator may set of it.  A run whose client is gone for `run_grace_seconds` is cancelled; `card` is in force,
    and says what was used costs unless nothing `is_metered`.

    A workspace may use as much as `quota` says; `max_waiting` calls may wait in all (None: no bound).
    """

    timing: Timing
    quota: Quota = field(default_factory=Quota)
    max_waiting: int | None = None
    keeping: Keeping = field(default_factory=Keeping)
    run_grace_seconds: float = 30.0
    cards: Mapping[str, Card] = field(default_factory=load_cards)
    card: str = DEFAULT_CARD
    is_metered: bool = True


async def open_control(
    store: Store, blobs: BlobStore, clock: Clock, rules: Rules, forge: ReachesForge | None = None
) -> Control:
    """Begin a new epoch over what the store holds: deploys first, then the calls that were left."""
    epoch = await store.epochs.begin()
    catalog = Catalog(store)
    streams = Streams(clock)
    shadows = Shadows(catalog, clock)
    calls = Calls(store, catalog, clock, streams, shadows)
    logs = Logs(store, clock)
    templates = Templates()
    usage = Usage(store, find_card(rules.cards, rules.card), clock, is_metered=rules.is_metered)
    web = Web(catalog, Traffic(store, clock), clock)
    nodes = Nodes(store, calls, streams, logs, templates, usage, web, shadows, clock)
    decisions = Decisions(catalog)
    recollections = Recollections(store, clock, {"decisions": decisions, "shadow": shadows})
    tunings = Tunings(store, catalog, decisions, clock)
    queues = Queues(store, catalog, calls, tunings)
    versions = Versions(store, catalog, shadows, clock, tunings.deployed)
    deploys = Deploys(store, blobs, catalog, versions, calls, templates, web, clock)
    runs = Runs(deploys, logs, clock, rules.run_grace_seconds)
    loop = asyncio.get_running_loop()
    orders = OrderBook(nodes.send, loop.call_soon, partial(loop.call_later, ACKNOWLEDGE_SECONDS))
    policy = Policy(quota=rules.quota, max_waiting=rules.max_waiting, tuner=tunings.tuning)
    scheduler = Scheduler(epoch, rules.timing, clock, orders, nodes, policy)
    budgets = Budgets(store, clock)
    usage.tell_posted(budgets.look_soon)
    usage.answer_by(orders.usage_kept)
    for room in (
        *(calls, streams, tunings, queues, versions, deploys, runs),
        *(nodes, templates, usage, budgets, web, shadows, decisions),
    ):
        room.use(scheduler)
    nodes.tell_left(runs.worker_left)
    tokens = Tokens(store, clock)
    await tokens.load()
    scheduler.restore_brakes(await Brakes(store, clock).restore())
    await tunings.load()
    await budgets.load()
    await recollections.load()
    await deploys.recover(WORKSPACES)
    await nodes.recover(WORKSPACES)
    await calls.recover()
    return Control(
        calls=calls,
        traffic=web.traffic,
        retries=Retries(store, calls),
        tunings=tunings,
        queues=queues,
        deploys=deploys,
        versions=versions,
        runs=runs,
        sources=Sources(store, Ways(deploys=deploys, runs=runs, calls=calls, blobs=blobs), forge, clock),
        logs=logs,
        nodes=nodes,
        starts=Starts(store),
        costs=CostReports(store, catalog, rules.cards, usage.card, clock),
        budgets=budgets,
        tokens=tokens,
        blobs=blobs,
        scheduler=scheduler,
        retention=Retention(store, blobs, clock, rules.keeping),
        recollections=recollections,
        web=web,
    )
