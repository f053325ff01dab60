#!/usr/bin/env python3
"""Measures the shape of the code against the budgets of STYLE.md.

    python tools/shape.py [--worst 10]

Standard library only; nothing is imported or run.  Every figure comes from the text and the syntax tree of
`src/relight` and `tests`; vendored folders are left out.  Each figure keeps the places that make it, worst first, so
that one past its budget says where to look.  Exit status 1 when one is.

A function's length leaves its docstring out; "code" is every line that is not blank, a comment or a docstring;
"per 1,000" is per thousand lines of code.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
Definition = ast.FunctionDef | ast.AsyncFunctionDef
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)
WITHOUT_CODE = {
    *(tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENDMARKER, tokenize.ENCODING, tokenize.COMMENT),
}
HOLD_USERS_VALUES = (
    "relight/sdk/",
    "relight/runtime/",
    "relight/protocol/values.py",
    "relight/protocol/conversion.py",
    "relight/protocol/plain.py",
    "relight/cli/parameters.py",
)
COPY_LINES = 8  # so many equal lines in a row count as a copy


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The most (or the least) that a figure may be."""

    most: float | None = None
    least: float | None = None

    def holds(self, value: float) -> bool:
        """Whether the value is within it."""
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)

    def __str__(self) -> str:
        return f"at most {self.most:g}" if self.most is not None else f"at least {self.least:g}"


BUDGETS = {
    "lines per file, p95": Budget(most=450),
    "lines per file, max": Budget(most=700),
    "lines per function, p95": Budget(most=35),
    "lines per function, max": Budget(most=80),
    "parameters, p95": Budget(most=5),
    "nesting, p95": Budget(most=3),
    "typed definitions, %": Budget(least=100),
    "module docstrings, %": Budget(least=100),
    "public docstrings, %": Budget(least=70),
    "duplicated lines, %": Budget(most=3),
    "Any beside users' values, per 1,000": Budget(most=3),
    "type ignores per 1,000": Budget(most=3),
    "broad excepts per 1,000": Budget(most=1.5),
    "modules in import rings": Budget(most=0),
    "globals": Budget(most=0),
    "mutable module state": Budget(most=0),
    "orphan tasks": Budget(most=0),
    "sleeps in tests": Budget(most=0),
}


@dataclass(frozen=True)
class Figure:
    """One figure of a tree, and the places that make it, worst first."""

    value: float
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Function:
    """One definition of a function, as far as its shape goes."""

    where: str
    lines: int
    parameters: int
    nesting: int
    is_typed: bool
    is_public: bool
    has_docstring: bool


class Source:
    """One file, read once; `name` is its dotted name, `where` its path as people write it."""

    def __init__(self, path: Path, above: Path) -> None:
        relative = path.relative_to(above)
        self.where = relative.as_posix()
        self.is_package = path.name == "__init__.py"
        parts = relative.with_suffix("").parts
        self.name = ".".join(parts[:-1] if self.is_package else parts)
        self.text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)
        self.nodes = list(ast.walk(self.tree))

    @cached_property
    def code(self) -> list[str]:
        """The lines of code, stripped."""
        numbers: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type not in WITHOUT_CODE:
                numbers.update(range(token.start[0], token.end[0] + 1))
        for node in self.nodes:
            numbers -= lines_of(docstring(node))
        lines = self.text.splitlines()
        return [lines[number - 1].strip() for number in sorted(numbers)]

    @cached_property
    def functions(self) -> list[Function]:
        """Every function, methods and inner ones too; not the second halves of one (overloads, setters)."""
        return [
            describe(node, inside, self.where)
            for node, inside in scopes(self.tree, ())
            if isinstance(node, Definition) and not decorators(node) & {"overload", "setter", "deleter"}
        ]

    @cached_property
    def public_classes(self) -> list[ast.ClassDef]:
        """The classes that another file may name."""
        found = (node for node, inside in scopes(self.tree, ()) if is_public(node, inside))
        return [node for node in found if isinstance(node, ast.ClassDef)]

    def place(self, node: ast.AST) -> str:
        """Where a node is, as an editor wants it."""
        return f"{self.where}:{getattr(node, 'lineno', 1)}"

    def eager_imports(self) -> Iterator[str]:
        """What is imported when this file is: dotted names, of modules or of things in them."""
        pending: list[ast.stmt] = list(self.tree.body)
        while pending:
            node = pending.pop()
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = self.name.split(".")[: -node.level + self.is_package or None] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                yield from (f"{base}.{alias.name}" for alias in node.names)
            elif not isinstance(node, Definition) and not is_for_types(node):
                pending += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


