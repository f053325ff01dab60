"""What one sandbox may reach, and what it is told of names: asked by whatever connects for it."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Protocol

from relight.protocol.network import reach_of
from relight.sandbox.egress import names
from relight.sandbox.egress.names import Malformed, Question
from relight.sandbox.egress.netlink import RTN_LOCAL
from relight.sandbox.egress.policy import Address, Admitted, Answer, judge, plain_address

QUESTION_SECONDS = 30.0
"""So long a stream of questions may be silent."""


class Resolves(Protocol):
    """Who knows names."""

    async def ask(self, query: bytes, *, is_stream: bool = False) -> bytes | None:
        """What is answered to a query; None: by nobody."""


class KnowsWays(Protocol):
    """Who knows which way an address is."""

    def route_kind(self, address: bytes) -> int:
        """The kernel's number for the kind of way; 0: none."""


class Border:
    """Of a sandbox that may reach what `network` says."""

    def __init__(self, network: str, resolver: Resolves, ways: KnowsWays) -> None:
        self._reach = reach_of(network)
        self._resolver, self._ways = resolver, ways
        self._admitted = Admitted()
        self.now = asyncio.get_running_loop().time

    async def may_reach(self, packed: bytes) -> bool:
        """Whether an address may be connected to, now; a name that led there is asked again where that was long ago."""
        address = plain_address(packed)
        is_here = self._ways.route_kind(address.packed) == RTN_LOCAL
        answer = judge(self._reach, self._admitted, address, is_here=is_here, now=self.now())
        if answer is Answer.ASK:
            await self._ask_again(address)
            answer = judge(self._reach, self._admitted, address, is_here=is_here, now=self.now())
        return answer is Answer.YES

    async def answer_to(self, query: bytes, *, is_stream: bool) -> bytes | None:
        """What a question is answered; None: it is none."""
        try:
            question = names.read_question(query)
            if not self._reach.has_name(question.name):
                return names.answer_without(query, names.NO_SUCH_NAME)
            answer = await self._resolver.ask(query, is_stream=is_stream)
            if answer is None:
                return names.answer_without(query, names.SERVER_FAILED)
        except Malformed:
            return None
        self._admit(question.name, answer)
        return answer

    async def answer_stream(self, inner: socket.socket) -> None:
        """Answer questions that come by a connection: each with its length before it, as the answers have."""
        reader, writer = await asyncio.open_connection(sock=inner)
        try:
            while True:
                length = struct.unpack(">H", await asyncio.wait_for(reader.readexactly(2), QUESTION_SECONDS))[0]
                query = await asyncio.wait_for(reader.readexactly(length), QUESTION_SECONDS)
                answer = await self.answer_to(query, is_stream=True)
                if answer is None:
                    return
                writer.write(struct.pack(">H", len(answer)) + answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            pass  # it is over
        finally:
            writer.close()

    async def addresses_of(self, name: str) -> list[bytes]:
        """The addresses that a name leads to, which may be connected to from now on; none where it is not listed."""
        found: list[bytes] = []
        for kind in (names.A, names.AAAA):
            answer = await self.answer_to(names.make_query(Question(name, kind)), is_stream=False)
            with suppress(Malformed):
                found += [address.packed for address, _ in names.read_addresses(answer or b"")]
        return found

    async def _ask_again(self, address: Address) -> None:
        """Whether the names that led to an address still do."""
        kind = names.A if address.version == 4 else names.AAAA
        known = self._admitted.names(address)
        self._admitted.forget(address)
        for name in known:
            answer = await self._resolver.ask(names.make_query(Question(name, kind)))
            if answer is not None:
                self._admit(name, answer)

    def _admit(self, name: str, answer: bytes) -> None:
        if not self._reach.is_open:
            with suppress(Malformed):
                self._admitted.admit(name, names.read_addresses(answer), self.now())
