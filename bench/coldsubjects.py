"""What is started: relight's functions from zero workers, and beside them processes, containers, actors and forks."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from harness import HERE, environment
from served import Server

import relight

COLD = HERE / "cold"
SETTLE_SECONDS = 0.02
"""Between the end of a worker and the next start: nothing of the one before is on its way any more."""

FORK, IMPORT, BOOT = "1", "2", "4"
"""Rungs of the ladder, as people number them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a function imports, and what it has beside that.  `functions` are that with a template, that
    without, and that which its environment makes a fresh process."""

    name: str
    app: str
    file: str
    imports: str
    functions: tuple[str, str, str] = ("answer", "imported", "fresh")
    weights_gib: int = 0


MODELS = ("Model.answer", "Imported.answer", "Fresh.answer")
BARE = Case(name="bare", app="cold-bare", file="bare.py", imports="")
FRAMES = Case(name="numpy+pandas", app="cold-frames", file="frames.py", imports="numpy,pandas")
TENSORS = Case(name="torch", app="cold-tensors", file="tensors.py", imports="torch")
ONE_GB = Case(name="1 GB", app="cold-weights1", file="weights.py", imports="torch", functions=MODELS, weights_gib=1)
FOUR_GB = Case(name="4 GB", app="cold-weights4", file="weights.py", imports="torch", functions=MODELS, weights_gib=4)
CASES = (BARE, FRAMES, TENSORS, ONE_GB, FOUR_GB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Something that is started: `once` starts one, and returns the seconds until its result.

    `every` says in each how many rounds.  `level` is the rung that relight is to start on, "" for others.
    """

    name: str
    case: str
    once: Callable[[], float]
    level: str = ""
    way: str = ""
    every: int = 1


class Caller:
    """Calls one function of an app when it has no worker."""

    def __init__(self, server: Server, app: str, function: str) -> None:
        self._server = server
        self._app = app
        self._remote = relight.Function.from_name(app, function).remote
        self._path = f"/v1/apps/{app}/functions/{function}/call"
        self._numbers = itertools.count()

    def by_sdk(self) -> float:
        """A cold call through the SDK."""
        self.rest()
        x = next(self._numbers)
        began = time.perf_counter()
        answer = self._remote(x)
        return self._seconds(began, x, answer)

    def by_http(self) -> float:
        """A cold call by a plain POST."""
        self.rest()
        x = next(self._numbers)
        body = json.dumps({"x": x}).encode()
        began = time.perf_counter()
        said = self._server.post(self._path, body)
        return self._seconds(began, x, said)

    def rest(self) -> None:
        """Return when there is no worker of it."""
        self._server.wait_gone(self._app)
        time.sleep(SETTLE_SECONDS)

    def _seconds(self, began: float, x: int, answer: object) -> float:
        seconds = time.perf_counter() - began
        result = json.loads(answer)["result"] if isinstance(answer, bytes) else answer
        if result != x:
            raise ValueError(f"cannot measure {self._app}: the answer to {x} is {result!r}")
        return seconds


class NewVersions:
    """An app with one function and no import, deployed anew each time in an image that has torch."""

    APP = "cold-new"

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._file = folder / "fresh.py"
        self._numbers = itertools.count()
        folder.mkdir()

    def once(self) -> float:
        """From `deploy()` until the first result of the new version."""
        x = next(self._numbers)
        self._file.write_text(
            f"import relight\n\napp = relight.App({self.APP!r})\n\n\n"
            f"@app.function(scaledown_window=0)\ndef new() -> int:\n    return {x}\n"
        )
        module = _load(self._file, f"fresh{x}")
        self._server.wait_gone(self.APP)
        time.sleep(SETTLE_SECONDS)
        began = time.perf_counter()
        module.app.deploy()
        answer = relight.Function.from_name(self.APP, "new").remote()
        seconds = time.perf_counter() - began
        if answer != x:
            raise ValueError(f"cannot measure: version {x} answers {answer!r}")
        return seconds


