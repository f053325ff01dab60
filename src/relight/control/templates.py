"""What became of a version's templates, as its nodes tell: in memory, since they tell it again when they come back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from relight.control.catalog import Version
from relight.protocol.link import template_key
from relight.protocol.manifest import FunctionSpec, never_forked
from relight.protocol.templates import TemplateOutcome, TemplateState, TemplateView
from relight.scheduler.loop import Scheduler
from relight.scheduler.state import Node

_MIB = 1 << 20


def can_be_made(function: FunctionSpec) -> bool:
    """Whether a template can be made already: one that holds an object needs its parameters."""
    return not (function.has_snap and any(one.required for one in function.parameters))


class Templates:
    """Reads what the scheduler was told of nodes, and waits for more of it."""

    def __init__(self) -> None:
        self._scheduler: Scheduler
        self._news = asyncio.Event()

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler

    def told(self, node: str, outcomes: Iterable[TemplateOutcome]) -> None:
        """A node says what became of some."""
        self._scheduler.templates_changed(node, outcomes)
        self._news.set()
        self._news = asyncio.Event()

    async def of(self, version: Version, wait_seconds: float = 0.0) -> tuple[TemplateView, ...]:
        """What is known of each function's template, as soon as none is being made or `wait_seconds` have passed."""
        try:
            async with asyncio.timeout(wait_seconds):
                while any(view.state is TemplateState.MAKING for view in self._views(version)):
                    await self._news.wait()
        except TimeoutError:
            pass
        return self._views(version)

    def _views(self, version: Version) -> tuple[TemplateView, ...]:
        nodes = [node for node in self._scheduler.nodes() if node.is_connected]
        return tuple(
            _view(bound.function, template_key(version.worker_spec(bound)), nodes) for bound in version.all_unbound()
        )


def _view(function: FunctionSpec, key: str, nodes: list[Node]) -> TemplateView:
    why = never_forked(function)
    if not why and not can_be_made(function):
        why = "parameters: its object is made before the fork, so there is a template for each value it is called with"
    if why:
        return TemplateView(function=function.name, state=TemplateState.NONE, why=why)
    if not nodes:
        why = "no_node: no node is connected; start one with `relight up`"
        return TemplateView(function=function.name, state=TemplateState.MAKING, why=why)
    known = [(node, node.templates[key]) for node in nodes if key in node.templates]
    if not known:
        why = "first: no node has been asked for it; its first start makes it"
        return TemplateView(function=function.name, state=TemplateState.NONE, why=why)
    order = (TemplateState.READY, TemplateState.MAKING, TemplateState.NONE)
    node, outcome = min(known, key=lambda one: order.index(one[1].state))
    return TemplateView(
        function=function.name,
        state=outcome.state,
        why=outcome.why,
        node=node.id,
        seconds=outcome.seconds,
        memory_mib=outcome.memory_bytes / _MIB,
    )
