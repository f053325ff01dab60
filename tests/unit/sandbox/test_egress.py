"""The connector's decisions: what may be reached, packets and names read and made by hand, requests to its proxy."""

from __future__ import annotations

import struct
from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.protocol.network import canonical, reach_of
from relight.sandbox.egress import names, netlink, packets
from relight.sandbox.egress.border import Border
from relight.sandbox.egress.names import Malformed, Question
from relight.sandbox.egress.policy import LEAST_SECONDS, Admitted, Answer, judge, plain_address
from relight.sandbox.egress.proxy import Refused, read_head

HOST, OTHER = "198.51.100.2", "198.51.100.3"


def answer_of(network: str, address: str, *, is_here: bool = False, admitted: Admitted | None = None) -> Answer:
    place = plain_address(ip_address(address).packed)
    return judge(reach_of(canonical(network)), admitted or Admitted(), place, is_here=is_here, now=0.0)


NEVER = (
    *("127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "64:ff9b::7f00:1"),
    *("169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00:ec2::254", "fd20:ce::254", "fe80::1"),
    *("100.100.100.200", "168.63.129.16", "192.0.0.192", "224.0.0.1", "255.255.255.255", "ff02::1"),
)


@pytest.mark.parametrize("address", NEVER)
def test_the_machine_itself_and_metadata_are_reached_by_nobody_who_does_not_name_them(address: str) -> None:
    assert answer_of("egress", address) is Answer.NO
    assert answer_of("0.0.0.0/0,::/0", address) is Answer.NO


def test_what_nobody_is_given_is_had_by_its_own_address() -> None:
    assert answer_of("169.254.169.254", "169.254.169.254") is Answer.YES
    assert answer_of("fd00:ec2::254", "fd00:ec2::254") is Answer.YES
    assert answer_of("168.63.0.0/16", "168.63.129.16") is Answer.NO


def test_an_address_of_the_machines_own_has_to_be_listed_by_itself() -> None:
    assert answer_of("egress", HOST, is_here=True) is Answer.NO
    assert answer_of("198.51.100.0/24", HOST, is_here=True) is Answer.NO
    assert answer_of(HOST, HOST, is_here=True) is Answer.YES


def test_everything_else_is_open_unless_there_is_a_list() -> None:
    assert (
        answer_of("egress", HOST) is answer_of("egress", "10.0.0.7") is answer_of("egress", "2001:db8::1") is Answer.YES
    )
    assert answer_of("example.net", HOST) is Answer.NO
    assert answer_of("198.51.100.0/24", HOST) is Answer.YES


def test_an_address_is_admitted_by_its_name_until_it_is_old_and_then_the_name_is_asked_again() -> None:
    admitted, reach, place = Admitted(), reach_of("host.test"), ip_address(HOST)
    admitted.admit("host.test", [(place, 30.0)], now=100.0)

    def at(now: float, *, is_here: bool = False) -> Answer:
        return judge(reach, admitted, place, is_here=is_here, now=now)

    assert [at(now) for now in (100.0, 130.0, 130.1)] == [Answer.YES, Answer.YES, Answer.ASK]
    assert at(100.0, is_here=True) is Answer.NO
    admitted.forget(place)
    assert at(100.0) is Answer.NO


def test_an_address_without_a_time_is_admitted_for_long_enough_to_connect() -> None:
    admitted, place = Admitted(), ip_address(HOST)
    admitted.admit("host.test", [(place, 0.0)], now=0.0)

    assert admitted.is_fresh(place, LEAST_SECONDS)
    assert not admitted.is_fresh(place, LEAST_SECONDS + 0.1)


class Names:
    """A resolver whose answers can be changed."""

    def __init__(self, **addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def ask(self, query: bytes, *, is_stream: bool = False) -> bytes | None:
        question = names.read_question(query)
        self.asked.append(question.name)
        return answer_with(query, self.addresses[question.name.partition(".")[0]])


class Elsewhere:
    """No address is this machine's."""

    def route_kind(self, address: bytes) -> int:
        return netlink.RTN_UNICAST


def answer_with(query: bytes, address: str) -> bytes:
    record = b"\xc0\x0c" + struct.pack(">HHIH", names.A, 1, 0, 4) + ip_address(address).packed
    return query[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0) + query[12:] + record


async def test_a_border_follows_a_name_and_asks_nobody_about_others() -> None:
    known = Names(host=HOST, other=OTHER)
    border = Border("host.test", known, Elsewhere())
    host, other = ip_address(HOST).packed, ip_address(OTHER).packed

    before = await border.may_reach(host)
    found = await border.addresses_of("host.test")
    refused = await border.answer_to(names.make_query(Question("other.test", names.A)), is_stream=False)

    assert (before, found) == (False, [host, host])  # of either kind it was told the same
    assert (await border.may_reach(host), await border.may_reach(other)) == (True, False)
    assert refused is not None
    assert refused[3] & 15 == names.NO_SUCH_NAME
    assert set(known.asked) == {"host.test"}


async def test_what_a_name_led_to_long_ago_is_refused_once_it_leads_elsewhere() -> None:
    known, now = Names(host=HOST), 0.0
    border = Border("host.test", known, Elsewhere())
    border.now = lambda: now
    await border.addresses_of("host.test")
    host = ip_address(HOST).packed

    now += LEAST_SECONDS + 1
    still = await border.may_reach(host)
    now += LEAST_SECONDS + 1
    known.addresses["host"] = OTHER
    gone = await border.may_reach(host)

    assert (still, gone) == (True, False)
    assert await border.may_reach(ip_address(OTHER).packed)


# -- packets


def packet(protocol: int, version: int, body: bytes) -> bytes:
    ends = [ip_address(one).packed for one in (("192.0.0.8", HOST) if version == 4 else ("100::8", "2001:db8::2"))]
    return packets._headed(ends[0], ends[1], protocol, body)


SYN = struct.pack(">HHIIBBHHH", 40_000, 443, 0xFFFFFFFF, 0, 5 << 4, 2, 64_000, 0xBAD, 0)
DATAGRAM = struct.pack(">HHHH", 40_000, 53, 12, 0) + b"ping"


@pytest.mark.parametrize("version", [4, 6])
def test_packets_are_read_and_answered_with_checksums_that_hold(version: int) -> None:
    syn = packets.read_packet(packet(packets.TCP, version, SYN))
    datagram = packets.read_packet(packet(packets.UDP, version, DATAGRAM))
    assert syn is not None
    assert datagram is not None
    assert (syn.source_port, syn.destination_port, datagram.payload) == (40_000, 443, b"ping")

    again, reset = packets.once_more(syn), packets.read_packet(packets.reset_of(syn))
    answer = packets.read_packet(packets.answer_to(datagram, b"pong!"))

    assert reset is not None
    assert answer is not None
    assert (reset.source, reset.destination, reset.source_port) == (syn.destination, syn.source, 443)
    assert struct.unpack_from(">I", reset.raw, reset.header_bytes + 8)[0] == 0  # what was 2^32 - 1, and one more
    assert (answer.payload, answer.source_port) == (b"pong!", 53)
    for one in (packets.read_packet(again), reset, answer):
        assert one is not None
        assert packets._checksum_of(one.source, one.destination, one.protocol, one.raw[one.header_bytes :]) == 0
    assert again[: syn.header_bytes + 16] == syn.raw[: syn.header_bytes + 16]


@given(st.binary(max_size=80))
def test_whatever_a_sandbox_sends_is_a_packet_or_nothing(raw: bytes) -> None:
    found = packets.read_packet(raw)

    if found is not None:
        assert len(packets.refusal_of(found, packets.FORBIDDEN)) > len(raw)
        assert len(found.payload) <= len(raw)


# -- names


def test_a_question_is_read_as_it_was_made() -> None:
    query = names.make_query(Question("example.net", names.AAAA))

    assert names.read_question(query) == Question("example.net", names.AAAA)
    assert names.read_question(query.replace(b"pypi", b"PyPI")).name == "example.net"
    assert names.read_addresses(answer_with(query, HOST)) == [(ip_address(HOST), 0.0)]
    assert names.read_addresses(names.answer_without(query, names.NO_SUCH_NAME)) == []


@given(st.binary(max_size=120))
def test_whatever_is_asked_or_answered_is_read_or_refused(data: bytes) -> None:
    with suppress(Malformed):
        names.read_question(data)
    with suppress(Malformed):
        names.read_addresses(data)


def test_a_name_that_leads_to_itself_is_refused() -> None:
    query = names.make_query(Question("a.test", names.A))

    with pytest.raises(Malformed, match="no end"):
        names.read_question(query[:12] + b"\xc0\x0c" + query[-4:])


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("search x\nnameserver 192.0.2.1\n# nameserver 192.0.2.9\nnameserver 2001:db8::1\n", ("192.0.2.1", "2001:db8::1")),
        ("", ("127.0.0.1",)),
    ],
)  # fmt: skip
def test_the_machines_servers_are_those_it_names(text: str, servers: tuple[str, ...]) -> None:
    assert names.read_servers(text) == servers


