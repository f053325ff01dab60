"""A user's file, looked at: what is in it, and which part of it `relight run` means.

What it holds is read from its syntax first: a file with `with app.run():` at its top must be run as a script, and to
import it would already run it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from relight.protocol.errors import InvalidRequest, NotFound
from relight.sdk.app import App
from relight.sdk.files import apps_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What a file's syntax says: whether it names local entrypoints, and whether it is written to be run itself."""

    has_entrypoint: bool
    is_script: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What shall run.  `is_local`: here, as an entrypoint does, rather than in a worker."""

    app: App
    name: str
    function: Callable[..., Any]
    call: Callable[..., Any]
    is_local: bool


def split_target(text: str) -> tuple[Path, str]:
    """`FILE::NAME` as the file and the name ("" for none).  Raises NotFound when there is no such file."""
    file, _, name = text.partition("::")
    path = Path(file)
    if not path.is_file():
        raise NotFound(f"cannot find {file!r}: there is no such file here; name a .py file")
    return path.resolve(), name


def outline_of(path: Path) -> Outline:
    """What the file's syntax says.  Raises InvalidRequest where it is not Python."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError) as error:
        raise InvalidRequest(f"cannot read {path}: {error}; correct it") from error
    return Outline(
        has_entrypoint=any(_names(node, "local_entrypoint") for node in _decorators(tree)),
        is_script=any(_is_guard(node) or _opens_run(node) for node in tree.body),
    )


def find(module: ModuleType, name: str) -> Target:
    """What `name` means in a module; without one, its only entrypoint or else its only function.

    Raises NotFound naming what there is.
    """
    targets = {target.name: target for app in apps_of(module) for target in _targets(app)}
    if name:
        if name in targets:
            return targets[name]
        near = get_close_matches(name, targets, 1)
        hint = f"did you mean {near[0]!r}?" if near else "choose one of these"
        raise NotFound(f"cannot find {name!r} in {module.__file__}: it has {_list(targets)}; {hint}")
    for is_local in (True, False):
        among = [target for target in targets.values() if target.is_local == is_local]
        if len(among) == 1:
            return among[0]
        if among:
            names = [target.name for target in among]
            raise InvalidRequest(f"cannot choose in {module.__file__}: it has {_list(names)}; write FILE::{names[0]}")
    raise NotFound(f"cannot run {module.__file__}: it has no function; decorate one with @app.function()")


def _targets(app: App) -> Iterator[Target]:
    for name, entry in app.entrypoints.items():
        yield Target(app=app, name=name, function=entry, call=entry, is_local=True)
    for name, function in app.functions.items():
        yield Target(app=app, name=name, function=function.raw, call=function.remote, is_local=False)
    for name, kind in app.classes.items():
        for spec in app.specs():
            if spec.name == name:
                yield from (_method(app, name, kind, method.name) for method in spec.methods)


def _method(app: App, name: str, kind: type, method: str) -> Target:
    def call(**arguments: Any) -> Any:
        return getattr(kind(), method).remote(**arguments)

    return Target(app=app, name=f"{name}.{method}", function=getattr(kind, method), call=call, is_local=False)


def _decorators(tree: ast.Module) -> Iterator[ast.expr]:
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from node.decorator_list


def _names(node: ast.expr, attribute: str) -> bool:
    node = node.func if isinstance(node, ast.Call) else node
    return isinstance(node, ast.Attribute) and node.attr == attribute


def _is_guard(node: ast.stmt) -> bool:
    if not (isinstance(node, ast.If) and isinstance(node.test, ast.Compare)):
        return False
    sides = [node.test.left, *node.test.comparators]
    return any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)


def _opens_run(node: ast.stmt) -> bool:
    """`with app.run():`, at the top or in an `if`, `try` or loop there."""
    if isinstance(node, ast.With):
        return any(isinstance(one.context_expr, ast.Call) and _names(one.context_expr, "run") for one in node.items)
    if isinstance(node, (ast.If, ast.For, ast.While, ast.Try)):
        return any(_opens_run(one) for one in ast.iter_child_nodes(node) if isinstance(one, ast.stmt))
    return False


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing"
