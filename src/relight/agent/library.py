"""Our own code for the sandboxes: a copy of the rooms that run in them, with bytecode for each Python that needs it.

The copy is named by its content and never changed, so many sandboxes, and many agents, share one; its bytecode is
`unchecked-hash`, so a start neither looks at times nor writes.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from pathlib import Path

from relight.protocol.errors import StartFailed
from relight.protocol.manifest import HostImage

_PARTS = ("__init__.py", "clock.py", "exception.py", "protocol", "sandbox", "runtime", "sdk")
_COMPILE_SECONDS = 120.0


class Library:
    """`folder/HASH/` is put on the module path of workers."""

    def __init__(self, folder: Path, package: Path) -> None:
        self._folder = folder
        self._package = package
        self._made: Path | None = None
        self._compiling: dict[str, asyncio.Lock] = {}

    async def get(self, image: HostImage) -> Path:
        """The folder, ready for this image's Python.  Raises StartFailed when that Python does not run."""
        if self._made is None:
            self._made = await asyncio.to_thread(self._make)
        done = self._made / f".compiled-{image.version}"
        # Nothing but this machine's own compiler is waited for under the lock, and that not without bound.
        async with self._compiling.setdefault(image.version, asyncio.Lock()):
            if not done.exists():
                await _compile(image.python, self._made)
                done.touch()
        return self._made

    def _make(self) -> Path:
        files = _files(self._package)
        digest = hashlib.sha256()
        for path in files:
            digest.update(f"{path.relative_to(self._package)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
        target = self._folder / digest.hexdigest()[:24]
        if target.is_dir():
            return target
        making = Path(tempfile.mkdtemp(prefix=".making-", dir=self._folder))
        try:
            making.chmod(0o755)
            for path in files:
                copy = making / self._package.name / path.relative_to(self._package)
                copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            try:
                making.rename(target)
            except OSError:
                if not target.is_dir():  # another agent with the same cache was faster
                    raise
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return target


def _files(package: Path) -> list[Path]:
    found: list[Path] = []
    for part in _PARTS:
        path = package / part
        found += [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sorted(path for path in found if "__pycache__" not in path.parts)


async def _compile(python: str, folder: Path) -> None:
    """By that very Python, with nothing of the user's on its path (-I -S)."""
    options = ("-I", "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(folder))
    try:
        process = await asyncio.create_subprocess_exec(
            python, *options, env={}, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
        )
    except OSError as error:
        raise StartFailed(f"cannot run {python}: {error}; deploy from a Python that this machine has") from error
    try:
        async with asyncio.timeout(_COMPILE_SECONDS):
            code = await process.wait()
    except TimeoutError as error:
        raise StartFailed(f"cannot prepare {python}: compiling took over {_COMPILE_SECONDS} s; try again") from error
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())
    if code != 0:
        raise StartFailed(f"cannot prepare {python}: it ended with {code} while compiling; check that it runs")