# -- the proxy, and the kernel's messages


def test_a_request_to_the_proxy_says_where_it_goes_and_what_is_sent_there() -> None:
    body = b"\r\nContent-Length: 2\r\nProxy-Authorization: x\r\n\r\nhi"

    assert read_head(b"CONNECT example.net:443 HTTP/1.1\r\nHost: example.net\r\n\r\nhello") == (
        "example.net", 443, b"hello", b"HTTP/1.1 200 Connection established\r\n\r\n"
    )  # fmt: skip
    assert read_head(b"POST http://[2001:db8::1]:8080/a?b HTTP/1.1\r\nHost: x" + body) == (
        "2001:db8::1", 8080,
        b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", b"",
    )  # fmt: skip
    assert read_head(b"GET http://a.test HTTP/1.0\r\n\r\n")[:3] == (
        "a.test",
        80,
        b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n",
    )


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"CONNECT x HTTP/1.1\r\n\r\n"])
def test_what_is_no_request_to_a_proxy_is_refused(head: bytes) -> None:
    with pytest.raises(Refused, match="400"):
        read_head(head)


@given(st.lists(st.tuples(st.integers(1, 1000), st.binary(max_size=9)), max_size=5))
def test_attributes_are_read_as_they_were_packed(attributes: list[tuple[int, bytes]]) -> None:
    assert list(netlink.read_attributes(netlink.pack_attributes(attributes))) == attributes


@given(st.binary(max_size=64))
def test_messages_that_are_cut_off_end_there(data: bytes) -> None:
    assert len(list(netlink.read_copies(data))) <= len(data)
