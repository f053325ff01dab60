"""What a function's world is made of.  Today: the Python environment that deploys it, as it is.

`with image.imports():` marks what only workers need to have: an import that fails in it is no error here.
"""

from __future__ import annotations

import json
import os
import site  # here, and not where it is used: a user's file of that name has its place in sys.modules by then
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from relight.protocol.inside import inside
from relight.protocol.manifest import HostImage

_OURS = Path(__file__).resolve().parents[2]


class _Making(type):
    """Ways to make an image."""

    if not TYPE_CHECKING:  # for type checkers a name is there or not

        def __getattr__(cls, name: str) -> object:
            _refuse(name)
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")


class Image(metaclass=_Making):
    """What workers see of the world, for `image=`."""

    def __init__(self, describe: Callable[[], HostImage]) -> None:
        self._describe = describe

    @staticmethod
    def host() -> Image:
        """This interpreter and what is installed in it, mounted read-only in every sandbox; the default."""
        return Image(_describe_host)

    @cached_property
    def spec(self) -> HostImage:
        """It as plain data: what a deploy says of it."""
        return self._describe()

    @contextmanager
    def imports(self) -> Iterator[None]:
        """The imports of this block are for workers: elsewhere one that fails ends the block, and is no error."""
        try:
            yield
        except ImportError:
            if inside.is_worker:
                raise

    if not TYPE_CHECKING:  # as above

        def __getattr__(self, name: str) -> object:
            _refuse(name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<relight image {self._describe.__name__.removeprefix('_describe_')}>"


def _refuse(name: str) -> None:
    from relight.sdk.elsewhere import refuse_image  # who makes none need not pay for it

    refuse_image(name)


def _describe_host() -> HostImage:
    return HostImage(
        python=_interpreter(),
        prefix=sys.prefix,
        base_prefix=sys.base_prefix,
        version=sys.version.split()[0],
        paths=_named_elsewhere(_site_folders()),
    )


def _interpreter() -> str:
    """This Python, by a path that can be mounted: whoever types `../.venv/bin/python` gives it one with `..` in it."""
    path = Path(sys.executable)
    return str(path.parent.resolve() / path.name) if ".." in path.parts else sys.executable


def _site_folders() -> list[Path]:
    """The folders of installed packages that this interpreter uses."""
    import sysconfig  # this and those below: milliseconds that a worker need not pay to import its module

    named = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    return [Path(path) for path in dict.fromkeys(named) if os.path.isdir(path)]


def _named_elsewhere(folders: Iterable[Path]) -> tuple[str, ...]:
    """The folders outside the installation that `.pth` files and editable installs lead to, without relight's own."""
    found: dict[str, None] = {}
    for folder in folders:
        for path in (*_from_pth(folder), *_from_editables(folder)):
            real = path.resolve()
            if real.is_dir() and not _is_within(real, (sys.prefix, sys.base_prefix)) and not _is_within(_OURS, (real,)):
                found[str(real)] = None
    return tuple(found)


def _from_pth(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.glob("*.pth")):
        for line in file.read_text(errors="replace").splitlines():
            text = line.strip()
            if text and not text.startswith(("#", "import ", "import\t")):
                yield folder / text


def _from_editables(folder: Path) -> Iterator[Path]:
    from urllib.parse import unquote, urlsplit

    for file in sorted(folder.glob("*.dist-info/direct_url.json")):
        try:
            said = json.loads(file.read_text())
            is_editable, url = said.get("dir_info", {}).get("editable", False), said.get("url", "")
        except (OSError, ValueError, AttributeError):
            continue  # a broken record of one package is no reason to stop all
        if is_editable and url.startswith("file://"):
            yield Path(unquote(urlsplit(url).path))


def _is_within(path: Path, folders: Iterable[str | Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)
