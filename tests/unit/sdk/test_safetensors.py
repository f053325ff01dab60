"""The header of a safetensors file: what it says is held against the file, and the rest is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relight.sdk.safetensors import MAX_HEADER_BYTES, Broken, Tensor, tensors_of


def file(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def one(dtype: Any = "F32", shape: Any = (2, 1), offsets: Any = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_tensors_lie_one_behind_the_other_in_any_order_of_the_header() -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "b": one("I8", [3], [8, 11]),
        "a": one(),
        "none": one("F64", [0, 5], [11, 11]),
        "number": one("BF16", [], [11, 13]),
    }
    data = file(header, bytes(13))
    begin = len(data) - 13

    found = tensors_of(data)

    assert found["a"] == Tensor(dtype="F32", shape=(2, 1), begin=begin, end=begin + 8)
    assert {name: (each.begin - begin, each.end - begin, each.count) for name, each in found.items()} == {
        "b": (8, 11, 3),
        "a": (0, 8, 2),
        "none": (11, 11, 0),
        "number": (11, 13, 1),
    }


def test_a_header_may_be_padded_and_say_nothing() -> None:
    assert tensors_of(file(b"{}      ")) == {}


WRONG: dict[str, tuple[bytes, str]] = {
    "no header": (b"abc", r"it has 3 bytes, and no header; fetch it again"),
    "a header too large": (
        (MAX_HEADER_BYTES + 1).to_bytes(8, "little"),
        r"its header would take 100,000,001 bytes, and the format allows 100,000,000; ",
    ),
    "an enormous header": (b"\xff" * 8 + b"{}", r"would take 18,446,744,073,709,551,615 bytes"),
    "a header cut off": (file({"a": one()})[:20], r"it ends after 20 bytes, and its header alone takes \d+; "),
    "no JSON": (file(b"\x00\x01"), r"its header is not what it should be \(.*\); "),
    "no UTF-8": (file(b'{"\xff": 1}'), r"its header is not what it should be \(.*utf-8"),
    "JSON too deep": (file(b"[" * 200_000), r"its header is not what it should be \("),
    "a number too long": (file(b'{"a": ' + b"9" * 5000 + b"}"), r"(its header is not|its header says)"),
    "a list": (file([]), r"its header is a list instead of an object; "),
    "a name twice": (file(b'{"a": 1, "a": 2}'), r"'a' is there twice"),
    "no object": (file({"a": 1}), r"its header says 1 of 'a'; "),
    "no shape": (file({"a": {"dtype": "F32"}}), r"'a' has the shape None, which no tensor can have; "),
    "a length below 0": (file({"a": one(shape=[-2, -1])}, bytes(8)), r"'a' has the shape \[-2, -1\]"),
    "a length that is no number": (file({"a": one(shape=[True, 2])}, bytes(8)), r"'a' has the shape \[True, 2\]"),
    "a shape without end": (file({"a": one(shape=[1] * 33)}), r"'a' has the shape \[1, 1,"),
    "an end before its begin": (file({"a": one(offsets=[8, 0])}, bytes(8)), r"'a' lies at \[8, 0\], which is no place"),
    "three offsets": (file({"a": one(offsets=[0, 8, 8])}, bytes(8)), r"'a' lies at \[0, 8, 8\]"),
    "an unknown type": (
        file({"a": one("F4")}, bytes(8)),
        r"'a' is of type 'F4', and only BOOL, U8, .* can be; convert",
    ),
    "no type": (file({"a": one(["F32"])}, bytes(8)), r"'a' is of type \['F32'\]"),
    "another size": (
        file({"a": one(shape=[3])}, bytes(8)),
        r"'a' has 8 bytes, and F32 of shape \[3\] takes 12; write it anew",
    ),
    "a size that overflows": (
        file({"a": one("U8", [2**32, 2**32, 2**32], [0, 0])}),
        r"'a' has 0 bytes, and U8 of shape .* takes 79,228,",
    ),
    "an overlap": (
        file({"a": one(), "b": one(offsets=[4, 12])}, bytes(12)),
        r"'a' and 'b' overlap by 4 bytes; write it anew",
    ),
    "the same place twice": (file({"a": one(), "b": one()}, bytes(8)), r"'a' and 'b' overlap by 8 bytes"),
    "a gap": (file({"a": one(), "b": one(offsets=[12, 20])}, bytes(20)), r"4 bytes before 'b' are no tensor's"),
    "a gap at the beginning": (file({"a": one(offsets=[4, 12])}, bytes(12)), r"4 bytes before 'a' are no tensor's"),
    "too few bytes": (
        file({"a": one()}, bytes(7)),
        r"it ends after \d+ bytes, and its tensors after \d+; fetch it again",
    ),
    "too many bytes": (file({"a": one()}, bytes(9)), r"1 bytes after its tensors are no tensor's; "),
}


@pytest.mark.parametrize(("data", "message"), WRONG.values(), ids=WRONG)
def test_a_file_that_is_not_one_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(Broken, match=message):
        tensors_of(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
SIZES = st.lists(st.integers(0, 4) | JSON, max_size=3)
ENTRIES = st.fixed_dictionaries({"dtype": st.sampled_from(["F32", "U8", "X"]), "shape": SIZES, "data_offsets": SIZES})


@given(header=st.dictionaries(st.text(max_size=2), ENTRIES | JSON, max_size=3), data=st.binary(max_size=12))
@example(header={"a": {"dtype": "U8", "shape": [12], "data_offsets": [0, 12]}}, data=bytes(12))
def test_whatever_a_header_says_each_tensor_lies_in_the_file_and_apart_from_the_others(
    header: dict[str, object], data: bytes
) -> None:
    whole = file(header, data)

    try:
        found = tensors_of(whole)
    except Broken:
        return

    assert sum(each.end - each.begin for each in found.values()) == len(data)
    assert all(len(whole) - len(data) <= each.begin <= each.end <= len(whole) for each in found.values())


@given(st.binary(max_size=64))
def test_bytes_without_sense_are_refused(data: bytes) -> None:
    with pytest.raises(Broken):
        tensors_of(data)
