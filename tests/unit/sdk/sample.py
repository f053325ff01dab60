"""An app for the tests: everything in it is at the top of a module, as it has to be."""

from __future__ import annotations

import relight

app = relight.App("sample")
seen: list[str] = []


@app.function(gpu=["H100", "A100:2"], memory=512, retries=3, env={"B": "2", "A": "1"}, timeout=5)
def add(x: int, y: int = 2, *rest: int, flag: bool = False) -> int:
    """Adds."""
    return x + y


@app.function
async def later(x: int) -> int:
    return x + 1


@app.cls(cpu=0.5)
class Reader:
    """Reads."""

    @relight.enter()
    def load(self) -> None:
        seen.append("load")

    @relight.exit()
    def leave(self) -> None:
        seen.append("leave")

    @relight.method()
    def read(self, page: str, times: int = 1) -> str:
        return page * times


class Plain:
    @relight.method()
    def read(self) -> None: ...


@app.local_entrypoint()
def main(n: int = 3) -> int:
    return n
