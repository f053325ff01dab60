"""What the user's code raises elsewhere, and how it is told here."""

from __future__ import annotations

from wrong_use.harness import Case, app

DEEP = """
def deeper(x):
    raise ValueError(f"bad {x}")

@app.function()
def fail(x):
    return deeper(x)

"""

CASES = {
    "raises": Case(script=app(DEEP + "with app.run():\n    fail.remote(3)\n"), is_users=True),
    "raises-in-map": Case(script=app(DEEP + "with app.run():\n    list(fail.map([3]))\n"), is_users=True),
    "raises-for-an-async-caller": Case(
        script=app(
            DEEP
            + """
import asyncio

async def main():
    await fail.remote.aio(3)

with app.run():
    asyncio.run(main())
"""
        ),
        is_users=True,
    ),
    "raises-in-a-thread": Case(
        script=app(
            DEEP
            + """
import sys
import threading

with app.run():
    thread = threading.Thread(target=fail.remote, args=(3,), name="mine")
    thread.start()
    thread.join()
sys.exit(1)
"""
        ),
        is_users=True,
    ),
    "raises-under-relight-run": Case(
        script=app(DEEP), command=("relight", "run", "script.py::fail", "--x", "3"), is_users=True
    ),
    "raises-in-a-call-within-a-call": Case(
        script=app(
            DEEP
            + """
@app.function()
def outer():
    return fail.remote(3)

with app.run():
    outer.remote()
"""
        ),
        is_users=True,
    ),
    "raises-what-was-caught-and-told-anew": Case(
        script=app(
            DEEP
            + """
class OrderFailed(Exception):
    pass

with app.run():
    try:
        fail.remote(3)
    except ValueError as error:
        raise OrderFailed("no order today") from error
"""
        ),
        is_users=True,
    ),
    "exception-known-to-the-worker-alone": Case(
        script=app("""
            import sys
            import types

            @app.function()
            def fail():
                module = types.ModuleType("made_there")
                exec("class Trouble(Exception): pass", module.__dict__)
                sys.modules["made_there"] = module
                raise module.Trouble("it is all over")

            with app.run():
                fail.remote()
        """)
    ),
    "exception-not-picklable": Case(
        script=app("""
            import threading

            class Trouble(Exception):
                def __init__(self, message):
                    super().__init__(message)
                    self.lock = threading.Lock()

            @app.function()
            def fail():
                raise Trouble("it holds a lock")

            with app.run():
                fail.remote()
        """)
    ),
    "exception-that-cannot-be-made-again": Case(
        script=app("""
            class Trouble(Exception):
                def __init__(self, code, why):
                    super().__init__(f"{code}: {why}")

            @app.function()
            def fail():
                raise Trouble(7, "two arguments in, one out")

            with app.run():
                fail.remote()
        """)
    ),
    "exits": Case(
        script=app("""
            import sys

            @app.function()
            def leave():
                sys.exit("had enough")

            with app.run():
                leave.remote()
        """)
    ),
    "module-fails-in-the-worker": Case(
        script=app("""
            if relight.is_remote():
                raise RuntimeError("no disk here")

            @app.function()
            def f():
                return 1

            with app.run():
                f.remote()
        """)
    ),
    "package-missing-in-the-worker": Case(
        script=app("""
            if relight.is_remote():
                import nowhere_to_be_found

            @app.function()
            def f():
                return 1

            with app.run():
                f.remote()
        """)
    ),
    "function-missing-in-the-worker": Case(
        script=app("""
            @app.function()
            def early():
                return 1

            with app.run():
                @app.function()
                def late():
                    return 1

                late.remote()
        """)
    ),
    "enter-raises": Case(
        script=app("""
            @app.cls()
            class Reader:
                @relight.enter()
                def load(self):
                    raise OSError("the weights are not there")

                @relight.method()
                def read(self):
                    return 1

            with app.run():
                Reader().read.remote()
        """)
    ),
}
