"""What a call in JSON needs on both sides: arguments as the function's annotations ask, its result as JSON can say it.

Calls from Python carry Python's own values and pass by here untouched.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relight.protocol.annotations import ANYTHING, hints_of, meaning_of
from relight.protocol.conversion import Converter, Converters
from relight.protocol.inside import inside
from relight.protocol.plain import to_plain
from relight.protocol.values import is_json

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class _Face:
    """What is known of one function; made at its first call in JSON."""

    positional: tuple[str, ...]
    rest: str
    more: str
    converters: Mapping[str, Converter]
    says_result: bool


class Inputs:
    """The converters of one worker's functions."""

    def __init__(self) -> None:
        self._converters = Converters(CallFiles())
        self._faces: dict[tuple[str, str], _Face] = {}

    def prepare(self, function: Callable[..., Any]) -> None:
        """Know it before it is called."""
        self._face(function)

    def arguments(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments in JSON as what the function asks for.  Raises InvalidInput naming what does not fit."""
        face = self._face(function)
        names = [*face.positional, *[face.rest] * (len(args) - len(face.positional))]
        place = range(len(args))
        placed = [self._one(face, name, one, f"/{name or n}") for n, name, one in zip(place, names, args, strict=False)]
        named = {name: self._one(face, name, one, f"/{name}") for name, one in kwargs.items()}
        return tuple(placed), named

    def result(self, function: Callable[..., Any], value: Any) -> Any:
        """What JSON can say of a result whose annotation says what it is; the result itself where it can say nothing."""
        if is_json(value) or not self._face(function).says_result:
            return value
        with suppress(TypeError, RecursionError):
            return to_plain(value)
        return value

    @staticmethod
    def forget_files() -> None:
        """Remove the files of the call that has ended."""
        import shutil

        shutil.rmtree(inside.folder, ignore_errors=True)
        inside.folder = ""

    def _one(self, face: _Face, name: str, value: Any, at: str) -> Any:
        key = name if name in face.converters else face.more
        convert = face.converters.get(key)
        return value if convert is None else convert(value, at)

    def _face(self, function: Callable[..., Any]) -> _Face:
        name = (getattr(function, "__module__", ""), getattr(function, "__qualname__", ""))
        face = self._faces.get(name)
        if face is None:
            face = self._faces[name] = self._look(function)
        return face

    def _look(self, function: Callable[..., Any]) -> _Face:
        hints = hints_of(function)
        parameters = inspect.signature(function).parameters.values()
        made = {name: self._converters.of(annotation) for name, annotation in hints.items() if name != "return"}
        return _Face(
            positional=tuple(
                one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
            ),
            rest=next((one.name for one in parameters if one.kind is one.VAR_POSITIONAL), ""),
            more=next((one.name for one in parameters if one.kind is one.VAR_KEYWORD), ""),
            converters={name: convert for name, convert in made.items() if convert is not None},
            says_result=meaning_of(hints.get("return", ANYTHING)).kind not in (ANYTHING, object),
        )


class CallFiles:
    """Files of the running call; they go with it."""

    def path(self, url: str, name: str) -> Path:
        """A file that holds what a `data:` URL says; any other text as the path that it is.  Raises ValueError."""
        from pathlib import Path, PurePosixPath

        if not url.startswith("data:"):
            return Path(url)
        import tempfile  # few calls bring files, and these two bring many modules

        from relight.protocol import dataurl

        said = dataurl.parse(url)
        if not inside.folder:
            inside.folder = tempfile.mkdtemp(prefix="call-")
        folder = Path(tempfile.mkdtemp(prefix="relight-", dir=inside.folder))
        path = folder / (PurePosixPath(name or said.name).name or "file")
        path.write_bytes(said.data)
        return path
