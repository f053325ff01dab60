"""Code that is in no file, as a notebook's and the REPL's is, and files that are not what they are said to be."""

from __future__ import annotations

from textwrap import dedent

from wrong_use.harness import Ask, Case, app

TYPED = ("python", "-")


def typed(body: str) -> str:
    """What is typed rather than kept in a file."""
    return app(dedent(body))


CASES = {
    "typed-function-that-raises": Case(
        command=TYPED,
        stdin=typed("""
            @app.function()
            def halve(x):
                if x % 2:
                    raise ValueError(f"{x} is odd")
                return x // 2

            with app.run():
                halve.remote(3)
        """),
        is_users=True,
    ),
    "typed-function-that-uses-what-cannot-go": Case(
        command=TYPED,
        stdin=typed("""
            import threading
            lock = threading.Lock()

            @app.function()
            def count():
                with lock:
                    return 1

            with app.run():
                count.remote()
        """),
    ),
    "typed-function-that-takes-too-much-along": Case(
        command=TYPED,
        stdin=typed("""
            table = bytes(70 * 1024 * 1024)

            @app.function()
            def look_up(at):
                return table[at]

            with app.run():
                look_up.remote(3)
        """),
    ),
    "typed-function-called-while-not-running": Case(
        command=TYPED,
        stdin=typed("""
            @app.function()
            def square(x):
                return x * x

            square.remote(3)
        """),
    ),
    "typed-function-that-misses-a-package": Case(
        command=TYPED,
        stdin=typed("""
            @app.function()
            def use():
                import nowhere_to_be_found

            with app.run():
                use.remote()
        """),
        is_users=True,
    ),
    "file-of-nothing": Case(script='import relight\n\nrelight.File("nowhere.png")\n'),
    "file-of-a-folder": Case(script='import relight\n\nrelight.File(".")\n'),
    "file-of-a-text": Case(script='import relight\n\nrelight.File.from_bytes("the text itself")\n'),
    "file-of-an-open-file": Case(
        script='import relight\n\nwith open("script.py") as opened:\n    relight.File(opened)\n',
    ),
    "file-that-has-gone": Case(
        script=app("""
            from pathlib import Path

            @app.function()
            def measure(page: relight.File) -> int:
                return page.size

            Path("page.txt").write_text("a page")
            page = relight.File("page.txt")
            Path("page.txt").unlink()
            with app.run():
                measure.remote(page)
        """),
    ),
    "file-at-an-http-url": Case(script='import relight\n\nrelight.File.from_url("http://localhost/page.txt")\n'),
    "file-in-json-that-is-none": Case(
        ask=Ask(path="/v1/apps/shop/functions/measure/call", body=b'{"page": "page.txt"}'),
    ),
    "file-for-an-option-that-is-not-there": Case(command=("relight", "call", "shop/measure", "--page", "nowhere.txt")),
}
