"""Options made from a function's schema: what `--x 7` becomes before the function sees it.

integer, number, string     --x 7, within its range      boolean    --flag / --no-flag
one of some values          one of the words             array      --x 1 --x 2, or --x '[1, 2]'
a file, a path              --x photo.png                the rest   JSON, or the text itself where it is none

What is read is what JSON would say, and a `Path` for what may be a file here; `as_json` and `as_python` finish it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from relight.protocol import dataurl
from relight.protocol.annotations import ANYTHING, hints_of
from relight.protocol.conversion import Converters
from relight.protocol.errors import InvalidInput, InvalidRequest
from relight.protocol.manifest import Json, MethodSpec
from relight.protocol.schema import Schema, check, resolve
from relight.sdk.docstrings import summary_of
from relight.sdk.file import File, SentPath
from relight.sdk.options import method_of

_URLS = ("data:", "https://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a function, as an option.  `schema` is what it takes when it is not null."""

    name: str
    schema: Schema
    whole: Schema
    is_required: bool = True

    @property
    def item(self) -> Schema | None:
        """What each item is, where the option may be given several times."""
        if self.schema.get("type") != "array" or "prefixItems" in self.schema:
            return None
        return _present(self.schema.get("items", {}), self.whole)


def from_function(function: Callable[..., object]) -> tuple[Parameter, ...]:
    """The parameters of a function that is here.  Raises InvalidRequest for those that no option can give."""
    raw = getattr(function, "raw", function)
    parameters = list(inspect.signature(raw).parameters.values())
    is_bound = bool(parameters) and parameters[0].name == "self"
    for one in parameters[is_bound:]:
        if one.kind is one.POSITIONAL_ONLY and one.default is one.empty:
            raise InvalidRequest(
                f"cannot make an option of {one.name!r}: {raw.__name__}() takes it by position only; remove the '/'"
            )
    return from_method(method_of(raw, is_bound=is_bound))


def from_method(method: MethodSpec) -> tuple[Parameter, ...]:
    """The parameters of a function that may be elsewhere, as its schema tells them."""
    whole = method.input_schema if isinstance(method.input_schema, dict) else {}
    properties = whole.get("properties")
    known: Schema = properties if isinstance(properties, dict) else {}
    return tuple(
        Parameter(name=one.name, schema=_present(known.get(one.name, {}), whole), whole=whole, is_required=one.required)
        for one in method.parameters
        if not one.name.startswith("*")
    )


def read_options(name: str, parameters: Sequence[Parameter], words: Sequence[str], doc: str = "") -> dict[str, Any]:
    """What `words` (`--x 7 --flag`) say, by name; parameters left out are left out.

    Raises click's UsageError; `--help` prints the options and ends the command.
    """
    found: dict[str, Any] = {}

    def take(**given: Any) -> None:
        found.update({key: value for key, value in given.items() if value is not None and value != ()})

    command = click.Command(
        name, params=[_option(one) for one in parameters], callback=take, help=summary_of(inspect.cleandoc(doc)) or None
    )
    with command.make_context(name, list(words)) as context:
        command.invoke(context)
    said = {one.name: _joined(one, found[key]) for one in parameters if (key := one.name.lower()) in found}
    _refuse_misfits(parameters, said)
    return said


def as_json(said: Mapping[str, Any]) -> dict[str, Json]:
    """What was read, as it is sent: a file that is here by its bytes, a path that names none as it is."""
    return {name: _sent(value) for name, value in said.items()}


def as_python(function: Callable[..., object], said: Mapping[str, Any], *, is_local: bool) -> dict[str, Any]:
    """What was read, as the function's annotations ask for it.  `is_local`: its files are here already."""
    hints = hints_of(getattr(function, "raw", function))
    converters = Converters(_LocalFiles(is_local=is_local))
    found: dict[str, Any] = {}
    for name, value in said.items():
        convert = converters.of(hints.get(name, ANYTHING))
        plain = _sent(value) if _takes_files(hints.get(name)) else _text(value)
        try:
            found[name] = convert(plain, f"/{name}") if convert else plain
        except InvalidInput as error:
            raise click.UsageError("; ".join(f"{_flag(name)}: {fault.detail}" for fault in error.errors)) from error
    return found


# -- the options themselves


def _option(parameter: Parameter) -> click.Option:
    flag, destination = _flag(parameter.name), parameter.name.lower()
    asked: dict[str, Any] = {"help": _says(parameter), "required": parameter.is_required}
    if not parameter.is_required:
        asked["default"] = None  # tells a flag that was not given from one that was
    if parameter.schema.get("type") == "boolean":
        return click.Option([f"{flag}/--no-{flag[2:]}", destination], **asked)
    item = parameter.item
    kind = _type(parameter.schema) if item is None else _Items(_type(item))
    return click.Option([flag, destination], type=kind, multiple=item is not None, **asked)


def _type(schema: Schema) -> click.ParamType[Any]:
    if dataurl.KIND in schema:
        return _FileType(must_exist=schema[dataurl.KIND] == dataurl.FILE)
    if isinstance(schema.get("enum"), list):
        return _Words(_words(schema))
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return _number(schema, is_whole=kind == "integer")
    if kind == "string":
        return click.STRING
    return _JsonOrText()


