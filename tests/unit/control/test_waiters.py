"""What a group's feed knows, and what it must leave to the store."""

from __future__ import annotations

import asyncio

from relight.control.waiters import KEPT_GROUPS, Waiters
from relight.protocol.calls import CallState, CallView


def ended(sequence: int) -> CallView:
    return CallView(
        id=f"call-{sequence}",
        app="a",
        environment="main",
        version="v",
        function="f",
        group="g",
        state=CallState.SUCCEEDED,
        sequence=sequence,
    )


def test_a_server_that_has_seen_no_end_leaves_a_group_to_the_store() -> None:
    """A reader may come back after a restart, behind ends that were kept and never told."""
    waiters = Waiters()

    assert waiters.group("g").floor > 1_000_000

    waiters.publish(ended(41))
    assert waiters.group("g").floor == 40
    assert [view.sequence for view in waiters.group("g").after(40, 10)] == [41]


def test_a_group_that_begins_later_needs_no_store() -> None:
    waiters = Waiters()
    waiters.publish(ended(7))

    feed = waiters.group("g")
    waiters.publish(ended(8))

    assert feed.floor == 7
    assert [view.sequence for view in feed.after(7, 10)] == [8]


async def test_what_ends_while_a_reader_looks_into_the_store_is_not_slept_through() -> None:
    waiters = Waiters()
    feed = waiters.group("g")
    before_the_look = feed.changes

    waiters.publish(ended(1))

    async with asyncio.timeout(5):
        await feed.wait(before_the_look)


async def test_the_group_that_nobody_asked_for_longest_gives_way_and_its_reader_looks_again() -> None:
    waiters = Waiters()
    waiters.publish(ended(7))
    feed = waiters.group("g")
    reader = asyncio.ensure_future(feed.wait(feed.changes))
    await asyncio.wait([reader], timeout=0)

    for n in range(KEPT_GROUPS):
        waiters.group(f"other-{n}")
    await reader

    assert waiters.group("g") is not feed
