"""Which idle workers give way to one that is wanted: pure, and as few as will do.

It may take several: a worker whose call waits lends its CPU, so that when it has that back there may be less than none left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relight.protocol.manifest import Resources
from relight.scheduler.placement import Place, place
from relight.scheduler.queue import FunctionKey
from relight.scheduler.state import Function, Node, Worker


def give_way(wanted: Function, nodes: Sequence[Node], functions: Mapping[FunctionKey, Function]) -> list[Worker]:
    """The workers to let go so that one more of `wanted` fits on a node; none where that cannot be had."""
    asked = wanted.resources
    offers = [_on(node, asked, _idle(node, wanted.key, functions)) for node in nodes if node.is_connected]
    return min((offer for offer in offers if offer), key=lambda offer: (len(offer), offer[0].since), default=[])


def _idle(node: Node, wanted: FunctionKey, functions: Mapping[FunctionKey, Function]) -> list[Worker]:
    """Idle workers of other functions, those idle longest first, without those that a floor keeps."""
    spare = {key: len(one.staying()) - one.floor() for key, one in functions.items() if key != wanted}
    idle = []
    for worker in sorted((one for one in node.workers.values() if one.is_free), key=lambda one: one.since):
        if spare.get(worker.key, 0) > 0:
            spare[worker.key] -= 1
            idle.append(worker)
    return idle


def _on(node: Node, asked: Resources, idle: Sequence[Worker]) -> list[Worker]:
    gone: list[Worker] = []
    if not _fits(node, asked, idle):
        return gone
    for worker in idle:
        gone.append(worker)
        if _fits(node, asked, gone):
            break
    for worker in gone[-2::-1]:  # those that turned out not to matter stay, first the ones used last
        rest = [one for one in gone if one is not worker]
        if _fits(node, asked, rest):
            gone = rest
    return gone


def _fits(node: Node, asked: Resources, gone: Sequence[Worker]) -> bool:
    return isinstance(place(asked, [node.room(gone={one.id for one in gone})]), Place)
