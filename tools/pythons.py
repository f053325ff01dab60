#!/usr/bin/env python3
"""Finds the Pythons of this machine that relight must run on: one for each minor version from 3.10.

    python tools/pythons.py        # prints a path a line, oldest first

Looked for as `python3.N` on the PATH and in pyenv's folder of versions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OLDEST = (3, 10)


def candidates() -> Iterator[str]:
    """Everything that may be a Python, the best name for one first."""
    yield sys.executable
    yield from (found for minor in range(OLDEST[1], OLDEST[1] + 20) if (found := shutil.which(f"python3.{minor}")))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from (str(path) for path in sorted((pyenv / "versions").glob("3.*/bin/python3")))


def version_of(python: str) -> tuple[int, int] | None:
    """Its version, None when it does not run (a pyenv shim of a version that is not chosen, say)."""
    ask = "import sys; print(*sys.version_info[:2])"
    try:
        answer = subprocess.run([python, "-I", "-S", "-c", ask], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = answer.stdout.split()
    return (int(words[0]), int(words[1])) if answer.returncode == 0 and len(words) == 2 else None


def find() -> dict[tuple[int, int], str]:
    """A Python for each minor version, oldest first."""
    found: dict[tuple[int, int], str] = {}
    for python in candidates():
        version = version_of(python)
        if version and version >= OLDEST:
            found.setdefault(version, python)
    return dict(sorted(found.items()))


if __name__ == "__main__":
    print(*find().values(), sep="\n")
