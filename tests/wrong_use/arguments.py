"""Arguments that do not fit, or cannot be sent, and results that cannot come back."""

from __future__ import annotations

from wrong_use.harness import Case, app

SQUARE = """
@app.function()
def square(x: int, *, loudly: bool = False) -> int:
    return x * x

with app.run():
"""

CASES = {
    "argument-missing": Case(script=app(SQUARE + "    square.remote()\n")),
    "argument-too-many": Case(script=app(SQUARE + "    square.remote(1, 2)\n")),
    "argument-misspelt": Case(script=app(SQUARE + "    square.remote(1, loudli=True)\n")),
    "argument-missing-in-map": Case(script=app(SQUARE + "    list(square.starmap([(1,), ()]))\n")),
    "argument-not-picklable": Case(
        script=app("""
            import threading

            @app.function()
            def use(name, lock):
                return name

            with app.run():
                use.remote("lock", threading.Lock())
        """)
    ),
    "argument-whose-pickling-fails": Case(
        script=app("""
            class Handle:
                def __reduce__(self):
                    raise RuntimeError("this handle stays here")

            @app.function()
            def use(handle):
                return 1

            with app.run():
                use.remote(handle=Handle())
        """)
    ),
    "argument-whose-class-is-in-main-guard": Case(
        script=app("""
            @app.function()
            def use(point):
                return 1

            if __name__ == "__main__":
                class Point:
                    pass

                with app.run():
                    use.remote(Point())
        """)
    ),
    "input-below-its-least": Case(
        script=app("""
            from typing import Annotated

            @app.function()
            def draw(steps: Annotated[int, relight.Input("How many", ge=1, le=100)] = 20) -> int:
                return steps

            with app.run():
                draw.remote(steps=0)
        """)
    ),
    "input-that-fits-no-type": Case(
        script=app("""
            from typing import Annotated

            @app.function()
            def draw(name: Annotated[str, relight.Input(ge=1)]) -> str:
                return name

            with app.run():
                draw.remote("a")
        """)
    ),
    "result-not-picklable": Case(
        script=app("""
            import threading

            @app.function()
            def lock():
                return threading.Lock()

            with app.run():
                lock.remote()
        """)
    ),
    "result-known-to-the-worker-alone": Case(
        script=app("""
            import sys
            import types

            @app.function()
            def make():
                module = types.ModuleType("made_there")
                exec("class Thing: pass", module.__dict__)
                sys.modules["made_there"] = module
                return module.Thing()

            with app.run():
                make.remote()
        """)
    ),
    "generator-item-not-picklable": Case(
        script=app("""
            import threading

            @app.function()
            def locks():
                yield 1
                yield threading.Lock()

            with app.run():
                for item in locks.remote():
                    print(item)
        """)
    ),
    "generator-spawned": Case(
        script=app("""
            @app.function()
            def count():
                yield 1

            with app.run():
                count.spawn()
        """)
    ),
    "function-iterated-as-a-generator": Case(
        script="""
            import relight

            for item in relight.Function.from_name("shop", "square").remote_gen(3):
                print(item)
        """
    ),
    "generator-called-as-a-function": Case(
        script='import relight\n\nrelight.Function.from_name("shop", "count").remote(3)\n'
    ),
    "generator-spawned-by-its-name": Case(
        script='import relight\n\nrelight.Function.from_name("shop", "count").spawn(3).get()\n'
    ),
    "generator-mapped-by-its-name": Case(
        script='import relight\n\nprint(list(relight.Function.from_name("shop", "count").map([3])))\n'
    ),
    "async-argument-missing": Case(
        script=app("""
            import asyncio

            @app.function()
            async def square(x: int) -> int:
                return x * x

            async def main():
                await square.remote.aio()

            with app.run():
                asyncio.run(main())
        """)
    ),
}
