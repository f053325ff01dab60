"""Options made from a function's signature: what `--x 7` becomes before the function sees it.

int, float, str, Path   --x 7              bool      --flag / --no-flag
Literal, Enum           one of the words   list[T]   --x 1 --x 2
anything else           JSON, or the text itself where it is none
"""

from __future__ import annotations

import enum
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import ParameterSpec

_MISSING = object()
_SCALARS: dict[object, click.ParamType[Any]] = {int: click.INT, float: click.FLOAT, str: click.STRING}
_WORDS = {"int": int, "float": float, "str": str, "bool": bool, "Path": Path, "pathlib.Path": Path}
_LIST = re.compile(r"(?:list|List|Sequence|tuple|typing\.List)\[(\w[\w.]*)(?:, \.\.\.)?\]")
_LITERAL = re.compile(r"(?:typing\.)?Literal\[(.*)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a function, as an option."""

    name: str
    kind: object
    default: object = _MISSING

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is _MISSING


def from_function(function: Callable[..., object]) -> tuple[Parameter, ...]:
    """The parameters of a function that is here.  Raises InvalidRequest for those that no option can give."""
    raw = getattr(function, "raw", function)
    try:
        hints = typing.get_type_hints(raw)
    except (NameError, TypeError):
        hints = {}  # names that exist for type checkers alone: their values are read as JSON
    parameters = []
    for one in inspect.signature(raw).parameters.values():
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            continue
        if one.kind is one.POSITIONAL_ONLY and one.default is one.empty:
            raise InvalidRequest(
                f"cannot make an option of {one.name!r}: {raw.__name__}() takes it by position only; remove the '/'"
            )
        default = _MISSING if one.default is one.empty else one.default
        parameters.append(Parameter(name=one.name, kind=hints.get(one.name), default=default))
    return tuple(one for one in parameters if one.name != "self")


def from_specs(specs: Sequence[ParameterSpec]) -> tuple[Parameter, ...]:
    """The parameters of a function that is deployed, told by the text of its annotations."""
    return tuple(
        Parameter(name=one.name, kind=_kind_of(one.annotation), default=_MISSING if one.required else one.default)
        for one in specs
    )


def read_options(name: str, parameters: Sequence[Parameter], words: Sequence[str], doc: str = "") -> dict[str, Any]:
    """What `words` (`--x 7 --flag`) say, by name; parameters left out are left out.

    Raises click's UsageError; `--help` prints the options and ends the command.
    """
    found: dict[str, Any] = {}

    def take(**given: Any) -> None:
        found.update({key: value for key, value in given.items() if value is not None and value != ()})

    command = click.Command(name, params=[_option(one) for one in parameters], callback=take, help=doc or None)
    with command.make_context(name, list(words)) as context:
        command.invoke(context)
    return {one.name: _finish(one, found[key]) for one in parameters if (key := one.name.lower()) in found}


def _option(parameter: Parameter) -> click.Option:
    flag = "--" + parameter.name.strip("_").replace("_", "-")
    destination = parameter.name.lower()
    says = None if parameter.is_required or parameter.default is None else f"[default: {_shown(parameter.default)}]"
    kind = _present(parameter.kind)
    item = _item(kind)
    asked: dict[str, Any] = {"help": says, "required": parameter.is_required}
    if not parameter.is_required:
        asked["default"] = None  # tells a flag that was not given from one that was
    if kind is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}", destination], **asked)
    return click.Option(
        [flag, destination], type=_type(kind if item is None else item), multiple=item is not None, **asked
    )


def _type(kind: object) -> click.ParamType[Any] | Callable[[str], Any]:
    kind = _present(kind)
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind is Path:
        return click.Path(path_type=Path)
    choices = _choices(kind)
    return click.Choice(list(choices)) if choices else _json_or_text


def _finish(parameter: Parameter, value: Any) -> Any:
    """What click read as what the function wants: a Literal's own value, an Enum's member, a list."""
    kind = _present(parameter.kind)
    item = _item(kind)
    if item is not None:
        items = [_chosen(item, one) for one in value]
        return tuple(items) if typing.get_origin(kind) is tuple else items
    return _chosen(kind, value)


def _chosen(kind: object, value: Any) -> Any:
    choices = _choices(_present(kind))
    return choices.get(value, value) if choices and isinstance(value, str) else value


def _choices(kind: object) -> dict[str, Any]:
    if typing.get_origin(kind) is typing.Literal:
        return {str(one): one for one in typing.get_args(kind)}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return dict(kind.__members__)
    return {}


def _present(kind: object) -> object:
    """`X` of `X | None`."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        present = [one for one in typing.get_args(kind) if one is not type(None)]
        return present[0] if len(present) == 1 else None
    return kind


def _item(kind: object) -> object | None:
    """`X` of `list[X]`; None for what is no list."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (list, typing.get_origin(Sequence[int])) and len(arguments) == 1:
        first: object = arguments[0]
        return first
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        each: object = arguments[0]
        return each
    return str if kind is list else None


def _kind_of(annotation: str) -> object:
    text = annotation.strip().strip("'\"")
    text = text.removeprefix("Optional[").removesuffix("]") if text.startswith("Optional[") else text
    text = text.removesuffix("| None").removeprefix("None |").strip()
    if text in _WORDS:
        return _WORDS[text]
    if found := _LIST.fullmatch(text):
        return list[_WORDS.get(found[1], str)]  # type: ignore[misc]  # the type is found at run time
    if found := _LITERAL.fullmatch(text):
        try:
            words = json.loads("[" + found[1].replace("'", '"') + "]")
        except ValueError:
            return None
        return typing.Literal[tuple(words)]
    return None


def _shown(default: object) -> str:
    if isinstance(default, enum.Enum):
        return default.name
    return str(default) if isinstance(default, (str, int, float, bool, Path)) else json.dumps(default, default=str)


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
