"""Dataclasses to bytes and back, driven by their types.

A message travels as `[u32 length of header][header: JSON][attachments]`; the header is `[kind, fields, lengths]`, and a
field of type `bytes` holds the index of its attachment, so that user values are never escaped or copied into text.
Fields equal to their default are left out; unknown fields are ignored; unknown kinds are refused.
"""

from __future__ import annotations

import dataclasses
import json
import struct
import types
import typing
from collections.abc import Callable
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union

from relight.protocol.errors import ProtocolError
from relight.protocol.manifest import Json

M = TypeVar("M")
Attachments = list[bytes]
Encoder = Callable[[Any, Attachments], Json]
Decoder = Callable[[Any, Attachments], Any]

_LENGTH = struct.Struct("!I")
_PLAIN = (str, int, float, bool)


def pack(message: object) -> bytes:
    """A dataclass as bytes that name its kind."""
    attachments: Attachments = []
    kind: Any = type(message)
    fields = _encoder(kind)(message, attachments)
    header = json.dumps(
        [type(message).__name__, fields, [len(data) for data in attachments]], separators=(",", ":"), ensure_ascii=False
    ).encode()
    return b"".join((_LENGTH.pack(len(header)), header, *attachments))


class Kinds:
    """The messages one end of a conversation understands."""

    def __init__(self, *kinds: type[object]) -> None:
        self._kinds: dict[str, Any] = {kind.__name__: kind for kind in kinds}

    def unpack(self, data: bytes) -> object:
        """The message in `data`.  Raises ProtocolError when it is malformed or of an unknown kind."""
        try:
            size = _LENGTH.unpack_from(data)[0]
            name, fields, lengths = json.loads(data[4 : 4 + size])
            kind = self._kinds.get(name)
            if kind is None:
                raise ProtocolError(f"cannot read a message of kind {str(name)[:40]!r}: this end does not know it")
            return _decoder(kind)(fields, _cut(data, 4 + size, lengths))
        except (struct.error, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise ProtocolError(f"cannot read a message of {len(data)} bytes: {error}") from error


def unpack(data: bytes, kind: type[M]) -> M:
    """The message in `data`, which must be a `kind`."""
    message = Kinds(kind).unpack(data)
    if not isinstance(message, kind):
        raise ProtocolError(f"cannot read a {kind.__name__}: a {type(message).__name__} came")
    return message


def to_plain(value: object) -> Json:
    """A dataclass without bytes as plain data, for JSON and for storage."""
    attachments: Attachments = []
    kind: Any = type(value)
    plain = _encoder(kind)(value, attachments)
    if attachments:
        raise TypeError(f"cannot show a {type(value).__name__} as JSON: it holds bytes")
    return plain


def from_plain(plain: Json, kind: type[M]) -> M:
    """The dataclass that `to_plain` made `plain` of.  Raises ProtocolError when it does not fit."""
    try:
        known: Any = kind
        value: M = _decoder(known)(plain, [])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ProtocolError(f"cannot read a {kind.__name__}: {error}") from error
    return value


def _cut(data: bytes, start: int, lengths: list[int]) -> Attachments:
    attachments = []
    for length in lengths:
        if length < 0 or start + length > len(data):
            raise ValueError("an attachment is longer than the message")
        attachments.append(data[start : start + length])
        start += length
    return attachments


# -- one converter for each type, made once


@cache
def _encoder(kind: Any) -> Encoder:
    """How a value of this type becomes JSON; the types are fixed at import, so the cache is a table."""
    if dataclasses.is_dataclass(kind):
        return _dataclass_encoder(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is bytes:
        return _attach
    if origin in (Union, types.UnionType) and len(arguments) == 2:
        inner = _encoder(_present(arguments))
        return lambda value, out: None if value is None else inner(value, out)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        item = _encoder(arguments[0])
        return lambda value, out: [item(one, out) for one in value]
    if origin is tuple:
        parts = [_encoder(argument) for argument in arguments]
        return lambda value, out: [part(one, out) for part, one in zip(parts, value, strict=True)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda value, out: value.value
    return lambda value, out: value


@cache
def _decoder(kind: Any) -> Decoder:
    """How JSON becomes a value of this type."""
    if dataclasses.is_dataclass(kind):
        return _dataclass_decoder(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is bytes:
        return lambda plain, data: data[plain]
    if origin in (Union, types.UnionType) and len(arguments) > 2:
        return lambda plain, data: plain  # `Json`: it is what it says
    if origin in (Union, types.UnionType):
        inner = _decoder(_present(arguments))
        return lambda plain, data: None if plain is None else inner(plain, data)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        item = _decoder(arguments[0])
        return lambda plain, data: tuple([item(one, data) for one in _expect(plain, list)])
    if origin is tuple:
        parts = [_decoder(argument) for argument in arguments]
        return lambda plain, data: tuple(
            [part(one, data) for part, one in zip(parts, _expect(plain, list), strict=True)]
        )
    if isinstance(kind, type) and issubclass(kind, tuple):
        return lambda plain, data: kind(*plain)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda plain, data: kind(plain)
    if kind is float:
        return lambda plain, data: float(_expect(plain, (int, float)))
    if kind in _PLAIN:
        return lambda plain, data: _expect(plain, kind)
    raise TypeError(f"no message can hold a {kind}")


def _present(arguments: tuple[object, ...]) -> object:
    """The type in `X | None`."""
    return next(argument for argument in arguments if argument is not type(None))


def _attach(value: bytes, out: Attachments) -> Json:
    out.append(value)
    return len(out) - 1


def _expect(plain: Any, kind: Any) -> Any:
    if isinstance(plain, kind):
        return plain
    raise TypeError(f"{str(plain)[:40]!r} is not a {kind}")


def _dataclass_encoder(kind: Any) -> Encoder:
    hints = typing.get_type_hints(kind)
    rows = [(field.name, _encoder(hints[field.name]), _default(field)) for field in dataclasses.fields(kind)]

    def encode(value: object, out: Attachments) -> Json:
        plain: dict[str, Json] = {}
        for name, convert, default in rows:
            part = getattr(value, name)
            if part is not default and part != default:
                plain[name] = convert(part, out)
        return plain

    return encode


def _dataclass_decoder(kind: Any) -> Decoder:
    hints = typing.get_type_hints(kind)
    rows = {field.name: _decoder(hints[field.name]) for field in dataclasses.fields(kind)}

    def decode(plain: Any, data: Attachments) -> Any:
        return kind(**{name: rows[name](part, data) for name, part in plain.items() if name in rows})

    return decode


_ALWAYS = object()


def _default(field: dataclasses.Field[Any]) -> object:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return _ALWAYS
