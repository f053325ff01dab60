"""The peers: each opens what it needs, does one call at a time or many at once, and leaves nothing running.

A peer lives in a process of its own (`driver.py`), so that the threads of one are not in the way of another.
Packages are imported when a peer is opened: one that is not installed is skipped, and the others go on.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from work import same

WORKERS = 2
"""How many worker processes a peer gets that has to be told."""

READY_SECONDS = 30.0
_WINDOW = 100
_WORD = 8


class Missing(Exception):
    """What a peer needs is not on this machine; the message says what, and how to get it."""


@dataclass(frozen=True)
class Calls:
    """One call and its answer; many calls and all their answers."""

    one: Callable[[int], int]
    many: Callable[[int], list[int]]


Peer = Callable[[Path], AbstractContextManager[Calls]]
"""Open with a folder of its own."""


@contextmanager
def relight_peer(_folder: Path) -> Iterator[Calls]:
    """relight through its public SDK, on a private server: `.remote` and `.map`."""
    from noop import app, noop

    with app.run():
        yield Calls(noop.remote, lambda n: list(noop.map(range(n))))


@contextmanager
def ray_peer(folder: Path) -> Iterator[Calls]:
    """Ray on this machine: a method of an actor, and tasks."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        raise Missing("ray is not installed; pip install -e '.[bench]'") from error
    ray.init(
        num_cpus=WORKERS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=str(folder),
    )
    try:
        task = ray.remote(same)
        actor = ray.remote(_Actor).remote()
        yield Calls(
            lambda x: ray.get(actor.same.remote(x)),
            lambda n: ray.get([task.remote(x) for x in range(n)]),
        )
    finally:
        ray.shutdown()


class _Actor:
    """What Ray keeps in one process."""

    def same(self, x: int) -> int:
        """Give back what came."""
        return x


@contextmanager
def celery_peer(folder: Path) -> Iterator[Calls]:
    """Celery over a Redis of its own: `delay().get()`, and many `delay()` joined (a group is slower)."""
    if shutil.which("redis-server") is None:
        raise Missing("there is no redis-server; apt-get install redis-server")
    path = os.environ["BENCH_REDIS_SOCKET"] = str(folder / "redis.sock")
    try:
        from tasks import noop
    except ImportError as error:
        raise Missing("celery[redis] is not installed; pip install -e '.[bench]'") from error
    from celery.result import ResultSet

    redis = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", str(folder)]
    with _process(redis):
        _wait_socket(path)
        with _process([sys.executable, "-m", "celery", *_worker_options()]):
            noop.delay(0).get(timeout=READY_SECONDS)
            yield Calls(
                lambda x: noop.delay(x).get(),
                lambda n: ResultSet([noop.delay(x) for x in range(n)]).join_native(),
            )


def _worker_options() -> tuple[str, ...]:
    quiet = ("--loglevel", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat")
    return ("-A", "tasks", "worker", "--pool", "prefork", "--concurrency", str(WORKERS), *quiet)


@contextmanager
def pool_peer(_folder: Path) -> Iterator[Calls]:
    """`ProcessPoolExecutor` of the standard library: `submit`, and `map` with its default of one item at a time."""
    with ProcessPoolExecutor(WORKERS) as pool:
        yield Calls(lambda x: pool.submit(same, x).result(), lambda n: list(pool.map(same, range(n))))


@contextmanager
def socket_peer(folder: Path) -> Iterator[Calls]:
    """Eight bytes to another process over a unix socket and back: what no call can be faster than."""
    path = str(folder / "echo.sock")
    echo = [sys.executable, "-I", str(Path(__file__).with_name("echo.py")), path]
    with _process(echo):
        _wait_socket(path)
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(path)
            yield Calls(lambda x: _echo(channel, x), lambda n: _echo_many(channel, n))


PEERS: dict[str, Peer] = {
    "relight": relight_peer,
    "ray": ray_peer,
    "celery": celery_peer,
    "pool": pool_peer,
    "socket": socket_peer,
}


def _echo(channel: socket.socket, x: int) -> int:
    channel.sendall(x.to_bytes(_WORD, "big"))
    return int.from_bytes(_receive(channel, _WORD), "big")


def _echo_many(channel: socket.socket, n: int) -> list[int]:
    """Up to `_WINDOW` on their way at once: more than a socket holds would stop both ends."""
    answers: list[int] = []
    for start in range(0, n, _WINDOW):
        xs = range(start, min(start + _WINDOW, n))
        for x in xs:
            channel.sendall(x.to_bytes(_WORD, "big"))
        data = _receive(channel, _WORD * len(xs))
        answers += [int.from_bytes(data[at : at + _WORD], "big") for at in range(0, len(data), _WORD)]
    return answers


def _receive(channel: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = channel.recv(size - len(data))
        if not part:
            raise ConnectionError(f"cannot read the echo: it ended after {len(data)} of {size} bytes")
        data += part
    return data


@contextmanager
def _process(command: list[str]) -> Iterator[None]:
    """A process for as long as the block, in the folder of these files."""
    here = Path(__file__).parent
    process = subprocess.Popen(command, cwd=here, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_socket(path: str) -> None:
    """Return once somebody listens there.  Raises TimeoutError when nobody does in `READY_SECONDS`."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as channel:
            try:
                channel.connect(path)
            except OSError:
                time.sleep(0.01)
            else:
                return
    raise TimeoutError(f"cannot reach {path}: nobody listened there in {READY_SECONDS:g} s")
