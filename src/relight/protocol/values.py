"""A user's values to bytes and back: the one module that pickles, and only the two ends of a call open it.

A value is pickled by reference where both ends can import what it names; what cannot be imported (lambdas, local
functions and classes) goes by value through cloudpickle, and then only to the same minor version of Python.

One file has two names: `python x.py` calls it `__main__`, its workers `x`.  Each end says by `aliases` which module
stands for which (the caller `{"x": "__main__"}`, a worker `{"__main__": "x"}`), so that a class is the same at home.
"""

from __future__ import annotations

import io
import json
import math
import mmap
import pickle
import reprlib
import sys
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any

from relight.protocol.errors import InvalidRequest, ValueNotPortable
from relight.protocol.payload import JSON, PICKLE, PREVIEW_BYTES, RAW, Payload

Bytes = bytes | mmap.mmap
"""Where a value lies: in a message, or in a file that is mapped."""

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The minor version that runs here."""

_NO_ALIASES: Mapping[str, str] = {}
_GLIMPSE_NODES = 400
_encode = json.JSONEncoder(ensure_ascii=False).encode
_encode_strictly = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_MAIN = b"\x8c\x08__main__"  # how a pickle names the module


def dump_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Payload:
    """The arguments of a call.  Raises ValueNotPortable naming the argument that cannot be pickled."""
    try:
        data, python = _pickle((args, dict(kwargs)))
    except ValueNotPortable as error:
        raise ValueNotPortable(
            f"cannot send {_culprit(args, kwargs)}: {error}; pass plain data, or make it inside the function"
        ) from error.__cause__
    return Payload(format=PICKLE, data=data, size=len(data), python=python)


def load_input(
    payload: Payload, data: Bytes | None = None, aliases: Mapping[str, str] = _NO_ALIASES
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call; `data` is where they lie when not in the payload itself.

    Raises ValueNotPortable when they cannot be rebuilt here, InvalidRequest when they are not arguments.
    """
    value = _load(payload, data, aliases, "the arguments")
    if payload.format == JSON:
        return _json_arguments(value)
    if not (
        isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], tuple) and isinstance(value[1], dict)
    ):
        raise InvalidRequest(
            "cannot read the arguments: they are not a tuple of arguments and a dict of keywords; send them so"
        )
    return value


def dump_result(value: object, accept: Sequence[str]) -> Payload:
    """What a function returned, in the first form of `accept` that can carry it, else pickled.

    Raises ValueNotPortable when not even that can.
    """
    for form in accept:
        if form == JSON and (text := _json_bytes(value)) is not None:
            return Payload(format=JSON, data=text, size=len(text), preview=_cut(text))
        if form == RAW and isinstance(value, bytes):
            return Payload(format=RAW, data=value, size=len(value), preview=preview(value))
        if form == PICKLE:
            break
    try:
        data, python = _pickle(value)
    except ValueNotPortable as error:
        raise ValueNotPortable(
            f"cannot return a {type(value).__qualname__}: {error}; return plain data instead"
        ) from error.__cause__
    return Payload(format=PICKLE, data=data, size=len(data), python=python, preview=preview(value))


def load_result(payload: Payload, data: Bytes | None = None, aliases: Mapping[str, str] = _NO_ALIASES) -> Any:
    """What a function returned.  Raises ValueNotPortable when it cannot be rebuilt here."""
    return _load(payload, data, aliases, "the result")


def dump_exception(error: Exception, limit: int) -> Payload | None:
    """An exception itself, None when it cannot be pickled or takes more than `limit` bytes."""
    try:
        data, python = _pickle(error)
    except ValueNotPortable:
        return None
    return Payload(format=PICKLE, data=data, size=len(data), python=python) if len(data) <= limit else None


def load_exception(payload: Payload, aliases: Mapping[str, str] = _NO_ALIASES) -> Exception:
    """An exception.  Raises ValueNotPortable when it cannot be rebuilt here."""
    error = _load(payload, None, aliases, "an exception")
    if not isinstance(error, Exception):
        raise ValueNotPortable(f"cannot rebuild an exception: it became a {type(error).__qualname__}")
    return error


def dump_function(thing: object) -> bytes:
    """A function or a class by value, for workers that cannot import it; what it uses goes by name where a name leads to it.

    Raises ValueNotPortable when something it uses cannot be pickled.
    """
    return _pickle_by_value(thing)


def load_function(data: bytes, aliases: Mapping[str, str] = _NO_ALIASES) -> Any:
    """What `dump_function` dumped.  Raises what an import of what it uses raises."""
    return _Unpickler(io.BytesIO(data), aliases).load()


def preview(value: object) -> str:
    """A glimpse of a value: its JSON when it is small and JSON can say it, else its repr, shortened."""
    if is_json(value, _GLIMPSE_NODES):
        return _cut(_encode(value).encode(errors="backslashreplace"))
    try:
        return _cut(_short_repr().repr(value).encode(errors="backslashreplace"))
    except Exception as error:  # noqa: BLE001 - a user's __repr__ may raise anything, and a glimpse is no reason to fail
        return f"<{type(value).__qualname__}, whose repr raised {type(error).__qualname__}>"


