"""`relight.File`: bytes with a name, on their way to a function or back.

It goes by value: pickled it holds its bytes, in JSON it is a `data:` URL.  Where code wants a path, it is a real file:
the one it was made of, or a copy that lasts as long as the call (outside a worker, as long as the object).
"""

from __future__ import annotations

import io
import mimetypes
import os
import shutil
import tempfile
import weakref
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from relight.protocol import dataurl
from relight.protocol.errors import InvalidRequest, NotFound
from relight.protocol.inside import inside
from relight.protocol.manifest import Json

FETCH_SECONDS = 60.0
"""So long may a server be silent while a file is fetched."""

MOST_BYTES = 2 * 1024**3
"""No larger file is fetched."""


class File:
    """The file at `path`, which is read when it is needed; `name` and `media_type` are what it says they are."""

    __slots__ = ("__weakref__", "_data", "_path", "media_type", "name")

    def __init__(self, path: str | os.PathLike[str], *, name: str = "", media_type: str = "") -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise InvalidRequest(
                f"cannot make a file of a {type(path).__name__}: it is not a path; give it one, or use "
                "File.from_bytes(data)"
            )
        self._path: Path | None = Path(path)
        self._data: bytes | None = None
        if self._path.is_dir():
            raise InvalidRequest(f"cannot make a file of {str(path)!r}: it is a folder; name one file in it")
        if not self._path.is_file():
            raise NotFound(f"cannot find the file {str(path)!r}: there is none from here; check the path")
        self.name = name or self._path.name
        self.media_type = media_type or _type_of(self.name)

    @classmethod
    def from_bytes(cls, data: bytes, *, name: str = "", media_type: str = "") -> File:
        """A file that is these bytes."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise InvalidRequest(
                f"cannot make a file of a {type(data).__name__}: it is not bytes; give it bytes, or use File(path)"
            )
        made = cls.__new__(cls)
        made._path, made._data = None, bytes(data)
        made.name = name or "file" + (mimetypes.guess_extension(media_type) or "" if media_type else "")
        made.media_type = media_type or _type_of(made.name)
        return made

    @classmethod
    def from_url(cls, url: str, *, name: str = "") -> File:
        """The file at a `data:` or an `https:` URL, fetched now.  Raises InvalidRequest when it cannot be had."""
        try:
            return _at(url, name)
        except ValueError as error:
            raise InvalidRequest(
                f"cannot make a file of what is at a URL: {error}; use File(path) for a file that is here"
            ) from error

    @property
    def path(self) -> Path:
        """A real file that holds it."""
        if self._path is None or not self._path.exists():
            folder = Path(tempfile.mkdtemp(prefix="relight-", dir=_folder_of_call()))
            if not inside.is_worker:
                weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            path = folder / (PurePosixPath(self.name).name or "file")
            path.write_bytes(self.read())
            self._data, self._path = self.read(), path
        return self._path

    @property
    def size(self) -> int:
        """How many bytes it has."""
        if self._data is not None:
            return len(self._data)
        return self.path.stat().st_size

    def read(self) -> bytes:
        """All of its bytes."""
        if self._data is not None:
            return self._data
        assert self._path is not None, "a file has bytes or a path"
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            raise NotFound(
                f"cannot read the file {str(self._path)!r}: it was there when the File was made, and has gone since; "
                "keep it until it is sent"
            ) from None

    def open(self) -> BinaryIO:
        """A stream of its bytes, to be closed by whoever opened it."""
        return io.BytesIO(self._data) if self._data is not None else self.path.open("rb")

    def __reduce__(self) -> tuple[object, ...]:
        """By value."""
        return _rebuild, (self.read(), self.name, self.media_type)

    @classmethod
    def __relight_from_json__(cls, said: object) -> File:
        """What JSON says of a file."""
        url, name = dataurl.url_of(said)
        return _at(url, name)

    def __relight_to_json__(self) -> Json:
        """What JSON says of it."""
        url = dataurl.make(dataurl.Data(data=self.read(), media_type=self.media_type))
        return {"url": url, "name": self.name}

    @classmethod
    def __relight_schema__(cls) -> Json:
        """What JSON says of files."""
        return dataurl.file_schema()

    def __repr__(self) -> str:
        return f"<relight file {self.name}: {self.size} bytes, {self.media_type or 'of no known type'}>"


class SentPath:
    """A local file on its way to a parameter that wants a path: where it arrives, it is the path of a copy."""

    def __init__(self, file: File) -> None:
        self._file = file

    def __reduce__(self) -> tuple[object, ...]:
        """Arrives as a path."""
        return _arrived, (self._file,)


def _arrived(file: File) -> Path:
    return file.path


def _rebuild(data: bytes, name: str, media_type: str) -> File:
    return File.from_bytes(data, name=name, media_type=media_type)


def _folder_of_call() -> str | None:
    """Where files of the running call lie, which end with it; None outside a worker."""
    if not inside.is_worker:
        return None
    if not inside.folder:
        inside.folder = tempfile.mkdtemp(prefix="call-")
    return inside.folder


def _at(url: str, name: str) -> File:
    """The file at a URL.  Raises ValueError when it cannot be had."""
    if url.startswith("data:"):
        said = dataurl.parse(url)
        return File.from_bytes(said.data, name=name or said.name, media_type=said.media_type)
    if not url.startswith("https://"):
        raise ValueError(f"{url[:60]!r} is neither a data: nor an https: URL")
    return _fetched(url, name)


def _fetched(url: str, name: str) -> File:
    import urllib.request  # 30 ms that few files need

    request = urllib.request.Request(url, headers={"User-Agent": "relight"})
    try:
        with urllib.request.urlopen(request, timeout=FETCH_SECONDS) as answer:
            data = answer.read(MOST_BYTES + 1)
            media_type = answer.headers.get_content_type()
    except OSError as error:  # of which those of urllib are some
        why = getattr(error, "reason", error)
        raise ValueError(
            f"{url[:200]} cannot be fetched: {why}; a function with network='none' reaches nothing: send a data: URL"
        ) from error
    if len(data) > MOST_BYTES:
        raise ValueError(f"{url[:200]} has more than {MOST_BYTES} bytes")
    last = PurePosixPath(url.partition("?")[0]).name
    return File.from_bytes(data, name=name or last, media_type=media_type)


def _type_of(name: str) -> str:
    return mimetypes.guess_type(name)[0] or ""
