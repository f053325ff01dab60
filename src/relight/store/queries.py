"""The statements, read from `queries/*.sql`: each begins with a line `-- name: what it is for`."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_HEAD = re.compile(r"^-- (\w+): .*$", re.MULTILINE)


@cache
def queries(file: str) -> dict[str, str]:
    """The statements of one file, by name."""
    text = (resources.files("relight.store") / "queries" / f"{file}.sql").read_text()
    heads = list(_HEAD.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    return {head[1]: text[head.end() : end].strip() for head, end in zip(heads, ends, strict=True)}
