"""Messages come out of the codec as they went in, and nothing malformed gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.protocol.calls import CallEvent, CallState, CallView, Token
from relight.protocol.codec import Kinds, from_plain, pack, to_plain, unpack
from relight.protocol.errors import Failure, ProtocolError
from relight.protocol.link import TO_AGENT, CallEnd, Orders, Reports, RunCall
from relight.protocol.manifest import FunctionSpec, GpuRequest, HostImage, MethodSpec, ParameterSpec, Resources
from relight.protocol.payload import Payload

IMAGE = HostImage(python="/v/bin/python", prefix="/v", base_prefix="/usr", version="3.11.7", paths=("/src",))

payloads = st.builds(
    Payload, format=st.sampled_from(["json", "pickle5"]), data=st.none() | st.binary(), size=st.integers(0)
)
tokens = st.builds(Token, st.integers(0, 2**40), st.integers(0, 2**40))
failures = st.builds(Failure, code=st.text(max_size=9), message=st.text(), exception=st.none() | payloads)
ends = st.builds(
    CallEnd,
    call=st.text(),
    token=tokens,
    outcome=st.sampled_from(CallEvent),
    worker=st.text(),
    result=st.none() | payloads,
    failure=st.none() | failures,
    is_charged=st.booleans(),
)


@given(st.lists(ends, max_size=4))
def test_what_is_unpacked_is_what_was_packed(given: list[CallEnd]) -> None:
    reports = Reports(ends=tuple(given), held=("a",))

    assert unpack(pack(reports), Reports) == reports


def test_user_bytes_travel_beside_the_text_and_not_in_it() -> None:
    data = bytes(range(256)) * 10
    run = RunCall(worker="w", call="c", token=Token(1, 2), attempt=1, payload=Payload(format="raw", data=data))

    packed = pack(Orders(run=(run,)))

    assert data in packed
    assert TO_AGENT.unpack(packed) == Orders(run=(run,))


def test_fields_at_their_default_are_left_out_and_unknown_fields_are_ignored() -> None:
    view = CallView(id="c", app="a", environment="main", version="v", function="f")

    plain = to_plain(view)

    assert plain == {"id": "c", "app": "a", "environment": "main", "version": "v", "function": "f"}
    assert from_plain({**plain, "state": "failed", "from_the_future": 1}, CallView).state is CallState.FAILED


def test_a_manifest_survives_being_kept_as_json() -> None:
    method = MethodSpec(parameters=(ParameterSpec(name="x", default={"a": [1, None]}, required=False),))
    function = FunctionSpec(
        name="f",
        module="m",
        qualname="f",
        image=IMAGE,
        methods=(method,),
        resources=Resources(gpu=(GpuRequest(kind="A100", count=2),)),
        env=(("A", "1"),),
    )

    assert from_plain(to_plain(function), FunctionSpec) == function


def test_a_message_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ProtocolError, match="'Orders'"):
        Kinds(Reports).unpack(pack(Orders()))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        TO_AGENT.unpack(data)


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_message_with_one_byte_changed_is_read_or_refused_and_nothing_else(at: int, byte: int) -> None:
    run = RunCall(worker="w", call="c", token=Token(1, 2), attempt=1, payload=Payload(format="raw", data=b"x" * 50))
    packed = bytearray(pack(Orders(run=(run, run))))
    packed[at % len(packed)] = byte

    try:
        message = TO_AGENT.unpack(bytes(packed))
    except ProtocolError:
        return
    assert isinstance(message, Orders)


def test_what_holds_bytes_cannot_be_shown_as_json() -> None:
    with pytest.raises(TypeError, match="holds bytes"):
        to_plain(Payload(format="raw", data=b"x"))


def test_a_number_where_text_belongs_is_refused() -> None:
    with pytest.raises(ProtocolError, match="HostImage"):
        from_plain({"python": 1, "prefix": "", "base_prefix": "", "version": ""}, HostImage)
