"""Orders on their way out: what one turn of the event loop decides for a node leaves as one message.

An acknowledgement is in no hurry: it goes with the next orders, or by itself a little later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from relight.protocol.calls import Token
from relight.protocol.link import AskBack, CancelCall, GrantItems, Orders, RunCall, StartWorker, StopWorker, WorkerSpec

Send = Callable[[str, Orders], None]
"""Gives a node its orders; does nothing when it is away."""

Soon = Callable[[Callable[[], None]], object]
"""Runs something once the present turn of the event loop is over, or a little later."""

ACKNOWLEDGE_SECONDS = 0.01
"""How long an acknowledgement waits for orders to go with."""


@dataclass(slots=True)
class _Pending:
    prepare: list[WorkerSpec] = field(default_factory=list)
    forget: list[str] = field(default_factory=list)
    start: list[StartWorker] = field(default_factory=list)
    stop: list[StopWorker] = field(default_factory=list)
    run: list[RunCall] = field(default_factory=list)
    cancel: list[CancelCall] = field(default_factory=list)
    grant: list[GrantItems] = field(default_factory=list)
    ask_back: list[AskBack] = field(default_factory=list)
    acknowledged: list[tuple[str, Token]] = field(default_factory=list)
    usage_kept: list[tuple[str, int]] = field(default_factory=list)


class OrderBook:
    """Collects orders, and sends each node its own in one message.

    `soon` runs something at the end of this turn of the loop, `later` after ACKNOWLEDGE_SECONDS.
    """

    def __init__(self, send: Send, soon: Soon, later: Soon) -> None:
        self._send = send
        self._soon = soon
        self._later = later
        self._nodes: dict[str, _Pending] = {}
        self._leaves_soon = False
        self._leaves_later = False

    def prepare(self, node: str, spec: WorkerSpec) -> None:
        """Have a template of this worker ready."""
        self._of(node).prepare.append(spec)

    def forget(self, node: str, version: str) -> None:
        """A version is not served any more."""
        self._of(node).forget.append(version)

    def start(self, node: str, order: StartWorker) -> None:
        """Start a worker."""
        self._of(node).start.append(order)

    def stop(self, node: str, worker: str, *, now: bool = False) -> None:
        """Stop a worker."""
        self._of(node).stop.append(StopWorker(worker=worker, now=now))

    def run(self, node: str, order: RunCall) -> None:
        """Run a call."""
        self._of(node).run.append(order)

    def cancel(self, node: str, call: str, token: Token) -> None:
        """Cancel a running call."""
        self._of(node).cancel.append(CancelCall(call=call, token=token))

    def ask_back(self, node: str, call: str, token: Token) -> None:
        """Have a call given back unless it has begun."""
        self._of(node).ask_back.append(AskBack(call=call, token=token))

    def grant(self, node: str, order: GrantItems) -> None:
        """Let a generator go on."""
        self._of(node).grant.append(order)

    def acknowledge(self, node: str, call: str, token: Token) -> None:
        """An end is kept."""
        self._of_later(node).acknowledged.append((call, token))

    def usage_kept(self, node: str, keys: Iterable[tuple[str, int]]) -> None:
        """What workers used is kept."""
        self._of_later(node).usage_kept.extend(keys)

    def _of_later(self, node: str) -> _Pending:
        if not self._leaves_soon and not self._leaves_later:
            self._leaves_later = True
            self._later(self._flush)
        return self._nodes.setdefault(node, _Pending())

    def _of(self, node: str) -> _Pending:
        if not self._leaves_soon:
            self._leaves_soon = True
            self._soon(self._flush)
        return self._nodes.setdefault(node, _Pending())

    def _flush(self) -> None:
        nodes, self._nodes = self._nodes, {}
        self._leaves_soon = self._leaves_later = False
        for node, pending in nodes.items():
            self._send(
                node,
                Orders(
                    prepare=tuple(pending.prepare),
                    forget=tuple(pending.forget),
                    start=tuple(pending.start),
                    stop=tuple(pending.stop),
                    run=tuple(pending.run),
                    cancel=tuple(pending.cancel),
                    grant=tuple(pending.grant),
                    ask_back=tuple(pending.ask_back),
                    acknowledged=tuple(pending.acknowledged),
                    usage_kept=tuple(pending.usage_kept),
                ),
            )