# -- one node


def docstring(node: ast.AST) -> ast.Expr | None:
    """The statement that is a module's, a class's or a function's docstring."""
    if not isinstance(node, ast.Module | ast.ClassDef | Definition) or not node.body:
        return None
    first = node.body[0]
    is_text = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return first if is_text and isinstance(first, ast.Expr) else None


def lines_of(node: ast.stmt | None) -> set[int]:
    """The numbers of the lines that a statement covers."""
    return set(range(node.lineno, (node.end_lineno or node.lineno) + 1)) if node else set()


def scopes(
    node: ast.AST, inside: tuple[ast.AST, ...]
) -> Iterator[tuple[ast.ClassDef | Definition, tuple[ast.AST, ...]]]:
    """Every class and function below a node, with those that it stands in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | Definition):
            yield child, inside
            yield from scopes(child, (*inside, child))
        else:
            yield from scopes(child, inside)


def is_public(node: ast.ClassDef | Definition, inside: tuple[ast.AST, ...]) -> bool:
    """Whether another file may name it: no underscore, not inside a function or a private class."""
    hidden = any(isinstance(scope, Definition) or getattr(scope, "name", "").startswith("_") for scope in inside)
    return not node.name.startswith("_") and not hidden


def decorators(node: Definition) -> set[str]:
    """The last names of a function's decorators."""
    return {ast.unparse(decorator).rsplit(".", 1)[-1] for decorator in node.decorator_list}


def describe(node: Definition, inside: tuple[ast.AST, ...], where: str) -> Function:
    """The shape of one function."""
    in_class = bool(inside) and isinstance(inside[-1], ast.ClassDef)
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    named = [argument for argument in named if not (in_class and argument.arg in ("self", "cls", "mcs"))]
    starred = [argument for argument in (node.args.vararg, node.args.kwarg) if argument]
    return Function(
        where=f"{where}:{node.lineno} {node.name}",
        lines=len(lines_of(node)) - len(lines_of(docstring(node))),
        parameters=len(named),
        nesting=nesting(node.body),
        is_typed=all(argument.annotation for argument in [*named, *starred])
        and (node.returns is not None or node.name == "__init__"),
        is_public=is_public(node, inside),
        has_docstring=docstring(node) is not None,
    )


def nesting(body: list[ast.stmt]) -> int:
    """How deep blocks stand in blocks.  An `elif` is no deeper than its `if`; inner functions are not counted."""
    return max((1 + max(map(nesting, branches(node))) for node in body if isinstance(node, BLOCKS)), default=0)


