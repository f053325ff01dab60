"""Calls on their way to the nodes of their workers: at once, or when what they are given has been read from the store."""

from __future__ import annotations

from collections.abc import Sequence

from relight.protocol.link import RunCall
from relight.protocol.payload import Payload
from relight.scheduler.leases import Lease, Leases
from relight.scheduler.listener import Listener
from relight.scheduler.orders import OrderBook


class Sending:
    """Orders nodes to run what was leased to their workers."""

    def __init__(self, leases: Leases, orders: OrderBook, listener: Listener) -> None:
        self._leases = leases
        self._orders = orders
        self._listener = listener

    def send(self, leases: Sequence[Lease]) -> None:
        """Send these; those whose payload is not here when `deliver` brings it."""
        missing = [lease for lease in leases if lease.call.payload is None]
        for lease in leases:
            if lease.call.payload is not None:
                self._send(lease, lease.call.payload)
        if missing:
            self._listener.payload_missing(missing)

    def deliver(self, lease: Lease, payload: Payload) -> None:
        """Send a leased call on its way, now that its payload is at hand."""
        if self._leases.get(lease.call.id) is lease:
            lease.call.payload = payload
            self._send(lease, payload)
            if lease.call.is_cancelled:
                self._orders.cancel(lease.node, lease.call.id, lease.token)  # its node did not know it before
            elif lease.is_asked_back:
                self._orders.ask_back(lease.node, lease.call.id, lease.token)

    def _send(self, lease: Lease, payload: Payload) -> None:
        call = lease.call
        self._orders.run(
            lease.node,
            RunCall(
                worker=lease.worker,
                call=call.id,
                token=lease.token,
                attempt=lease.attempt,
                payload=payload,
                method=call.method,
                accept=call.accept,
            ),
        )
