"""What a type checker makes of the public API; `test_public_api.py` runs mypy over it."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import relight

if TYPE_CHECKING:
    from typing import assert_type

app = relight.App("typed", include=["data/*.json"])


@app.function(gpu="A100", retries=relight.Retries(count=2), cpu=1, timeout=5)
def plain(x: int, *, name: str = "") -> str:
    return name * x


@app.function
def bare(x: int) -> float:
    return x / 2


@app.function()
async def later(x: int) -> bytes:
    return bytes(x)


@app.cls(cpu=0.5, max_workers=3)
class Reader:
    @relight.enter()
    def load(self) -> None: ...

    @relight.exit()
    def leave(self) -> None: ...

    @relight.method()
    def read(self, page: str, times: int = 1) -> list[str]:
        return [page] * times


@app.local_entrypoint()
def main(n: int = 3) -> int:
    return n


def uses() -> None:
    """Never called: only read."""
    assert_type(plain(1), str)
    assert_type(plain.local(1, name="a"), str)
    assert_type(plain.remote(1), str)
    assert_type(plain.spawn(1), relight.Call[str])
    assert_type(plain.spawn(1).get(timeout=3), str)
    assert_type(plain.map([1, 2]), Iterator[str])
    assert_type(plain.starmap([(1,)]), Iterator[str])
    assert_type(bare.remote(1), float)
    waiting = later(1)
    _ = assert_type(waiting, Coroutine[Any, Any, bytes])
    assert_type(later.remote(1), bytes)
    assert_type(later.map([1]), Iterator[bytes])
    assert_type(Reader().read("p"), list[str])
    assert_type(Reader().read.remote("p", times=2), list[str])
    assert_type(Reader().read.map(["p"]), Iterator[list[str]])
    assert_type(main(2), int)
    assert_type(relight.is_remote(), bool)
    assert_type(relight.current_call(), "str | None")
    with app.run() as running:
        assert_type(running, relight.App)
    relight.Function.from_name("app", "plain").remote(1, 2, 3)


def mistakes() -> None:
    """Each is an error, and mypy says when one is none: unused ignores are errors."""
    plain("x")  # type: ignore[arg-type]
    plain.remote()  # type: ignore[call-arg]
    plain.remote(1, nme="a")  # type: ignore[call-arg]
    plain.spawn("x")  # type: ignore[arg-type]
    later.remote("x")  # type: ignore[arg-type]
    Reader().read.remote(3)  # type: ignore[arg-type]
    Reader().read.remote("p", tmes=2)  # type: ignore[call-arg]
    app.function(memroy=3)  # type: ignore[call-overload]
    app.function(cpu="many")  # type: ignore[call-overload]
    app.cls(gpus="A100")  # type: ignore[call-overload]
