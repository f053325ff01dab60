"""Tokens: made, shown, expired, revoked, and noted when they were used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relight.control.tokens import DEFAULT_WORKSPACE, WRITE_SECONDS, Tokens
from relight.protocol.errors import Conflict, InvalidRequest, NotFound, Unauthenticated
from relight.protocol.views import Principal, Scope, TokenRequest
from relight.store.store import Store, open_store

WS = DEFAULT_WORKSPACE


class FakeClock:
    """Time that a test moves; a sleep ends when it was moved far enough."""

    def __init__(self) -> None:
        self._now = 1_790_000_000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self.slept = asyncio.Event()

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        sleeper = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now + seconds, sleeper))
        self.slept.set()
        await sleeper

    def advance(self, seconds: float) -> None:
        self._now += seconds
        for at, sleeper in self._sleepers:
            if at <= self._now and not sleeper.done():
                sleeper.set_result(None)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def tokens(store: Store, clock: FakeClock) -> Tokens:
    return Tokens(store, clock)


def files_below(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


async def again(store: Store, clock: FakeClock) -> Tokens:
    """The tokens as a server started later knows them."""
    later = Tokens(store, clock)
    await later.load()
    return later


async def test_a_token_lets_in_as_what_it_was_made_for(tokens: Tokens) -> None:
    view, secret = await tokens.create(WS, TokenRequest(name="ci", scope=Scope.DEPLOY, app="shop"))

    assert tokens.verify(secret) == Principal(workspace=WS, token_id=view.id, scope=Scope.DEPLOY, app="shop")


async def test_a_token_outlives_the_server_and_its_secret_is_kept_nowhere(
    tokens: Tokens, store: Store, clock: FakeClock, tmp_path: Path
) -> None:
    view, secret = await tokens.create(WS, TokenRequest(name="ci"))

    later = await again(store, clock)

    assert later.verify(secret).token_id == view.id
    assert not any(secret.encode() in data for data in await asyncio.to_thread(files_below, tmp_path))


async def test_a_token_expires_at_its_time(tokens: Tokens, clock: FakeClock) -> None:
    _, secret = await tokens.create(WS, TokenRequest(name="visitor", expires_seconds=60))
    clock.advance(59)
    tokens.verify(secret)

    clock.advance(1)

    with pytest.raises(Unauthenticated, match="the token 'visitor' expired at 2026-"):
        tokens.verify(secret)


@pytest.mark.parametrize("by", ["id", "name"])
async def test_a_revoked_token_lets_nobody_in_even_after_a_restart(
    tokens: Tokens, store: Store, clock: FakeClock, by: str
) -> None:
    view, secret = await tokens.create(WS, TokenRequest(name="ci"))

    await tokens.revoke(WS, getattr(view, by))

    for one in (tokens, await again(store, clock)):
        with pytest.raises(Unauthenticated):
            one.verify(secret)


async def test_the_servers_own_token_has_every_right_and_is_not_revoked(tokens: Tokens) -> None:
    await tokens.admit("rl_own")

    with pytest.raises(Conflict, match="it is the server's own"):
        await tokens.revoke(WS, "server")
    assert tokens.verify("rl_own").scope is Scope.ADMIN
    assert [(view.name, view.is_own) for view in tokens.list(WS)] == [("server", True)]


async def test_admitting_the_own_token_again_adds_none(tokens: Tokens, store: Store, clock: FakeClock) -> None:
    await tokens.admit("rl_own")
    later = await again(store, clock)
    await later.admit("rl_own")

    assert len(later.list(WS)) == 1
    assert later.list(WS)[0].is_own


async def test_when_a_token_was_shown_is_seen_at_once_and_written_later(
    tokens: Tokens, store: Store, clock: FakeClock
) -> None:
    view, secret = await tokens.create(WS, TokenRequest(name="ci"))
    clock.advance(5)
    tokens.verify(secret)
    seen = tokens.list(WS)[0].last_used_at

    async with asyncio.timeout(10):
        working = asyncio.ensure_future(tokens.run())
        await clock.slept.wait()
        before = (await store.tokens.all())[0].last_used_at
        clock.slept.clear()
        clock.advance(WRITE_SECONDS)
        await clock.slept.wait()  # it has written, and sleeps again
        written = (await store.tokens.all())[0].last_used_at
        working.cancel()
        await asyncio.wait([working])

    assert (seen, before, written) == (1_790_000_005.0, None, 1_790_000_005.0)
    assert (await again(store, clock)).list(WS)[0].id == view.id


async def test_a_use_just_before_the_end_is_written_at_the_end(tokens: Tokens, store: Store, clock: FakeClock) -> None:
    _, secret = await tokens.create(WS, TokenRequest(name="ci"))
    working = asyncio.ensure_future(tokens.run())
    await clock.slept.wait()
    tokens.verify(secret)

    working.cancel()
    await asyncio.wait([working])

    await store.tokens.remove(WS, "none")  # whatever was queued before is written before
    assert (await again(store, clock)).list(WS)[0].last_used_at == clock.now()


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (TokenRequest(name=""), "use 1 to 100 printable characters"),
        (TokenRequest(name="a\nb"), "use 1 to 100 printable characters"),
        (TokenRequest(name="x", expires_seconds=0), "cannot expire in 0 s"),
        (TokenRequest(name="x", expires_seconds=1e12), "cannot expire in 1e\\+12 s"),
        (TokenRequest(name="x", scope=Scope.ADMIN, app="shop"), "the scope admin is for every app"),
    ],
)
async def test_a_token_that_makes_no_sense_is_not_made(tokens: Tokens, request_: TokenRequest, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        await tokens.create(WS, request_)

    assert tokens.list(WS) == ()


async def test_two_tokens_have_two_names(tokens: Tokens) -> None:
    await tokens.create(WS, TokenRequest(name="ci"))

    with pytest.raises(Conflict, match="there is one of that name"):
        await tokens.create(WS, TokenRequest(name="ci"))


async def test_tokens_of_another_workspace_are_not_seen_or_revoked(tokens: Tokens) -> None:
    view, secret = await tokens.create("other", TokenRequest(name="ci"))

    with pytest.raises(NotFound):
        await tokens.revoke(WS, view.id)
    assert tokens.list(WS) == ()
    assert tokens.verify(secret).workspace == "other"