def is_json(value: object, most: int = sys.maxsize) -> bool:
    """Whether JSON can say `value` exactly (a tuple counts as a list), looking at no more than `most` parts of it."""
    waiting = [value]
    seen = 0
    while waiting:
        part = waiting.pop()
        seen += 1
        if seen + len(waiting) > most:
            return False
        if part is None or type(part) in (bool, int, str):
            continue
        if type(part) is float:
            if not math.isfinite(part):
                return False
        elif type(part) in (list, tuple):
            waiting.extend(_items(part, most))
        elif type(part) is dict:
            if not all(type(key) is str for key in part):
                return False
            waiting.extend(_items(part.values(), most))
        else:
            return False
    return True


# -- how


class _Unpickler(pickle.Unpickler):
    """Finds a module under the name it has here."""

    def __init__(self, file: Any, aliases: Mapping[str, str]) -> None:
        super().__init__(file)
        self._aliases = aliases

    def find_class(self, module: str, name: str, /) -> Any:
        here = self._aliases.get(module, module)
        try:
            return super().find_class(here, name)
        except AttributeError:
            if here == "__main__":
                return super().find_class(module, name)
            raise


def _pickle(value: object) -> tuple[bytes, str]:
    """The bytes, and the minor version that must open them ("" for any)."""
    try:
        data = pickle.dumps(value, protocol=5)
    except Exception:  # noqa: BLE001 - a user's __reduce__ may raise anything; cloudpickle may still do better
        data = b""
    if not data or (_MAIN in data and not main_is_importable()):
        return _pickle_by_value(value), PYTHON
    return data, ""


def main_is_importable() -> bool:
    """Whether `__main__` is a file that others can import: not a notebook, the REPL or `python -c`."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    return getattr(main, "__spec__", None) is not None or (isinstance(file, str) and file.endswith(".py"))


def _pickle_by_value(value: object) -> bytes:
    from relight.protocol._vendor import cloudpickle  # 10 ms, and seldom needed

    class Pickler(cloudpickle.Pickler):
        """By value what nobody could import; but what `__main__` has by name, by that name: workers import the file."""

        def reducer_override(self, obj: object) -> Any:
            if isinstance(obj, (type, FunctionType)) and _is_in_main(obj):
                return NotImplemented
            return super().reducer_override(obj)

    out = io.BytesIO()
    try:
        Pickler(out, protocol=5).dump(value)
    except Exception as error:
        raise ValueNotPortable(f"{type(error).__qualname__}: {error}") from error
    return out.getvalue()


def _is_in_main(thing: type | FunctionType) -> bool:
    found: object = sys.modules.get("__main__")
    if thing.__module__ != "__main__" or not main_is_importable():
        return False
    for name in thing.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is thing


def _load(payload: Payload, data: Bytes | None, aliases: Mapping[str, str], what: str) -> Any:
    source = payload.data if data is None else data
    if source is None:
        raise ValueNotPortable(f"cannot read {what}: its {payload.size} bytes were not fetched; ask again")
    if payload.python and payload.python != PYTHON:
        raise ValueNotPortable(
            f"cannot read {what}: it holds functions or classes by value, made by Python {payload.python}, and this is "
            f"{PYTHON}; put them into a module that both import, or use the same version"
        )
    if payload.format == RAW:
        return bytes(source)
    if payload.format not in (JSON, PICKLE):
        raise ValueNotPortable(
            f"cannot read {what}: its form {payload.format[:40]!r} is not known here; use the same version of relight"
        )
    try:
        if payload.format == JSON:
            return json.loads(bytes(source))
        return _Unpickler(io.BytesIO(source) if isinstance(source, bytes) else source, aliases).load()
    except Exception as error:
        raise ValueNotPortable(
            f"cannot read {what}: {type(error).__qualname__}: {error}; "
            "what it names must be importable on both sides, above `with app.run()` and outside any __main__ guard"
        ) from error


def _json_arguments(value: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not isinstance(value, dict) or not value.keys() <= {"args", "kwargs"}:
        raise InvalidRequest('cannot read the arguments: they are not {"args": [...], "kwargs": {...}}; send them so')
    args, kwargs = value.get("args", []), value.get("kwargs", {})
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise InvalidRequest("cannot read the arguments: args is not an array, or kwargs is not an object; send such")
    return tuple(args), kwargs


def _culprit(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Which argument it is that cannot be pickled."""
    named = [(f"argument {number}", value) for number, value in enumerate(args, 1)]
    named += [(f"argument {name!r}", value) for name, value in kwargs.items()]
    for name, value in named:
        if not _can_pickle(value):
            return f"{name} (a {type(value).__qualname__})"
    return "the arguments"


def _can_pickle(value: object) -> bool:
    try:
        _pickle(value)
    except ValueNotPortable:
        return False
    return True


def _json_bytes(value: object) -> bytes | None:
    """Its JSON, None when that would not say exactly what it is."""
    try:
        text = _encode_strictly(value)  # before the look: it finds circles
        return text.encode() if is_json(value) else None
    except (TypeError, ValueError, RecursionError):
        return None


def _items(part: Any, most: int) -> Any:
    return part if len(part) <= most else (object(),)  # one stranger ends the look


def _short_repr() -> reprlib.Repr:
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 1000
    short.maxlist = short.maxtuple = short.maxdict = short.maxset = short.maxfrozenset = short.maxdeque = 20
    return short


def _cut(data: bytes) -> str:
    """The text within `PREVIEW_BYTES`, without half characters."""
    if len(data) <= PREVIEW_BYTES:
        return data.decode()
    return data[: PREVIEW_BYTES - 3].decode(errors="ignore") + "…"
