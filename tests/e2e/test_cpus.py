"""A worker's share of the processor: what it is told of, and what it gets, which is all there is until it is ready."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e import app_cpus
from servers import Server

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", autouse=True)
def deployed(server: Server) -> Iterator[None]:
    app_cpus.app.deploy()
    yield
    assert app_cpus.app._session is not None
    app_cpus.app._session.connection.close()


@pytest.mark.parametrize("way", ["forked", "alone"])
def test_pools_are_as_large_as_its_share_rounded_up(way: str) -> None:
    told = app_cpus.app.functions[way].remote()

    assert told == {"count": 1, "affinity": 1, "multiprocessing": 1, "pool": 1, "told on": True}


def test_its_quota_counts_from_when_it_is_ready() -> None:
    before, afterwards = app_cpus.Eager().both.remote()

    assert afterwards < 0.3
    assert before > afterwards
