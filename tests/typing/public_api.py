"""What a type checker makes of the public API; `test_public_api.py` runs mypy over it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import relight

if TYPE_CHECKING:
    from typing import assert_type

app = relight.App("typed", include=["data/*.json"])


@app.function(gpu="A100", retries=relight.Retries(count=2), cpu=1, timeout=5)
def plain(x: int, *, name: str = "") -> str:
    return name * x


@app.function(max_containers=3, retries=relight.Retries(max_retries=2, initial_delay=0.5))
def ported(x: int) -> str:
    return str(x)


@app.function
def bare(x: int) -> float:
    return x / 2


@app.function()
async def later(x: int) -> bytes:
    return bytes(x)


@app.function
def counted(n: int) -> Iterator[int]:
    yield n


@app.function(timeout=5)
async def counted_later(n: int) -> AsyncIterator[str]:
    yield str(n)


@app.function()
def drawn(prompt: Annotated[str, relight.Input("What to draw", max_length=9)], start: relight.File) -> relight.File:
    return relight.File.from_bytes(start.read(), name=prompt)


@app.function()
@relight.concurrent(max_inputs=8, target_inputs=4)
async def together(x: int) -> bytes:
    return bytes(x)


@app.function()
@relight.batched(max_batch_size=8, wait_ms=5)
def gathered(xs: list[int]) -> list[str]:
    return [str(x) for x in xs]


@app.function()
@relight.batched(max_batch_size=8, wait_ms=5)
async def gathered_later(xs: list[int]) -> list[str]:
    return [str(x) for x in xs]


@app.cls(cpu=0.5, max_workers=3)
class Reader:
    @relight.enter()
    def load(self) -> None: ...

    @relight.exit()
    def leave(self) -> None: ...

    @relight.method()
    def read(self, page: str, times: int = 1) -> list[str]:
        return [page] * times

    @relight.method()
    async def fetch(self, page: str) -> bytes:
        return page.encode()

    @relight.method()
    def lines(self, page: str) -> Iterator[str]:
        yield page


@app.local_entrypoint()
def main(n: int = 3) -> int:
    return n


def uses() -> None:
    """Never called: only read."""
    assert_type(plain(1), str)
    assert_type(plain.local(1, name="a"), str)
    assert_type(plain.remote(1), str)
    assert_type(drawn.remote("a cat", relight.File("a.png")), relight.File)
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
    assert_type(relight.current_input_id(), "str | None")
    assert_type(ported.with_options(max_containers=1).remote(1), str)
    assert_type(relight.exception.FunctionTimeoutError("late"), relight.FunctionTimeout)
    with app.run() as running:
        assert_type(running, relight.App)
    relight.Function.from_name("app", "plain").remote(1, 2, 3)


async def asynchronous_uses() -> None:
    """The same verbs on a loop."""
    assert_type(await plain.remote.aio(1, name="a"), str)
    assert_type(await later.remote.aio(1), bytes)
    call = assert_type(await plain.spawn.aio(1), relight.Call[str])
    assert_type(await call.get.aio(timeout=3), str)
    assert_type(await call.status.aio(), relight.CallState)
    await call.cancel.aio()
    assert_type(await relight.Call.gather.aio(call), list[str])
    assert_type(plain.map.aio([1, 2]), AsyncGenerator[str, None])
    assert_type(plain.starmap.aio([(1,)]), AsyncGenerator[str, None])
    await plain.for_each.aio([1])
    assert_type(await plain.spawn_map.aio([1]), relight.CallGroup[str])
    assert_type(await plain.stats.aio(), relight.FunctionStats)
    assert_type([x async for x in counted.remote_gen.aio(1)], list[int])
    assert_type([x async for x in counted_later.remote.aio(1)], list[str])
    assert_type(await Reader().read.remote.aio("p"), list[str])


def uses_of_kept_calls() -> None:
    """Calls that outlive their caller."""
    call = plain.spawn(1)
    assert_type(call.status(), relight.CallState)
    assert_type(call.tree(), relight.CallNode)
    assert_type(relight.Call.gather(call, call), list[str])
    assert_type(relight.FunctionCall.from_id("call-1"), relight.Call[Any])
    calls = plain.spawn_map([1, 2], kwargs={"name": "a"})
    assert_type(calls.get(timeout=3), list[str])
    assert_type(calls[0], relight.Call[str])
    assert_type(calls[:1], list[relight.Call[str]])
    assert_type(calls.results(), Iterator[str])
    assert_type([one.get() for one in calls], list[str])
    assert_type(plain.stats().backlog, int)


def uses_of_calls_that_share_a_worker() -> None:
    """What is called is one call's."""
    assert_type(together.remote(1), bytes)
    assert_type(gathered.remote(1), str)
    assert_type(gathered_later.remote(1), str)
    assert_type(list(gathered.map([1, 2])), list[str])
    assert_type(plain.with_options(session="mine", affinity="strict").remote(1), str)


def uses_of_generators() -> None:
    """What yields."""
    assert_type(counted(1), Iterator[int])
    assert_type(counted.local(1), Iterator[int])
    assert_type(counted.remote(1), Iterator[int])
    assert_type(counted.remote_gen(1), Iterator[int])
    assert_type(counted_later(1), AsyncIterator[str])
    assert_type(counted_later.remote(1), Iterator[str])
    assert_type(Reader().lines.remote("p"), Iterator[str])
    assert_type(Reader().fetch.remote("p"), bytes)


def mistakes() -> None:
    """Each is an error, and mypy says when one is none: unused ignores are errors."""
    plain("x")  # type: ignore[arg-type]
    plain.remote()  # type: ignore[call-arg]
    plain.remote(1, nme="a")  # type: ignore[call-arg]
    plain.spawn("x")  # type: ignore[arg-type]
    later.remote("x")  # type: ignore[arg-type]
    _ = plain.remote.aio("x")  # type: ignore[arg-type]
    __ = plain.spawn.aio(nme=1)  # type: ignore[call-arg]
    counted.remote("x")  # type: ignore[arg-type]
    plain.map([1], order=True)  # type: ignore[call-arg]
    plain.spawn(1).get("x")  # type: ignore[arg-type]
    Reader().read.remote(3)  # type: ignore[arg-type]
    Reader().read.remote("p", tmes=2)  # type: ignore[call-arg]
    app.function(memroy=3)  # type: ignore[call-overload]
    app.function(cpu="many")  # type: ignore[call-overload]
    app.cls(gpus="A100")  # type: ignore[call-overload]