def branches(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """The lists of statements right below a block, those of its `elif` chain among them."""
    chain = getattr(node, "orelse", [])
    if isinstance(node, ast.If) and len(chain) == 1 and isinstance(chain[0], ast.If):
        yield from branches(chain[0])
    else:
        yield chain
    yield from (getattr(node, name, []) for name in ("body", "finalbody"))
    yield from (part.body for name in ("handlers", "cases") for part in getattr(node, name, []))


def is_for_types(node: ast.AST) -> bool:
    """Whether it is an `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def is_broad(node: ast.AST) -> bool:
    """Whether it catches whatever comes and keeps it; one that cleans up and raises it again does not."""
    if not isinstance(node, ast.ExceptHandler) or ast.unparse(node.body[-1]) == "raise":
        return False
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(kind is None or ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds)


def is_orphan_task(node: ast.AST) -> bool:
    """Whether it starts a task that nobody holds: it may vanish while it runs, and its error is lost."""
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    called = ast.unparse(node.value.func)
    return called in ("asyncio.create_task", "asyncio.ensure_future") or called.endswith("loop.create_task")


def is_app(source: Source) -> bool:
    """Whether it is what runs in workers, where a function that takes its time is the point."""
    return source.name.rpartition(".")[2].startswith("app_")


def is_sleep(node: ast.AST) -> bool:
    """Whether it sleeps."""
    return isinstance(node, ast.Call) and ast.unparse(node.func).rsplit(".", 1)[-1] == "sleep"


def is_any(node: ast.AST) -> bool:
    """Whether it is `Any`."""
    return getattr(node, "id", getattr(node, "attr", None)) == "Any" and isinstance(node, ast.Name | ast.Attribute)


def shared_state(tree: ast.Module) -> Iterator[ast.stmt]:
    """Lists, dictionaries and sets that a module holds under a lower-case name, so that they are meant to change."""
    makers = {"list", "dict", "set", "defaultdict", "deque", "Counter", "OrderedDict"}
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        called = ast.unparse(node.value.func).rsplit(".", 1)[-1] if isinstance(node.value, ast.Call) else ""
        is_mutable = isinstance(node.value, ast.List | ast.Dict | ast.Set) or called in makers
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if is_mutable and any(name.islower() and not name.startswith("__") for name in names):
            yield node


# -- one tree


def read(folder: Path, above: Path) -> list[Source]:
    """The files of a tree, in order; `above` is what their names are relative to."""
    paths = sorted(folder.rglob("*.py"))
    return [
        Source(path, above) for path in paths if not {"_vendor", "__pycache__"} & set(path.relative_to(above).parts)
    ]


def measure(product: list[Source], tests: list[Source]) -> dict[str, Figure]:
    """Every figure of `BUDGETS`, and how much test code there is."""
    code = sum(len(source.code) for source in product) or 1
    test_code = sum(len(source.code) for source in tests)
    return {
        **lengths(product),
        **shares(product),
        "duplicated lines, %": duplicated(product, code),
        "Any beside users' values, per 1,000": per_thousand(anys(product), code),
        "type ignores per 1,000": per_thousand(ignores(product), code),
        "broad excepts per 1,000": per_thousand(places(product, is_broad), code),
        "modules in import rings": counted(sorted(rings(product))),
        "globals": counted(places(product, lambda node: isinstance(node, ast.Global))),
        "mutable module state": counted([s.place(node) for s in product for node in shared_state(s.tree)]),
        "orphan tasks": counted(places(product, is_orphan_task)),
        "sleeps in tests": counted(places([one for one in tests if not is_app(one)], is_sleep)),
        "lines of code": Figure(code),
        "test code, % of code": Figure(round(100 * test_code / code)),
    }


def lengths(product: list[Source]) -> dict[str, Figure]:
    """How long files and functions are, and how wide and deep functions."""
    functions = [function for source in product for function in source.functions]
    files = [(len(source.text.splitlines()), source.where) for source in product if source.code]
    lines = [(function.lines, function.where) for function in functions]
    return {
        "lines per file, p95": percentile(files, 95),
        "lines per file, max": percentile(files, 100),
        "lines per function, p95": percentile(lines, 95),
        "lines per function, max": percentile(lines, 100),
        "parameters, p95": percentile([(function.parameters, function.where) for function in functions], 95),
        "nesting, p95": percentile([(function.nesting, function.where) for function in functions], 95),
    }


def shares(product: list[Source]) -> dict[str, Figure]:
    """What is typed, and what has a docstring."""
    functions = [function for source in product for function in source.functions]
    modules = [(docstring(source.tree) is not None, source.where) for source in product if source.text.strip()]
    public = [(function.has_docstring, function.where) for function in functions if function.is_public]
    public += [(docstring(c) is not None, f"{s.place(c)} {c.name}") for s in product for c in s.public_classes]
    return {
        "typed definitions, %": share([(function.is_typed, function.where) for function in functions]),
        "module docstrings, %": share(modules),
        "public docstrings, %": share(public),
    }


def percentile(found: list[tuple[int, str]], percent: int) -> Figure:
    """The value that `percent` of them do not pass; the places are the largest."""
    ordered = sorted(found)
    at = min(len(ordered) - 1, len(ordered) * percent // 100)
    return Figure(ordered[at][0] if ordered else 0, tuple(f"{value} {where}" for value, where in reversed(ordered)))


def share(found: list[tuple[bool, str]]) -> Figure:
    """How many of a hundred are so, rounded down; the places are those that are not."""
    lacking = tuple(where for is_so, where in found if not is_so)
    return Figure(100 * (len(found) - len(lacking)) // len(found) if found else 100, lacking)


def counted(found: list[str]) -> Figure:
    """How many there are."""
    return Figure(len(found), tuple(found))


def per_thousand(found: list[str], code: int) -> Figure:
    """How many there are for each thousand lines of code."""
    return Figure(round(1000 * len(found) / code, 1), tuple(found))


def places(sources: list[Source], is_wanted: Callable[[ast.AST], bool]) -> list[str]:
    """Where the nodes are that are wanted."""
    return [source.place(node) for source in sources for node in source.nodes if is_wanted(node)]


def anys(sources: list[Source]) -> list[str]:
    """Where `Any` stands, but in the files that hold what users pass and return: of that nothing more is known."""
    return [place for place in places(sources, is_any) if not place.startswith(HOLD_USERS_VALUES)]


def ignores(sources: list[Source]) -> list[str]:
    """Where a check is told to look away."""
    told = re.compile(r"#.*\b(type: ignore|pyright: ignore|noqa)\b")
    lines = ((s.where, n, line) for s in sources for n, line in enumerate(s.text.splitlines(), 1))
    return [f"{where}:{number}" for where, number, line in lines if told.search(line)]


def rings(sources: list[Source]) -> set[str]:
    """The modules that import one another in a circle: what is left when all that lead nowhere are peeled off."""
    known = {source.name for source in sources}
    graph = {source.name: set(resolve(source.eager_imports(), known)) - {source.name} for source in sources}
    while True:
        targets = {target for needs in graph.values() for target in needs}
        kept = {name: needs & set(graph) for name, needs in graph.items() if needs & set(graph) and name in targets}
        if kept == graph:
            return set(kept)
        graph = kept


def resolve(names: Iterable[str], known: set[str]) -> Iterator[str]:
    """The modules that imported names stand for: the name itself, or what it is in."""
    for name in names:
        above = name.rpartition(".")[0]
        yield from [candidate for candidate in (name, above) if candidate in known][:1]


def duplicated(sources: list[Source], code: int) -> Figure:
    """Lines that lie in a run of `COPY_LINES` which stands, letter for letter, in more than one place."""
    runs: dict[tuple[str, ...], list[tuple[Source, int]]] = {}
    for source in sources:
        for start in range(len(source.code) - COPY_LINES + 1):
            run = tuple(source.code[start : start + COPY_LINES])
            says_something = sum(len(line) > 3 for line in run) > COPY_LINES // 2
            if says_something and not run[0].startswith(("import ", "from ")):
                runs.setdefault(run, []).append((source, start))
    copies = {run: found for run, found in runs.items() if len(found) > 1}
    copied = {(s.where, at + k) for found in copies.values() for s, at in found for k in range(COPY_LINES)}
    shown = [f"{' = '.join(sorted({s.where for s, _ in found}))}: {run[0]}" for run, found in copies.items()]
    return Figure(round(100 * len(copied) / code, 1), tuple(shown))


def main() -> int:
    """Print the table; 1 when a figure is past its budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worst", type=int, default=0, metavar="N", help="name the N worst places of each figure")
    worst = parser.parse_args().worst
    figures = measure(read(ROOT / "src" / "relight", ROOT / "src"), read(ROOT / "tests", ROOT))
    late = {name for name, budget in BUDGETS.items() if not budget.holds(figures[name].value)}
    for name, figure in figures.items():
        print(f"{'!' if name in late else ' '} {name:36} {figure.value:8g}   {BUDGETS.get(name, '')}")
        for place in figure.places[: worst or 5 * (name in late)]:
            print(f"      {place}")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