def _load(file: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("fresh", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fresh"] = module
    spec.loader.exec_module(module)
    return module


class Beside:
    """A process of `coldbeside.py`."""

    def __init__(self, words: Sequence[str], folder: Path, *, before: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*before, sys.executable, str(HERE / "coldbeside.py"), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=HERE,
            env={**environment(folder), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        said = self._hear()
        self.missing = "" if said == "ready" else said

    def once(self) -> float:
        """One start."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._hear())

    def close(self) -> None:
        """Let it leave."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip() or "its process ended"


Skip = Callable[[str, str], None]


class Field:
    """All subjects.  `skip` hears of each that cannot be had, and why; `rare` is how many rounds pass between two of the slow."""

    def __init__(self, server: Server, folder: Path, rare: int, skip: Skip) -> None:
        self._server = server
        self._folder = folder
        self._rare = rare
        self._skip = skip
        self._stack = ExitStack()

    def __enter__(self) -> Field:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def functions(self, case: Case, weights: Path | None) -> list[Subject]:
        """A case's function, deployed, from its template and without, through the SDK and over HTTP."""
        deploy(case, self._folder, weights)
        found = []
        every_boot = self._rare if "torch" in case.imports else 1
        rungs = (FORK, IMPORT, BOOT)
        for level, function, every in zip(rungs, case.functions, (1, every_boot, every_boot), strict=True):
            caller = Caller(self._server, case.app, function)
            for way, once in (("SDK", caller.by_sdk), ("HTTP", caller.by_http)):
                name = f"{case.name}, level {level}, {way}"
                found.append(Subject(name=name, case=case.name, once=once, level=level, way=way, every=every))
        return found

    def new_versions(self) -> Subject:
        """Deploys."""
        versions = NewVersions(self._server, self._folder / "new")
        name = "a new version, deploy to result"
        return Subject(name=name, case="new version", once=versions.once, level=IMPORT, way="SDK")

    def forks(self, case: Case, weights: Path | None) -> list[Subject]:
        """A bare fork of a process with the same imports and the same file mapped."""
        words = [case.imports, *([str(weights)] if weights else [])]
        return [
            *self._beside(f"{case.name}, raw fork", case, ["fork", *words], every=1),
            *self._beside(f"{case.name}, raw fork, collapsed", case, ["collapsed", *words], every=1),
        ]

    def processes(self, case: Case, *, with_container: bool) -> list[Subject]:
        """A fresh interpreter, by itself and in a container of crun's."""
        program = f"import {case.imports}" if case.imports else "pass"
        python = [sys.executable, "-c", program]
        return [
            *self._beside(f"{case.name}, fresh process", case, ["command", *python], every=self._rare),
            *(self._container(case, python) if with_container else ()),
        ]

    def actors(self, case: Case) -> list[Subject]:
        """A Ray actor."""
        return self._beside(f"{case.name}, Ray actor", case, ["ray", case.imports], every=self._rare)

    def _container(self, case: Case, command: list[str]) -> list[Subject]:
        name = f"{case.name}, crun run"
        if shutil.which("crun") is None or os.geteuid():
            self._skip(name, "there is no crun, or this is not root; apt-get install crun")
            return []
        bundle = self._folder / f"crun-{case.app}"
        write_bundle(bundle, command)
        words = ["command", "crun", "--root", str(bundle / "state"), "run", "--bundle", str(bundle), f"c-{case.app}"]
        # crun 1.8 cannot use groups of v1 and v2 at once: in a mount namespace of its own it sees those of v1 alone.
        hide = 'mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified; exec "$@"'
        return self._beside(name, case, words, every=self._rare, before=("unshare", "-m", "sh", "-c", hide, "sh"))

    def _beside(
        self, name: str, case: Case, words: list[str], *, every: int, before: Sequence[str] = ()
    ) -> list[Subject]:
        process = Beside(words, self._folder, before=before)
        self._stack.callback(process.close)
        if process.missing:
            self._skip(name, process.missing)
            return []
        return [Subject(name=name, case=case.name, once=process.once, every=every)]


def deploy(case: Case, folder: Path, weights: Path | None = None) -> None:
    """Deploy an app as people do."""
    said = {**environment(folder), "RELIGHT_DATA_DIR": os.environ["RELIGHT_DATA_DIR"], "BENCH_APP": case.app}
    words = [sys.executable, "-m", "relight", "deploy", case.file]
    env = {**said, "BENCH_WEIGHTS": str(weights or "")}
    done = subprocess.run(words, cwd=COLD, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"cannot measure: {case.file} could not be deployed:\n{done.stdout}{done.stderr}")


def write_bundle(bundle: Path, command: list[str]) -> None:
    """A container that sees this machine's Python, read-only, and nothing else."""
    (bundle / "rootfs").mkdir(parents=True)
    places = dict.fromkeys(("/usr", "/lib", "/lib64", "/bin", "/etc", sys.prefix, sys.base_prefix))
    binds = [
        {"destination": place, "source": os.path.realpath(place), "type": "bind", "options": ["rbind", "ro"]}
        for place in places
        if os.path.exists(place)
    ]
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        *binds,
    ]
    process = {"cwd": "/", "args": command, "env": ["PATH=/usr/bin:/bin"], "user": {"uid": 0, "gid": 0}}
    namespaces = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")]
    said = {
        "ociVersion": "1.0.2",
        "process": {**process, "noNewPrivileges": True, "capabilities": {}},
        "root": {"path": "rootfs", "readonly": False},
        "mounts": mounts,
        "linux": {"namespaces": namespaces},
    }
    (bundle / "config.json").write_text(json.dumps(said))


@contextmanager
def weights_of(gib: int) -> Iterator[Path]:
    """A safetensors file of so many GiB: layers of 16 MiB, each a matrix of 2,048 by 2,048 numbers.

    It lies in this Python's environment for as long, as a package of weights would: there a sandbox sees it.
    """
    side, layers = 2048, gib * 64
    block = array("f", (random.random() for _ in range(256 * 1024))).tobytes()
    size = side * side * 4
    header = json.dumps(
        {
            f"layer{n}": {"dtype": "F32", "shape": [side, side], "data_offsets": [n * size, (n + 1) * size]}
            for n in range(layers)
        }
    ).encode()
    header += b" " * (-len(header) % 8)
    with tempfile.TemporaryDirectory(prefix="relight-bench-", dir=sys.prefix) as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / f"weights{gib}.safetensors"
        with path.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for _ in range(layers * size // len(block)):
                file.write(block)
        yield path
