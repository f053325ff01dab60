"""Templates that nodes are told to make before a call needs one, and what became of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from relight.protocol.link import WorkerSpec, template_key
from relight.protocol.manifest import never_forked
from relight.protocol.templates import KEPT_OUTCOMES, TemplateOutcome, TemplateState
from relight.scheduler.orders import OrderBook
from relight.scheduler.state import Node


class Preparations:
    """Tells all nodes that there are; where there is none, the first that comes."""

    def __init__(self, nodes: Mapping[str, Node], orders: OrderBook) -> None:
        self._nodes = nodes
        self._orders = orders
        self._late: deque[WorkerSpec] = deque(maxlen=KEPT_OUTCOMES)

    def prepare(self, specs: Iterable[WorkerSpec]) -> None:
        """Have every node make templates of these workers."""
        nodes = [node for node in self._nodes.values() if node.is_connected]
        for spec in specs:
            if not nodes:
                self._late.append(spec)
            for node in nodes:
                self._orders.prepare(node.id, spec)
                if not never_forked(spec.function) and (key := template_key(spec)) not in node.templates:
                    node.note_template(TemplateOutcome(key=key, state=TemplateState.MAKING))

    def prepare_late(self) -> None:
        """A node has come: what was deployed, or is about to be, while there was none."""
        late, self._late = tuple(self._late), deque(maxlen=KEPT_OUTCOMES)
        self.prepare(late)

    def forget(self, version: str) -> None:
        """A version is not to be made ready for nodes that come."""
        self._late = deque((spec for spec in self._late if spec.version != version), maxlen=KEPT_OUTCOMES)

    def changed(self, node_id: str, outcomes: Iterable[TemplateOutcome]) -> None:
        """A node says what became of its templates."""
        if node_id in self._nodes:
            for outcome in outcomes:
                self._nodes[node_id].note_template(outcome)
