"""What a type checker makes of classes, their parameters, and options of some calls; `test_public_api.py` runs mypy over it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import relight

if TYPE_CHECKING:
    from typing import assert_type

app = relight.App("typed", image=relight.Image.host())

with app.image.imports():
    import json


@app.cls()
class Model:
    size: str = relight.parameter(default="7b")
    heat: float = relight.parameter()
    weights: list[float] = relight.parameter(init=False)

    @relight.enter(snap=True)
    def read(self) -> None: ...

    @relight.enter()
    async def load(self) -> None: ...

    @relight.method()
    def generate(self, prompt: str, *, n: int = 1) -> list[str]:
        return [prompt] * n

    @relight.method()
    async def later(self, prompt: str) -> bytes:
        return json.dumps(prompt).encode()

    @relight.method()
    def parts(self, n: int) -> Iterator[int]:
        yield n

    @relight.method()
    async def parts_later(self, n: int) -> AsyncIterator[int]:
        yield n


@app.function(serialized=True)
def plain(x: int) -> str:
    return str(x)


def uses() -> None:
    """Never called: only read."""
    model = Model()
    assert_type(model.size, str)
    assert_type(model.weights, list[float])
    assert_type(model.generate("a"), list[str])
    assert_type(model.generate.remote("a", n=2), list[str])
    waiting = model.later("a")
    _ = assert_type(waiting, Coroutine[Any, Any, bytes])
    assert_type(model.later.remote("a"), bytes)
    assert_type(model.later.spawn("a"), relight.Call[bytes])
    assert_type(model.parts(1), Iterator[int])
    assert_type(model.parts.remote(1), Iterator[int])
    assert_type(model.parts_later(1), AsyncIterator[int])
    assert_type(plain.with_options(timeout=5, gpu="A100").remote(1), str)
    assert_type(model.generate.with_options(cpu=2).remote("a"), list[str])
    assert_type(relight.with_options(Model, env={"A": "1"})().generate.remote("a"), list[str])
    named = relight.Cls.from_name("app", "Model").with_options(timeout=5)
    named(size="7b", heat=1.5).generate.remote("a")
    assert_type(app.start(), relight.App)
    app.stop()


def mistakes() -> None:
    """Each is an error, and mypy says when one is none: unused ignores are errors."""
    model = Model()
    model.generate.remote(1)  # type: ignore[arg-type]
    model.later.remote()  # type: ignore[call-arg]
    model.parts.remote("a")  # type: ignore[arg-type]
    plain.with_options(timeot=5)  # type: ignore[call-arg]
    plain.with_options(timeout="soon")  # type: ignore[arg-type]
    plain.with_options(timeout=5).remote("a")  # type: ignore[arg-type]
    relight.with_options(Model, image=1)  # type: ignore[call-arg]
    relight.Cls.from_name("app", "Model")(size=[])  # type: ignore[arg-type]
    Model(size="7b")  # type: ignore[call-arg]  # mypy reads no constructor that a method makes; pyright does
