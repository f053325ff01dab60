"""The user's own code as one archive: the folder of the app's file, as far as workers need it.

The same files make the same bytes, so nothing is sent twice.  In a folder that is nobody's project (a home, `/tmp`) or
that is too large to walk, only the modules are taken that were imported from it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from relight.protocol.archive import archive
from relight.protocol.errors import InvalidRequest, TooLarge

MAX_FILES = 2_000
MAX_BYTES = 32 * 1024 * 1024
_MAX_ENTRIES = 20_000
BY_VALUE = ".relight"
"""The folder of a bundle that holds what goes by value."""

_NOTEBOOK_NAMES = ("__session__", "__vsc_ipynb_file__")  # where Jupyter, and where VS Code say which notebook it is
_MARKS = ("pyvenv.cfg", "relight.db")
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where an app is written: its file, the name workers import it by, and the folder that name starts from.

    In a notebook, the REPL and the like there is no file and no name; the folder is where Python was started.
    """

    file: Path | None
    module: str
    folder: Path


def source_of(name: str, file: str | None) -> Source:
    """Where the module `name` (its `__name__`) in `file` is.  Raises InvalidRequest when no import could find it there."""
    if not file or not file.endswith(".py") or not os.path.isfile(file):
        return Source(file=None, module="", folder=Path.cwd())
    path = Path(file).resolve()
    if name == "__main__":
        return _source_of_main(path)
    root = _root_by_name(path, name)
    return Source(file=path, module=name, folder=root)


def module_name(name: str, file: str | None) -> str:
    """The name under which workers import the module `name`; "" when they cannot."""
    if name == "__main__":
        return source_of(name, file).module
    return name if file else ""


def title_of(source: Source, where: Mapping[str, object]) -> str:
    """What to call an app that was given no name; `where` are the globals of where it is made."""
    if source.file is not None:
        return source.file.stem
    notebook = next((Path(str(where[name])).stem for name in _NOTEBOOK_NAMES if where.get(name)), "")
    return notebook or ("notebook" if "get_ipython" in where else "main")


def main_aliases() -> dict[str, str]:
    """Under which name workers know this process's `__main__`."""
    main: ModuleType | None = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py") or not os.path.isfile(file):
        return {}
    return {_source_of_main(Path(file).resolve()).module: "__main__"}


def collect(source: Source, include: tuple[str, ...]) -> dict[str, Path]:
    """The files to send, by their names below the folder.  Raises TooLarge naming the largest."""
    found = _walk(source.folder) if not is_nobodys(source.folder) else None
    if source.file is None and found is not None and _excess(found):
        found = None  # where somebody only looked around from: nothing says that all of it is theirs
    if found is None:
        found = [*([source.file] if source.file else []), *_imported(source.folder)]
    for pattern in include:
        matches = [path for path in source.folder.glob(pattern) if path.is_file()]
        if not matches:
            raise InvalidRequest(
                f"cannot include {pattern!r}: nothing below {source.folder} matches it; correct App(include=)"
            )
        found += matches
    files = {str(path.relative_to(source.folder)): path for path in found}
    _check_size(source.folder, files)
    return dict(sorted(files.items()))


def pack(files: Mapping[str, Path | bytes]) -> bytes:
    """The archive of files, and of bytes that stand for one: the same for the same names, contents and executable bits."""
    return archive((name, *_read(source)) for name, source in files.items())


def _read(source: Path | bytes) -> tuple[bytes, bool]:
    if isinstance(source, bytes):
        return source, False
    return source.read_bytes(), os.access(source, os.X_OK)


def check_by_value(name: str, data: bytes) -> None:
    """Raises TooLarge when a function takes along more than the code of an app may be."""
    if len(data) > MAX_BYTES:
        raise TooLarge(
            f"cannot send {name}: with all that it uses it takes {len(data):,} bytes, and {MAX_BYTES:,} are allowed; "
            "pass large values as arguments, or load them inside the function"
        )


# -- where


def _source_of_main(path: Path) -> Source:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None and spec.name:  # python -m package.module
        return Source(file=path, module=spec.name, folder=_root_by_name(path, spec.name))
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file() and root.parent != root:
        parts.insert(0, root.name)
        root = root.parent
    if "." in path.stem:
        raise InvalidRequest(f"cannot make an app in {path}: no module can be imported by that name; rename the file")
    return Source(file=path, module=".".join(parts), folder=root)


def _root_by_name(path: Path, name: str) -> Path:
    """The folder in which the import of `name` starts."""
    parts = name.split(".")
    depth = len(parts) if path.name == "__init__.py" else len(parts) - 1
    root = path.parent
    for part in reversed(parts[:depth]):
        if root.name != part:
            break
        root = root.parent
    return root


# -- what


def is_nobodys(folder: Path) -> bool:
    """Whether a folder is no project: what lies in it has nothing to do with what else does."""
    return folder in (Path("/"), Path("/tmp"), Path("/var/tmp"), Path.home().resolve(), Path("/home"))


def _walk(root: Path) -> list[Path] | None:
    """Every `.py` below, None when there is too much to look at."""
    found: list[Path] = []
    seen = 0
    for folder, folders, names in os.walk(root):
        seen += len(folders) + len(names)
        if seen > _MAX_ENTRIES:
            return None
        folders[:] = sorted(name for name in folders if not _is_skipped(Path(folder, name)))
        found += [path for name in names if name.endswith(".py") and (path := Path(folder, name)).is_file()]
    return found


def _is_skipped(folder: Path) -> bool:
    """Nobody's source: hidden, made, installed, or where a server keeps its things."""
    is_ours = any((folder / name).is_file() for name in _MARKS)
    return is_ours or folder.name.startswith(".") or folder.name in _SKIPPED


def _imported(root: Path) -> Iterator[Path]:
    """The files of the modules that this process imported from below `root`."""
    installed = [Path(prefix) for prefix in (sys.prefix, sys.base_prefix)]
    for module in tuple(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.endswith(".py"):
            continue
        path = Path(file).resolve()
        if not path.is_relative_to(root) or any(path.is_relative_to(prefix) for prefix in installed):
            continue
        if path.is_file() and not any(_is_skipped(folder) for folder in _between(root, path)):
            yield path


def _between(root: Path, path: Path) -> Iterable[Path]:
    return (folder for folder in path.parents if folder != root and folder.is_relative_to(root))


def _excess(files: Collection[Path]) -> bool:
    return len(files) > MAX_FILES or sum(path.stat().st_size for path in files) > MAX_BYTES


def _check_size(root: Path, files: dict[str, Path]) -> None:
    if not _excess(files.values()):
        return
    sizes = {name: path.stat().st_size for name, path in files.items()}
    total = sum(sizes.values())
    largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:3]
    named = ", ".join(f"{name} ({sizes[name]:,} bytes)" for name in largest)
    raise TooLarge(
        f"cannot send {root}: it has {len(files):,} files of {total:,} bytes, and {MAX_FILES:,} files of {MAX_BYTES:,} bytes "
        f"are allowed; the largest are {named}; move the app into a folder of its own, or include less"
    )
