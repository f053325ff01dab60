"""Two connections as one, on socket pairs: nothing is lost, whenever it came."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from relight.sandbox.egress.relay import Relay
from relight.sandbox.egress.tally import Tally, make_tally, read_tally


class Pairs:
    """Our ends of the two connections that a relay carries between."""

    def __init__(self) -> None:
        self.inside, inner = socket.socketpair()
        outer, self.outside = socket.socketpair()
        self.over: list[Relay] = []
        self.sent: list[int] = []
        for one in (self.inside, self.outside, inner, outer):
            one.setblocking(False)
        self.relay = Relay(inner, outer, self.over.append, self.sent.append)

    async def read_all(self, end: socket.socket) -> bytes:
        """What comes until the end."""
        data, loop = b"", asyncio.get_running_loop()
        while part := await asyncio.wait_for(loop.sock_recv(end, 1 << 16), 5):
            data += part
        return data


@pytest.mark.parametrize("early", [True, False])
async def test_what_came_before_both_sides_were_there_comes_first_and_an_end_comes_last(early: bool) -> None:
    pairs = Pairs()
    if early:
        pairs.inside.send(b"first, ")
        pairs.outside.send(b"banner")
    beginning = asyncio.ensure_future(pairs.relay.begin())
    for _ in range(4):  # of the loop's turns, in each of which something may come
        pairs.inside.send(b".")
        await asyncio.get_running_loop().run_in_executor(None, int)
    await beginning
    pairs.inside.send(b"last")
    pairs.inside.shutdown(socket.SHUT_WR)

    assert await pairs.read_all(pairs.outside) == (b"first, " if early else b"") + b"....last"
    pairs.outside.send(b"answer")
    pairs.outside.close()
    assert await pairs.read_all(pairs.inside) == (b"banner" if early else b"") + b"answer"
    pairs.inside.close()
    assert pairs.over == [pairs.relay]


async def test_what_goes_out_is_counted_and_what_comes_in_is_not() -> None:
    pairs = Pairs()
    await pairs.relay.begin()

    pairs.inside.send(b"x" * 1000)
    pairs.outside.send(b"y" * 50)
    pairs.inside.shutdown(socket.SHUT_WR)
    pairs.outside.shutdown(socket.SHUT_WR)

    assert (await pairs.read_all(pairs.outside), await pairs.read_all(pairs.inside)) == (b"x" * 1000, b"y" * 50)
    assert sum(pairs.sent) == 1000
    pairs.inside.close()
    pairs.outside.close()


def test_a_tally_goes_on_from_where_the_one_before_it_came_to() -> None:
    descriptor = make_tally()
    Tally(os.dup(descriptor)).add(40)
    second = Tally(os.dup(descriptor))
    second.add(2)
    second.close()

    assert (read_tally(descriptor), read_tally(-1)) == (42, None)
    os.close(descriptor)


async def test_a_relay_that_is_closed_is_over_and_both_ends_hear_of_it() -> None:
    pairs = Pairs()
    await pairs.relay.begin()

    pairs.relay.close()

    assert await pairs.read_all(pairs.inside) == await pairs.read_all(pairs.outside) == b""
    assert pairs.over == [pairs.relay]
    pairs.inside.close()
    pairs.outside.close()
