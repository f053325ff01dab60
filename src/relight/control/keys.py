"""Keys that callers give calls (`Idempotency-Key`): asked again under one, a call is the same call.

A key stands for its call for a day, across restarts, and however many ask at once: it is kept in one transaction with the
call, which is dispatched only then.
"""

from __future__ import annotations

from relight.clock import Clock
from relight.protocol.calls import CallKey
from relight.protocol.errors import KeyReused
from relight.store.rows import NamedCall, NewCall
from relight.store.store import Store

KEY_SECONDS = 86_400.0
"""How long a key stands for its call."""


class Keys:
    """The keys of every workspace."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def named(self, workspace: str, key: CallKey) -> str | None:
        """The call that a key stands for; None when that is none.  Raises KeyReused when something else was asked then."""
        found = await self._store.keys.named(workspace, key, self._expired())
        return None if found is None else _checked(key, found).call

    async def keep(self, workspace: str, key: CallKey, row: NewCall) -> NamedCall:
        """Keep a call under a key; the one that it stands for, which may have been there.  Raises as `named` does."""
        return _checked(key, await self._store.keys.submit(workspace, key, row, self._expired()))

    def _expired(self) -> float:
        return self._clock.now() - KEY_SECONDS


def _checked(key: CallKey, found: NamedCall) -> NamedCall:
    if found.digest != key.digest:
        raise KeyReused(
            f"cannot call under Idempotency-Key {key.key[:60]!r}: it stands for {found.call}, which was asked with another "
            "body; send the same, or take a new key"
        )
    return found
