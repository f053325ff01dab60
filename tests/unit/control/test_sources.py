"""Deploys from Git, with a forge that the test plays: signatures, what is refused, and which of several pushes is deployed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from relight.blobs.store import BlobStore
from relight.clock import SystemClock
from relight.control.platform import Control, Rules, open_control
from relight.control.sources import Delivery, Sources
from relight.forge import Fetched, ForgeError
from relight.protocol.errors import InvalidRequest, NotFound, Unauthenticated
from relight.protocol.sources import PushState, PushView, SourceRequest
from relight.scheduler.loop import Timing
from relight.store.store import Store, open_store

WS = "default"
URL = "https://forge.example/somebody/shop.git"
STATUS = "https://forge.example/statuses/{commit}"


@dataclass
class FakeForge:
    """Fetches nothing until it may, and then fails."""

    may_fetch: asyncio.Event = field(default_factory=asyncio.Event)
    is_asked: asyncio.Event = field(default_factory=asyncio.Event)
    told: list[tuple[str, str, str]] = field(default_factory=list)
    has_told: asyncio.Event = field(default_factory=asyncio.Event)

    async def fetch(self, name: str, url: str, branch: str) -> Fetched:
        self.is_asked.set()
        await self.may_fetch.wait()
        raise ForgeError("the forge is away")

    async def tell(self, url: str, token: str, said: dict[str, str]) -> None:
        self.told.append((url, token, said["state"]))
        self.has_told.set()

    async def wait_told(self, count: int) -> None:
        """Return when so many different things were told."""
        while len(set(self.told)) < count:
            self.has_told.clear()
            await self.has_told.wait()


@dataclass
class Bench:
    """A platform without a node."""

    store: Store
    control: Control
    forge: FakeForge

    @property
    def sources(self) -> Sources:
        return self.control.sources

    async def wait_over(self, source: str) -> tuple[PushView, ...]:
        """The pushes of a source, once none of them goes on."""
        while True:
            pushes = await self.sources.pushes(WS, source)
            if all(push.state.is_final for push in pushes):
                return pushes


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    store = await open_store(tmp_path)
    forge = FakeForge()
    rules = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))
    control = await open_control(store, BlobStore(tmp_path / "blobs"), SystemClock(), rules, forge)
    yield Bench(store, control, forge)
    await store.close()


def pushed(secret: str, commit: str = "a" * 40, **headers: str) -> Delivery:
    body = json.dumps({"ref": "refs/heads/main", "after": commit}).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return Delivery(headers=headers or {"x-hub-signature-256": f"sha256={signature}"}, body=body)


async def test_a_push_is_taken_by_its_signature_or_by_the_secret_itself(bench: Bench) -> None:
    source, secret = await bench.sources.create(WS, SourceRequest(url=URL), "ann")

    signed = await bench.sources.receive(source.id, pushed(secret))
    shown = await bench.sources.receive(source.id, pushed("", **{"x-gitlab-token": secret}))

    assert isinstance(signed, PushView)
    assert isinstance(shown, PushView)
    assert (await bench.sources.list(WS))[0].made_by == "ann"


@pytest.mark.parametrize(
    "headers", [{"x-gitlab-token": ""}, {"x-gitlab-token": "no"}, {"x-hub-signature-256": "sha256="}, {}]
)
async def test_a_push_that_is_not_signed_is_refused_as_one_to_no_source_is(
    bench: Bench, headers: dict[str, str]
) -> None:
    source, _ = await bench.sources.create(WS, SourceRequest(url=URL), "")

    for name in (source.id, "source-0"):
        with pytest.raises(Unauthenticated, match="its signature is not that of a source here"):
            await bench.sources.receive(name, pushed("wrong", **headers))

    assert await bench.sources.pushes(WS, source.id) == ()


async def test_of_pushes_that_wait_only_the_newest_is_deployed(bench: Bench) -> None:
    source, secret = await bench.sources.create(WS, SourceRequest(url=URL, status_url=STATUS, status_token="t"), "")
    working = asyncio.create_task(bench.sources.run())
    first = await bench.sources.receive(source.id, pushed(secret, "1" * 40))
    await bench.forge.is_asked.wait()
    second = await bench.sources.receive(source.id, pushed(secret, "2" * 40))
    third = await bench.sources.receive(source.id, pushed(secret, "3" * 40))
    bench.forge.may_fetch.set()

    await bench.wait_over(source.id)
    await bench.forge.wait_told(3)
    working.cancel()

    pushes = await bench.sources.pushes(WS, source.id)
    states = {push.id: push.state for push in pushes}
    assert states == {
        first.id: PushState.FAILED,
        second.id: PushState.SUPERSEDED,
        third.id: PushState.FAILED,
    }
    assert {push.detail for push in pushes} == {"cannot fetch 'main': the forge is away", ""}
    assert set(bench.forge.told) == {
        (STATUS.replace("{commit}", number * 40), "t", "failure") for number in ("1", "2", "3")
    }


async def test_a_push_that_a_server_left_is_deployed_by_the_next(bench: Bench, tmp_path: Path) -> None:
    source, secret = await bench.sources.create(WS, SourceRequest(url=URL), "")
    await bench.sources.receive(source.id, pushed(secret))
    bench.forge.may_fetch.set()

    working = asyncio.create_task(bench.sources.run())  # nothing was begun: as a new server finds it

    (push,) = await bench.wait_over(source.id)
    assert (push.state, push.commit) == (PushState.FAILED, "a" * 40)
    working.cancel()


async def test_the_secrets_are_not_in_the_database(bench: Bench, tmp_path: Path) -> None:
    source, secret = await bench.sources.create(
        WS, SourceRequest(url=URL, status_url=STATUS, status_token="tok-123"), ""
    )
    row = await bench.store.sources.get(source.id)
    kept = b"".join((tmp_path / f"relight.db{end}").read_bytes() for end in ("", "-wal"))

    assert row is not None
    assert (row.secret, row.status_token) == (secret, "tok-123")
    assert URL.encode() in kept
    assert secret.encode() not in kept
    assert b"tok-123" not in kept
    assert (tmp_path / "seal.key").stat().st_mode & 0o077 == 0


async def test_a_source_that_is_removed_takes_no_push(bench: Bench) -> None:
    source, secret = await bench.sources.create(WS, SourceRequest(url=URL), "")
    await bench.sources.receive(source.id, pushed(secret))
    await bench.sources.remove(WS, source.id)

    with pytest.raises(Unauthenticated):
        await bench.sources.receive(source.id, pushed(secret))
    with pytest.raises(NotFound, match="there is none of that id"):
        await bench.sources.pushes(WS, source.id)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"url": "--upload-pack=x"}, "no address that git can fetch from"),
        ({"url": "ext::sh -c x"}, "no address that git can fetch from"),
        ({"branch": "-x"}, "no name of a branch"),
        ({"branch": "a..b"}, "no name of a branch"),
        ({"file": "../app.py"}, "no Python file in it"),
        ({"file": "app.sh"}, "no Python file in it"),
        ({"environment": "run-x"}, "the name of a run"),
        ({"status_url": "file:///etc/passwd"}, "its status cannot be told"),
    ],
)
async def test_a_source_that_makes_no_sense_is_refused(bench: Bench, more: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        await bench.sources.create(WS, SourceRequest(**{"url": URL, **more}), "")
