"""A user's file as a module, and the apps in it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from relight.protocol.codec import to_plain
from relight.protocol.errors import InvalidRequest, NotFound
from relight.protocol.inside import LoadingStopped, inside
from relight.protocol.manifest import Json
from relight.sdk.app import App
from relight.sdk.bundle import source_of


def load(path: Path, *, stops_at_run: bool = False) -> ModuleType:
    """The file as a module, under the name that workers will import it by.

    `stops_at_run`: where it reaches `app.run()` at its top it is left as it is by then, as in a worker.
    """
    name = _module_name(path)
    folder = str(source_of(name, str(path)).folder)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InvalidRequest(f"cannot load {path}: it is not a Python file; name a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    inside.is_loading = stops_at_run
    try:
        spec.loader.exec_module(module)
    except LoadingStopped:
        return module
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        inside.is_loading = False
    return module


def apps_of(module: ModuleType) -> list[App]:
    """The apps of a module, each once."""
    found = {id(value): value for value in vars(module).values() if isinstance(value, App)}
    if not found:
        raise NotFound(
            f"cannot find an app in {module.__file__}: there is none; write `app = relight.App()` at its top"
        )
    return list(found.values())


def declared(file: str) -> list[dict[str, Json]]:
    """What the apps in `file`, below the working folder, are: names, functions, and from which folder they are imported.

    For a worker in which a source is looked into that is to be deployed from elsewhere: nothing of it runs outside.
    """
    path = Path(file).resolve()
    if not path.is_relative_to(Path.cwd()) or not path.is_file():
        raise NotFound(f"cannot find {file!r}: there is no such file in the source; name one relative to its top")
    folder = source_of(_module_name(path), str(path)).folder
    return [
        {
            "app": app.name,
            "folder": str(folder.relative_to(Path.cwd())),
            "functions": [to_plain(function) for function in app.specs()],
        }
        for app in apps_of(load(path, stops_at_run=True))
    ]


def _module_name(path: Path) -> str:
    """As the SDK names the module of a script: from the folder in which its outermost package lies."""
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file() and folder.parent != folder:
        parts.insert(0, folder.name)
        folder = folder.parent
    if "." in path.stem:
        raise InvalidRequest(f"cannot load {path}: no module can be imported by that name; rename the file")
    return ".".join(parts)
