"""The way to where source code is kept: a branch's newest commit is fetched with git, and a commit's status is told over HTTP.

git is a program of the machine's.  It is run without a terminal, without hooks, and with nothing of the user's
configuration but what it needs to reach private repositories: keys of the user's ssh agent, and credential helpers.
"""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

FETCH_SECONDS = 120.0
STATUS_SECONDS = 10.0
MAX_BYTES = 32 * 1024 * 1024
"""How large the files of a source may be together: as large as a bundle of code."""

_SURROUNDINGS = (
    "GIT_ALLOW_PROTOCOL=https:http:ssh:git:file",  # `ext` and the like, which run commands, are none of these
    "GIT_TERMINAL_PROMPT=0",
    "GIT_SSH_COMMAND=ssh -o BatchMode=yes",
    "LC_ALL=C",
)


class ForgeError(Exception):
    """It could not be fetched, or told; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A commit, and its files by their paths; those that may be executed are named in `executable`."""

    commit: str
    files: dict[str, bytes]
    executable: frozenset[str]


class Forge:
    """Keeps what it fetched in `folder`, so that only what changed comes over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def fetch(self, name: str, url: str, branch: str) -> Fetched:
        """The newest commit of a branch; `name` is what its copy here is called.  Raises ForgeError."""
        repository = self._folder / name
        if not (repository / "HEAD").exists():
            repository.mkdir(parents=True, exist_ok=True)
            await _git(repository, "init", "--quiet", "--bare")
        await _git(
            repository, "fetch", "--quiet", "--depth=1", "--no-tags", "--force", "--", url, f"refs/heads/{branch}"
        )
        commit = (await _git(repository, "rev-parse", "--verify", "FETCH_HEAD^{commit}")).decode().strip()
        archive = await _git(repository, "archive", "--format=tar", commit)
        return await asyncio.to_thread(_read, commit, archive)

    async def tell(self, url: str, token: str, said: dict[str, str]) -> None:
        """POST a commit's status as GitHub's API takes it (Gitea's and Forgejo's too).  Raises ForgeError."""
        await asyncio.to_thread(_post, url, token, json.dumps(said).encode())


async def _git(repository: Path, *words: str) -> bytes:
    try:
        process = await asyncio.create_subprocess_exec(
            *("env", *_SURROUNDINGS, "git", "-c", "core.hooksPath=/dev/null", "-C", str(repository), *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise ForgeError(f"git cannot be run: {error.strerror}") from error
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            output, errors = await process.communicate()
    except TimeoutError:
        raise ForgeError(f"git {words[0]} took more than {FETCH_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise ForgeError(lines[-1][:300] if lines else f"git {words[0]} ended with status {process.returncode}")
    return output


def _read(commit: str, archive: bytes) -> Fetched:
    """The plain files of an archive: links lead elsewhere, and are left out."""
    files: dict[str, bytes] = {}
    executable = set()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = [member for member in tar if member.isreg()]
        size = sum(member.size for member in members)
        if size > MAX_BYTES:
            raise ForgeError(f"its files take {size:,} bytes, and {MAX_BYTES:,} are allowed")
        for member in members:
            name = PurePosixPath(member.name)
            content = tar.extractfile(member)
            if content is None or name.is_absolute() or ".." in name.parts:
                raise ForgeError(f"{member.name!r} is no file inside it")
            files[str(name)] = content.read()
            if member.mode & 0o100:
                executable.add(str(name))
    return Fetched(commit=commit, files=files, executable=frozenset(executable))


def _post(url: str, token: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "relight"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=STATUS_SECONDS) as answer:
            answer.read(1)
    except (OSError, ValueError) as error:
        raise ForgeError(str(error)) from error
