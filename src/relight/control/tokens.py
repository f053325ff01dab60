"""Tokens: who asks, and what they may do, told by a secret of which only a hash is kept.

When a token was shown last is noted in memory and written now and then, so that no request waits for it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone

from relight.clock import Clock, now_ms
from relight.protocol.errors import Conflict, InvalidRequest, NotFound, Unauthenticated, Unavailable
from relight.protocol.ids import new_id
from relight.protocol.views import Principal, Scope, TokenRequest, TokenView
from relight.store.rows import TokenRow
from relight.store.store import Store

DEFAULT_WORKSPACE = "default"
OWN_NAME = "server"
"""The name of the server's own token, which lies in its data folder."""

WRITE_SECONDS = 30.0
"""How often it is written when tokens were shown last."""

MAX_NAME = 100
MAX_EXPIRES_SECONDS = 10 * 365 * 86400.0


@dataclass(slots=True)
class _Known:
    row: TokenRow
    principal: Principal
    last_used_at: float | None
    is_written: bool = True


class Tokens:
    """The tokens this server knows."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._own = ""

    async def load(self) -> None:
        """Read the tokens; done once, before the first request."""
        for row in await self._store.tokens.all():
            self._remember(row)

    async def run(self) -> None:
        """Write when tokens were shown last, until cancelled."""
        try:
            while True:
                await self._clock.sleep(WRITE_SECONDS)
                with suppress(Unavailable):  # a store that cannot write now is asked again
                    await self._write_used()
        finally:
            if used := list(self._take_used()):
                self._store.tokens.use(used)  # not awaited: the store writes what was queued before it closes

    # -- who asks

    async def admit(self, token: str) -> None:
        """Make the token of the server's own file known, with every right."""
        digest = _hash(token)
        self._own = digest
        if digest in self._known:
            return
        row = TokenRow(
            workspace=DEFAULT_WORKSPACE,
            id=new_id("token", now_ms()),
            hash=digest,
            at=self._clock.now(),
            name=OWN_NAME,
        )
        await self._store.tokens.add(row)
        self._remember(row)

    def verify(self, token: str) -> Principal:
        """Who shows this token.  Raises Unauthenticated when nobody was given it, or when it has expired."""
        known = self._known.get(_hash(token))
        if known is None:
            raise Unauthenticated(
                "cannot let you in: the token is missing or not one of this server's; "
                "send 'Authorization: Bearer TOKEN' (`relight token` prints it)"
            )
        now = self._clock.now()
        if known.row.expires_at is not None and now >= known.row.expires_at:
            raise Unauthenticated(
                f"cannot let you in: the token {known.row.name!r} expired at {_moment(known.row.expires_at)}; "
                "make another with `relight token create`"
            )
        known.last_used_at, known.is_written = now, False
        return known.principal

    def local(self) -> Principal:
        """Who comes by the local socket: the user that the server runs as."""
        return Principal(workspace=DEFAULT_WORKSPACE)

    # -- tokens as things

    async def create(self, workspace: str, request: TokenRequest) -> tuple[TokenView, str]:
        """A new token, and its secret, which is told this once.  Raises InvalidRequest, and Conflict for a used name."""
        self._check(workspace, request)
        secret, now = new_token(), self._clock.now()
        row = TokenRow(
            workspace=workspace,
            id=new_id("token", now_ms()),
            hash=_hash(secret),
            at=now,
            name=request.name,
            scope=request.scope.value,
            app=request.app,
            expires_at=None if request.expires_seconds is None else now + request.expires_seconds,
        )
        await self._store.tokens.add(row)
        return self._view(self._remember(row)), secret

    def list(self, workspace: str) -> tuple[TokenView, ...]:
        """Every token of a workspace, oldest first."""
        mine = [known for known in self._known.values() if known.row.workspace == workspace]
        return tuple(self._view(known) for known in sorted(mine, key=lambda known: known.row.id))

    def get(self, principal: Principal) -> TokenView | None:
        """The token that somebody showed; None for who came by the local socket."""
        return next((view for view in self.list(principal.workspace) if view.id == principal.token_id), None)

    async def revoke(self, workspace: str, token: str) -> TokenView:
        """Take a token back, by its id or its name.  Raises NotFound, and Conflict for the server's own."""
        found = self._find(workspace, token)
        if found.row.hash == self._own:
            raise Conflict(
                f"cannot revoke {found.row.name!r}: it is the server's own; "
                "stop the server, delete the file `token` in its data folder, and start it again"
            )
        await self._store.tokens.remove(workspace, found.row.id)
        self._known.pop(found.row.hash, None)
        return self._view(found)

    def _check(self, workspace: str, request: TokenRequest) -> None:
        name, seconds = request.name, request.expires_seconds
        if not (name.isprintable() and 0 < len(name.strip()) <= MAX_NAME):
            raise InvalidRequest(
                f"cannot make a token named {name[:40]!r}: that is no name; use 1 to {MAX_NAME} printable characters"
            )
        if seconds is not None and not 1 <= seconds <= MAX_EXPIRES_SECONDS:
            raise InvalidRequest(
                f"cannot make the token {name!r}: it cannot expire in {seconds:g} s; "
                f"choose 1 to {MAX_EXPIRES_SECONDS:g}, or none"
            )
        if request.app and request.scope is Scope.ADMIN:
            raise InvalidRequest(
                f"cannot make the token {name!r}: the scope admin is for every app; choose another, or no app"
            )
        if any(view.name == name for view in self.list(workspace)):
            raise Conflict(f"cannot make the token {name!r}: there is one of that name; choose another, or revoke it")

    def _find(self, workspace: str, token: str) -> _Known:
        for known in self._known.values():
            if known.row.workspace == workspace and token in (known.row.id, known.row.name or known.row.id):
                return known
        raise NotFound(f"cannot find the token {token[:60]!r}: it is not there; `relight token list` shows them")

    def _remember(self, row: TokenRow) -> _Known:
        principal = Principal(workspace=row.workspace, token_id=row.id, scope=Scope(row.scope), app=row.app)
        known = self._known[row.hash] = _Known(row=row, principal=principal, last_used_at=row.last_used_at)
        return known

    def _view(self, known: _Known) -> TokenView:
        row = known.row
        return TokenView(
            id=row.id,
            name=row.name,
            scope=known.principal.scope,
            app=row.app,
            created_at=row.at,
            expires_at=row.expires_at,
            last_used_at=known.last_used_at,
            is_own=row.hash == self._own,
        )

    # -- when they were shown

    async def _write_used(self) -> None:
        used = list(self._take_used())
        if used:
            await self._store.tokens.use(used)

    def _take_used(self) -> Iterator[tuple[str, str, float]]:
        for known in self._known.values():
            if not known.is_written and known.last_used_at is not None:
                known.is_written = True
                yield known.row.workspace, known.row.id, known.last_used_at


def new_token() -> str:
    """A fresh secret: 32 bytes of chance."""
    return f"rl_{secrets.token_urlsafe(32)}"


def _hash(token: str) -> str:
    # A token is 256 bits of chance: a plain hash cannot be searched, and comparing hashes tells nothing of the token.
    return hashlib.sha256(token.encode()).hexdigest()


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
