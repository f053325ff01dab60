"""Arguments in JSON, looked at before anything is kept: no call of what cannot be called waits for a worker to say so.

It looks only: a value becomes a date, a dataclass or a file in the worker, where the user's code is.
"""

from __future__ import annotations

from collections.abc import Iterator

from relight.protocol import dataurl
from relight.protocol.errors import InputFault
from relight.protocol.manifest import FunctionSpec, Json, MethodSpec
from relight.protocol.schema import check, refuse, resolve


def check_arguments(app: str, function: FunctionSpec, method: MethodSpec, said: Json) -> None:
    """Raise InvalidInput when an object (arguments by name) or an array (by position) is not what the method takes.

    What was deployed without a schema takes anything.
    """
    schema = method.input_schema
    if not isinstance(schema, dict):
        return
    if isinstance(said, list):
        faults = list(_of_array(function, method, schema, said))
    else:
        faults = list(_of_object(function, schema, said or {}))
    if faults:
        name = f"{app}/{function.name}" + (f".{method.name}" if method.name else "")
        raise refuse(faults, name, f"`relight schema {name}` shows what it takes")


def _of_object(function: FunctionSpec, schema: dict[str, Json], said: Json) -> Iterator[InputFault]:
    yield from check(schema, said)
    if function.network == "none":
        yield from _unreachable(schema, said)


def _of_array(
    function: FunctionSpec, method: MethodSpec, schema: dict[str, Json], said: list[Json]
) -> Iterator[InputFault]:
    """The same of arguments by position: their names are looked up, and what is found is told by position."""
    takes_more = any(one.name.startswith("*") and not one.name.startswith("**") for one in method.parameters)
    names = [one.name for one in method.parameters if not one.is_keyword_only and not one.name.startswith("*")]
    if len(said) > len(names) and not takes_more:
        yield InputFault(pointer="", detail=f"it has {len(said)} arguments, and takes {len(names)} by position")
        return
    places = {name: str(number) for number, name in enumerate(names)}
    for fault in _of_object(function, schema, dict(zip(names, said, strict=False))):
        _, slash, rest = fault.pointer.partition("/")
        name, deeper, inner = rest.partition("/")
        yield InputFault(
            pointer=f"{slash}{places.get(name, name)}{deeper}{inner}",
            detail=f"{name}: {fault.detail}" if name else fault.detail,
        )


def _unreachable(schema: dict[str, Json], said: Json) -> Iterator[InputFault]:
    """The files that a function without a network would have to fetch."""
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not isinstance(said, dict):
        return
    for name, value in said.items():
        url = value.get("url") if isinstance(value, dict) else value
        if isinstance(url, str) and url.startswith("https://") and _is_file(properties.get(name), schema):
            yield InputFault(
                pointer=f"/{name}",
                detail=f"{url[:60]!r} cannot be fetched: the function has network='none'; send a data: URL",
            )


def _is_file(said: Json, whole: Json) -> bool:
    found = resolve(said, whole)
    branches = found.get("anyOf")
    if found.get(dataurl.KIND) == dataurl.FILE:
        return True
    return isinstance(branches, list) and any(resolve(one, whole).get(dataurl.KIND) == dataurl.FILE for one in branches)
