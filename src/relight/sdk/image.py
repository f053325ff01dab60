"""What a function's world is made of.  Today: the Python environment that deploys it, as it is."""

from __future__ import annotations

import json
import os
import platform
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from relight.protocol.manifest import HostImage

_OURS = Path(__file__).resolve().parents[2]


class Image:
    """Descriptions of images, for `image=`."""

    @staticmethod
    def host() -> HostImage:
        """This interpreter and what is installed in it, mounted read-only in every sandbox; the default."""
        return HostImage(
            python=sys.executable,
            prefix=sys.prefix,
            base_prefix=sys.base_prefix,
            version=platform.python_version(),
            paths=_named_elsewhere(_site_folders()),
        )


def _site_folders() -> list[Path]:
    """The folders of installed packages that this interpreter uses."""
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
