"""Apps, functions and classes that are written wrongly."""

from __future__ import annotations

from wrong_use.harness import Case, app

READER = """
@app.cls()
class Reader:
    size: int = relight.parameter(default=1)

    @relight.method()
    def read(self, text: str) -> str:
        return text * self.size
"""

CASES = {
    "lambda-decorated": Case(script=app("square = app.function()(lambda x: x * x)\n")),
    "nested-function-decorated": Case(
        script=app("""
            def make():
                @app.function()
                def inner():
                    return 1

            make()
        """)
    ),
    "class-decorated-as-function": Case(script=app("@app.function()\nclass Reader:\n    pass\n")),
    "function-decorated-as-class": Case(script=app("@app.cls()\ndef read():\n    pass\n")),
    "class-without-methods": Case(script=app("@app.cls()\nclass Reader:\n    pass\n")),
    "method-decorated-with-function": Case(
        script=app("""
            class Reader:
                @app.function()
                def read(self):
                    return 1

            with app.run():
                Reader().read.remote()
        """)
    ),
    "method-of-a-class-without-app": Case(
        script=app("""
            class Reader:
                @relight.method()
                def read(self):
                    return 1

            Reader().read.remote()
        """)
    ),
    "option-misspelt": Case(script=app("@app.function(memmory=128)\ndef f():\n    pass\n")),
    "option-out-of-range": Case(script=app("@app.function(timeout=0)\ndef f():\n    pass\n")),
    "option-of-the-wrong-type": Case(script=app('@app.function(cpu="two")\ndef f():\n    pass\n')),
    "option-gpu-unreadable": Case(script=app('@app.function(gpu="A100:many")\ndef f():\n    pass\n')),
    "name-taken": Case(
        script=app("""
            @app.function()
            def one():
                pass

            @app.function(name="one")
            def two():
                pass
        """)
    ),
    "name-of-an-app-impossible": Case(script='import relight\n\napp = relight.App("my shop!")\n'),
    "app-without-functions": Case(script=app("with app.run():\n    pass\n")),
    "called-while-not-running": Case(script=app("@app.function()\ndef f():\n    pass\n\nf.remote()\n")),
    "run-within-a-run": Case(
        script=app("@app.function()\ndef f():\n    pass\n\nwith app.run():\n    with app.run():\n        pass\n")
    ),
    "with-options-misspelt": Case(
        script=app("@app.function()\ndef f():\n    pass\n\nf.with_options(timeouts=3)\n"),
    ),
    "parameter-misspelt": Case(script=app(READER + '\nReader(sise=2).read.remote("a")\n')),
    "parameter-of-the-wrong-type": Case(script=app(READER + '\nReader(size="two").read.remote("a")\n')),
    "parameter-of-an-impossible-type": Case(
        script=app("""
            @app.cls()
            class Reader:
                tags: list = relight.parameter()

                @relight.method()
                def read(self):
                    return 1
        """)
    ),
    "include-that-is-not-there": Case(
        script="""
            import relight

            app = relight.App("wrong", include=["data/*.json"])

            @app.function()
            def f():
                pass

            with app.run():
                f.remote()
        """
    ),
    "function-by-value-that-cannot-go": Case(
        script=app("""
            import threading

            def make():
                lock = threading.Lock()

                @app.function(serialized=True)
                def guarded():
                    with lock:
                        return 1

                return guarded

            guarded = make()
            with app.run():
                guarded.remote()
        """)
    ),
    "run-in-the-worker": Case(
        script=app("""
            @app.function()
            def f():
                with app.run():
                    pass

            with app.run():
                f.remote()
        """)
    ),
    "name-of-relight-misspelt": Case(script="import relight\n\napp = relight.Ap()\n", is_users=True),
    "image-of-nothing": Case(script=app('@app.function(image="python:3.11")\ndef f():\n    pass\n')),
}
