"""Dataclasses to bytes and back, driven by their types.

A message travels as `[u32 length of header][header: JSON][attachments]`; the header is `[kind, fields, lengths]`, and a
field of type `bytes` holds the index of its attachment, so that user values are never escaped or copied into text.
Fields equal to their default are left out; unknown fields are ignored; unknown kinds are refused.

Each class has one encoder and one decoder, written as source from its fields and compiled when first used: a call crosses
seven messages, and a loop over the fields of each would cost more than anything else that is done for it.
"""

from __future__ import annotations

import dataclasses
import json
import struct
import types
import typing
from _json import make_encoder
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
_encode = make_encoder(
    None, json.JSONEncoder().default, json.encoder.encode_basestring, None, ":", ",", False, False, True
)
_load = json.JSONDecoder().raw_decode


def pack(message: object) -> bytes:
    """A dataclass as bytes that name its kind."""
    attachments: Attachments = []
    kind: Any = type(message)
    fields = _encoder(kind)(message, attachments)
    header = "".join(_encode([kind.__name__, fields, list(map(len, attachments))], 0)).encode()
    return b"".join((_LENGTH.pack(len(header)), header, *attachments))


class Kinds:
    """The messages one end of a conversation understands."""

    def __init__(self, *kinds: type[object]) -> None:
        self._kinds: dict[str, Any] = {kind.__name__: kind for kind in kinds}

    def unpack(self, data: bytes) -> object:
        """The message in `data`.  Raises ProtocolError when it is malformed or of an unknown kind."""
        try:
            end = 4 + _LENGTH.unpack_from(data)[0]
            name, fields, lengths = _load(str(data[4:end], "utf-8"))[0]
            kind = self._kinds.get(name)
            if kind is None:
                raise ProtocolError(
                    f"cannot read a message of kind {str(name)[:40]!r}: this end does not know it; use the same version of relight on both"
                )
            return _decoder(kind)(fields, _cut(data, end, lengths))
        except (struct.error, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise ProtocolError(
                f"cannot read a message of {len(data)} bytes: it is malformed ({error}); send JSON, or use the SDK"
            ) from error


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


# -- one pair of functions for each class, made once


@cache
def _encoder(kind: Any) -> Encoder:
    """How a dataclass becomes JSON; the classes are fixed at import, so the cache is a table."""
    names: dict[str, Any] = {}
    lines = ["def convert(value, out):", " plain = {}"]
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        default = _default(field)
        hint = hints[field.name]
        put = f"plain[{field.name!r}] = {_encoding(hint if default is not None else _present(hint), 'part', names)}"
        lines.append(f" part = value.{field.name}")
        if default is _ALWAYS:
            lines.append(f" {put}")
        elif default is None:
            lines.append(f" if part is not None: {put}")
        else:
            lines.append(f" if part is not {(it := _name(names, default))} and part != {it}: {put}")
    encoder: Encoder = _compiled([*lines, " return plain"], names)
    return encoder


@cache
def _decoder(kind: Any) -> Decoder:
    """How JSON becomes a dataclass."""
    names: dict[str, Any] = {"absent": _ALWAYS, "expect": _expect, "new": object.__new__, "kind": kind}
    lines = [
        "def convert(plain, data):",
        " if plain.__class__ is not dict: expect(plain, dict)",
        " get = plain.get",
        " made = new(kind)",
    ]
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        default = _default(field)
        put = _name(names, getattr(kind, field.name).__set__)  # a slot's own: a frozen class has no quicker way in
        if default is _ALWAYS:
            lines.append(f" part = plain[{field.name!r}]")
            lines.append(f" {put}(made, {_decoding(hints[field.name], 'part', names)})")
        else:
            lines.append(f" part = get({field.name!r}, absent)")
            there = _decoding(hints[field.name], "part", names)
            lines.append(f" {put}(made, {_name(names, default)} if part is absent else {there})")
    decoder: Decoder = _compiled([*lines, " return made"], names)
    return decoder


def _encoding(kind: Any, value: str, names: dict[str, Any]) -> str:
    """The expression that makes plain data of `value`, a variable that holds a `kind`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if _is_message(kind):
        return f"{_name(names, _encoder(kind))}({value}, out)"
    if kind is bytes:
        return f"(out.append({value}) or len(out) - 1)"
    if origin in (Union, types.UnionType) and len(arguments) == 2:
        return f"None if {value} is None else {_encoding(_present(kind), value, names)}"
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"[{_encoding(arguments[0], 'one', names)} for one in {value}]"
    if origin is tuple:
        parts = [_encoding(argument, f"{value}[{at}]", names) for at, argument in enumerate(arguments)]
        return f"[{', '.join(parts)}]"
    return f"{value}._value_" if isinstance(kind, type) and issubclass(kind, Enum) else value


def _decoding(kind: Any, plain: str, names: dict[str, Any]) -> str:
    """The expression that makes a `kind` of `plain`, a variable that holds plain data."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if _is_message(kind):
        return f"{_name(names, _decoder(kind))}({plain}, data)"
    if kind is bytes:
        return f"data[{plain}]"
    if origin in (Union, types.UnionType) and len(arguments) > 2:
        return plain  # `Json`: it is what it says
    if origin in (Union, types.UnionType):
        return f"None if {plain} is None else {_decoding(_present(kind), plain, names)}"
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"tuple([{_decoding(arguments[0], 'one', names)} for one in {_expected(plain, list)}])"
    if origin is tuple:
        return f"{_name(names, _tuple_of(arguments))}({plain}, data)"
    if isinstance(kind, type) and issubclass(kind, tuple):
        return f"{_name(names, kind)}(*{plain})"
    if isinstance(kind, type) and issubclass(kind, Enum):
        members = {member.value: member for member in kind}
        return f"({_name(names, members.get)}({plain}) or {_name(names, kind)}({plain}))"
    if kind is float:
        return f"{plain} if {plain}.__class__ is float else float(expect({plain}, {_name(names, (int, float))}))"
    if kind in (str, int, bool):
        return _expected(plain, kind)
    raise TypeError(f"no message can hold a {kind}")


def _tuple_of(kinds: tuple[Any, ...]) -> Decoder:
    """How a list becomes a tuple of these types."""
    names: dict[str, Any] = {"expect": _expect}
    heads = [f"part{at}" for at in range(len(kinds))]
    parts = [_decoding(kind, head, names) for kind, head in zip(kinds, heads, strict=True)]
    lines = [
        "def convert(plain, data):",
        f" {', '.join(heads)}, = expect(plain, list)",
        f" return ({', '.join(parts)},)",
    ]
    decoder: Decoder = _compiled(lines, names)
    return decoder


def _compiled(lines: list[str], names: dict[str, Any]) -> Any:
    # The source is made of the names of our own fields, which are identifiers; nothing of a message gets into it.
    exec("\n".join(lines), names)
    return names["convert"]


def _name(names: dict[str, Any], thing: object) -> str:
    """The name by which the source means `thing`."""
    name = f"it{len(names)}"
    names[name] = thing
    return name


def _is_message(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind)


def _present(kind: Any) -> Any:
    """The type in `X | None`; any other as it is."""
    there = [argument for argument in typing.get_args(kind) if argument is not type(None)]
    is_optional = typing.get_origin(kind) in (Union, types.UnionType) and len(there) == 1
    return there[0] if is_optional else kind


def _expected(plain: str, kind: type[object]) -> str:
    """The expression that is `plain`, a variable, where that holds a `kind`, and raises where it does not."""
    return f"({plain} if {plain}.__class__ is {kind.__name__} else expect({plain}, {kind.__name__}))"


def _expect(plain: Any, kind: Any) -> Any:
    if isinstance(plain, kind):
        return plain
    raise TypeError(f"{str(plain)[:40]!r} is not a {kind}")


_ALWAYS = object()


def _default(field: dataclasses.Field[Any]) -> object:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return _ALWAYS
