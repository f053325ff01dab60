"""Tokens: who asks, told by a secret of which only a hash is kept."""

from __future__ import annotations

import hashlib
import secrets

from relight.clock import Clock, now_ms
from relight.protocol.errors import Unauthenticated
from relight.protocol.ids import new_id
from relight.protocol.views import Principal
from relight.store.rows import TokenRow
from relight.store.store import Store

DEFAULT_WORKSPACE = "default"


class Tokens:
    """The tokens this server knows."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, Principal] = {}

    async def load(self) -> None:
        """Read the tokens; done once, before the first request."""
        for row in await self._store.tokens.all():
            self._known[row.hash] = Principal(workspace=row.workspace, token_id=row.id)

    async def admit(self, token: str) -> None:
        """Make a token known, that of the server's own file for example."""
        digest = _hash(token)
        if digest in self._known:
            return
        row = TokenRow(workspace=DEFAULT_WORKSPACE, id=new_id("token", now_ms()), hash=digest, at=self._clock.now())
        await self._store.tokens.add(row)
        self._known[digest] = Principal(workspace=row.workspace, token_id=row.id)

    def verify(self, token: str) -> Principal:
        """Who shows this token.  Raises Unauthenticated when nobody was given it."""
        principal = self._known.get(_hash(token))
        if principal is None:
            raise Unauthenticated(
                "cannot let you in: the token is missing or not one of this server's; "
                "send 'Authorization: Bearer TOKEN' (`relight token` prints it)"
            )
        return principal

    def local(self) -> Principal:
        """Who comes by the local socket: the user that the server runs as."""
        return Principal(workspace=DEFAULT_WORKSPACE)


def new_token() -> str:
    """A fresh secret: 32 bytes of chance."""
    return f"rl_{secrets.token_urlsafe(32)}"


def _hash(token: str) -> str:
    # A token is 256 bits of chance: a plain hash cannot be searched, and comparing hashes tells nothing of the token.
    return hashlib.sha256(token.encode()).hexdigest()
