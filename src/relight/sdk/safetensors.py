"""Where the tensors of a safetensors file lie.  Only its header is read, and nothing that it says is believed unchecked.

8 bytes: n, little-endian ▶ n bytes of JSON: {name: {"dtype", "shape", "data_offsets"}} ▶ the tensors, without a gap
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing import TypeGuard

ITEM_BYTES: Mapping[str, int] = {
    **{"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1},
    **{"U16": 2, "I16": 2, "F16": 2, "BF16": 2},
    **{"U32": 4, "I32": 4, "F32": 4},
    **{"U64": 8, "I64": 8, "F64": 8, "C64": 8},
}
"""The types of numbers, and how many bytes one takes."""

MAX_HEADER_BYTES = 100_000_000
"""What the format allows a header to take."""

_METADATA = "__metadata__"
_MAX_DIMENSIONS = 32  # of an array in the oldest numpy in use
_PREFIX_BYTES = 8


class Broken(Exception):
    """The file is not what it should be: why, and what to do."""


class Bytes(Protocol):
    """The file, of which parts can be read."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """Numbers of one type, from the byte `begin` of the file to before `end`, the last dimension's side by side."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def count(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)


def tensors_of(data: Bytes) -> dict[str, Tensor]:
    """The tensors, by name.  Raises Broken where the format allows no such header, or less or more follows it."""
    header, begin = _header(data)
    found = {name: _tensor(name, entry, begin) for name, entry in header.items() if name != _METADATA}
    _check_places(found, begin, len(data))
    return found


def _header(data: Bytes) -> tuple[dict[str, object], int]:
    """What it says, and where it ends."""
    if len(data) < _PREFIX_BYTES:
        raise Broken(f"it has {len(data)} bytes, and no header; fetch it again")
    size = int.from_bytes(data[:_PREFIX_BYTES], "little")
    if size > MAX_HEADER_BYTES:
        raise Broken(
            f"its header would take {size:,} bytes, and the format allows {MAX_HEADER_BYTES:,}; it is no safetensors file, "
            "or a broken one: fetch it again"
        )
    end = _PREFIX_BYTES + size
    if end > len(data):
        raise Broken(f"it ends after {len(data):,} bytes, and its header alone takes {end:,}; fetch it again")
    try:
        said = json.loads(data[_PREFIX_BYTES:end].decode(), object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise Broken(f"its header is not what it should be ({error}); fetch it again, or write it anew") from error
    if not isinstance(said, dict):
        raise Broken(f"its header is a {type(said).__name__} instead of an object; write it anew")
    return said, end


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made: dict[str, object] = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f"{name!r} is there twice")
        made[name] = value
    return made


def _tensor(name: str, entry: object, start: int) -> Tensor:
    if not isinstance(entry, dict):
        raise Broken(f"its header says {entry!r:.40} of {name!r}; write it anew")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not _is_sizes(shape) or len(shape) > _MAX_DIMENSIONS:
        raise Broken(f"{name!r} has the shape {shape!r:.80}, which no tensor can have; write it anew")
    if not _is_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise Broken(f"{name!r} lies at {offsets!r:.80}, which is no place; write it anew")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise Broken(f"{name!r} is of type {dtype!r:.40}, and only {', '.join(ITEM_BYTES)} can be; convert it")
    tensor = Tensor(dtype=dtype, shape=tuple(shape), begin=start + offsets[0], end=start + offsets[1])
    needed = tensor.count * ITEM_BYTES[dtype]
    if needed != tensor.end - tensor.begin:
        raise Broken(
            f"{name!r} has {tensor.end - tensor.begin:,} bytes, and {dtype} of shape {list(shape)} takes {needed:,}; write it anew"
        )
    return tensor


def _is_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)


def _check_places(found: Mapping[str, Tensor], begin: int, size: int) -> None:
    """One begins where another ends, so that no byte is two tensors', nor anything hidden between them."""
    ordered = sorted(found.items(), key=lambda pair: (pair[1].begin, pair[1].end))
    if ordered and ordered[0][1].begin != begin:
        raise Broken(f"{ordered[0][1].begin - begin:,} bytes before {ordered[0][0]!r} are no tensor's; write it anew")
    for (first, one), (second, other) in pairwise(ordered):
        if other.begin < one.end:
            raise Broken(f"{first!r} and {second!r} overlap by {one.end - other.begin:,} bytes; write it anew")
        if other.begin > one.end:
            raise Broken(f"{other.begin - one.end:,} bytes before {second!r} are no tensor's; write it anew")
    end = ordered[-1][1].end if ordered else begin
    if end > size:
        raise Broken(f"it ends after {size:,} bytes, and its tensors after {end:,}; fetch it again")
    if end < size:
        raise Broken(f"{size - end:,} bytes after its tensors are no tensor's; fetch it again, or write it anew")