def _number(schema: Schema, *, is_whole: bool) -> click.ParamType[Any]:
    bounds: dict[str, Any] = {
        "min": schema.get("minimum", schema.get("exclusiveMinimum")),
        "max": schema.get("maximum", schema.get("exclusiveMaximum")),
        "min_open": "minimum" not in schema,
        "max_open": "maximum" not in schema,
    }
    if bounds["min"] is None and bounds["max"] is None:
        return click.INT if is_whole else click.FLOAT
    return click.IntRange(**bounds) if is_whole else click.FloatRange(**bounds)


def _words(schema: Schema) -> dict[str, Json]:
    """The words of an option with choices: an Enum's names, else the values themselves."""
    choices, names = schema["enum"], schema.get("x-enum-names")
    assert isinstance(choices, list)
    named = isinstance(names, list) and len(names) == len(choices)
    shown = [str(name) for name in names] if named and isinstance(names, list) else [_word(one) for one in choices]
    return dict(zip(shown, choices, strict=True))


class _Words(click.Choice[str]):
    """One of some words, each of which stands for a value; the value itself, written as text, is taken too."""

    def __init__(self, values: Mapping[str, Json]) -> None:
        super().__init__([word for word, value in values.items() if value is not None])
        self._values = {**{_word(value): value for value in values.values()}, **values}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value that a word stands for."""
        if str(value) in self._values:
            return self._values[str(value)]
        return super().convert(value, param, ctx)


class _Items(click.ParamType[Any]):
    """One item of several, or all of them as a JSON array."""

    name = "items"

    def __init__(self, item: click.ParamType[Any]) -> None:
        self._item = item
        self.name = item.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A list, of one item or of all."""
        if value.lstrip().startswith("["):
            try:
                return list(json.loads(value))
            except ValueError:
                pass
        return [self._item.convert(value, param, ctx)]

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """As the item's."""
        return self._item.get_metavar(param, ctx)


class _FileType(click.ParamType[Any]):
    """A file that is here, or the URL of one; without `must_exist` any path."""

    name = "file"

    def __init__(self, *, must_exist: bool) -> None:
        self._must_exist = must_exist
        self.name = "file" if must_exist else "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A `Path`, or the URL as it is."""
        if value.startswith(_URLS):
            return value
        if self._must_exist and not Path(value).is_file():
            self.fail(f"there is no file {value!r} here", param, ctx)
        return Path(value)


class _JsonOrText(click.ParamType[Any]):
    """JSON, or the text itself where it is none."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What it says."""
        try:
            return json.loads(value)
        except ValueError:
            return value


def _says(parameter: Parameter) -> str | None:
    schema = parameter.schema
    parts = [str(schema["description"]).partition("\n")[0]] if schema.get("description") else []
    if unit := schema.get("x-unit"):
        parts.append(f"(in {unit})")
    if schema.get("default") is not None:
        parts.append(f"[default: {_shown(schema)}]")
    return " ".join(parts) or None


def _shown(schema: Schema) -> str:
    default = schema["default"]
    if isinstance(schema.get("enum"), list):
        return next((word for word, value in _words(schema).items() if value == default), _word(default))
    return _word(default)


def _word(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _flag(name: str) -> str:
    return "--" + name.strip("_").replace("_", "-")


def _present(schema: Json, whole: Schema) -> Schema:
    """`X` of "X or null", with what is said of the whole; anything where there are several."""
    found = resolve(schema, whole)
    branches = found.get("anyOf")
    if dataurl.KIND in found or not isinstance(branches, list):
        return found
    present = [one for one in branches if one != {"type": "null"}]
    rest = {key: value for key, value in found.items() if key != "anyOf"}
    return {**_present(present[0], whole), **rest} if len(present) == 1 else rest


# -- what was read


def _joined(parameter: Parameter, value: Any) -> Any:
    """Every item of an option that was given several times."""
    return value if parameter.item is None else [one for part in value for one in part]


def _refuse_misfits(parameters: Sequence[Parameter], said: Mapping[str, Any]) -> None:
    """Tell what click did not: texts that are no dates, objects with a field too many."""
    whole = parameters[0].whole if parameters else {}
    faults = check(whole, {name: _text(value) for name, value in said.items()}, tries_all_patterns=True)
    kinds = {one.name: one for one in parameters}
    told = []
    for fault in faults:
        name, _, inner = fault.pointer[1:].partition("/")
        if name in kinds and not _may_be_file(kinds[name]):
            told.append(f"{_flag(name)}: {f'{inner}: ' if inner else ''}{fault.detail}")
    if told:
        raise click.UsageError("; ".join(told))


def _may_be_file(parameter: Parameter) -> bool:
    return dataurl.KIND in parameter.schema or dataurl.KIND in (parameter.item or {})


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _sent(value: Any) -> Json:
    if isinstance(value, list):
        return [_sent(one) for one in value]
    if isinstance(value, Path) and value.is_file():
        said: Json = File(value).__relight_to_json__()
        return said
    plain: Json = _text(value)
    return plain


def _takes_files(annotation: object) -> bool:
    return File in _inside(annotation)


def _inside(annotation: object) -> set[object]:
    found: set[object] = {annotation} if isinstance(annotation, type) else set()
    for one in getattr(annotation, "__args__", ()):
        found |= _inside(one)
    return found


class _LocalFiles:
    """Paths of this machine."""

    def __init__(self, *, is_local: bool) -> None:
        self._is_local = is_local

    def path(self, url: str, name: str) -> object:
        """The path itself here; elsewhere it arrives as that of a copy, if it is a file."""
        path = Path(url)
        return path if self._is_local or not path.is_file() else SentPath(File(path, name=name))
