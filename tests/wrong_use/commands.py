"""Commands that are written wrongly, and servers that cannot start."""

from __future__ import annotations

from wrong_use.harness import Case, app

TWO = app("""
    @app.function()
    def square(x: int) -> int:
        return x * x

    @app.function()
    def cube(x: int) -> int:
        return x**3
""")
ONE = app("@app.function()\ndef square(x: int) -> int:\n    return x * x\n")

CASES = {
    "command-misspelt": Case(command=("relight", "deplyo", "shop.py")),
    "subcommand-misspelt": Case(command=("relight", "calls", "lst")),
    "command-option-misspelt": Case(command=("relight", "ps", "--jsn")),
    "memory-out-of-range": Case(
        script=app("@app.function(memory=1)\ndef f():\n    return 1\n"), command=("relight", "deploy", "script.py")
    ),
    "strategy-misspelt": Case(script=ONE, command=("relight", "deploy", "script.py", "--strategy", "recrate")),
    "strategy-with-a-canary": Case(
        script=ONE, command=("relight", "deploy", "script.py", "--strategy", "recreate", "--canary", "10")
    ),
    "shadow-of-nothing": Case(script=ONE, command=("relight", "deploy", "script.py", "--strategy", "shadow")),
    "file-not-there": Case(command=("relight", "run", "nothing.py")),
    "file-with-a-syntax-error": Case(script="def f(:\n    pass\n", command=("relight", "run", "script.py")),
    "file-without-an-app": Case(script="x = 1\n", command=("relight", "run", "script.py")),
    "file-without-a-function": Case(script=app(""), command=("relight", "run", "script.py")),
    "file-that-raises": Case(script="import relight\n1 / 0\n", command=("relight", "run", "script.py"), is_users=True),
    "file-whose-import-fails": Case(
        script="import nowhere_to_be_found\n", command=("relight", "deploy", "script.py"), is_users=True
    ),
    "function-not-in-the-file": Case(script=TWO, command=("relight", "run", "script.py::sqare")),
    "function-not-chosen": Case(script=TWO, command=("relight", "run", "script.py")),
    "run-option-misspelt": Case(script=ONE, command=("relight", "run", "script.py", "--y", "3")),
    "run-option-missing": Case(script=ONE, command=("relight", "run", "script.py")),
    "run-option-of-the-wrong-type": Case(script=ONE, command=("relight", "run", "script.py", "--x", "three")),
    "call-without-a-function": Case(command=("relight", "call", "shop")),
    "call-of-an-unknown-function": Case(command=("relight", "call", "shop/sqare", "--x", "3")),
    "call-of-an-unknown-app": Case(command=("relight", "call", "shup/square", "--x", "3")),
    "call-with-the-wrong-type": Case(command=("relight", "call", "shop/square", "--x", "three")),
    "call-with-an-input-out-of-range": Case(command=("relight", "call", "shop/resize", "--width", "1000")),
    "call-with-a-choice-misspelt": Case(command=("relight", "call", "shop/resize", "--width", "10", "--mode", "fil")),
    "call-with-malformed-json": Case(command=("relight", "call", "shop/square", "--json", "{x: 3}")),
    "calls-show-of-an-unknown-call": Case(command=("relight", "calls", "show", "call-00000000000000000000000000")),
    "stop-of-an-unknown-app": Case(command=("relight", "stop", "shup")),
    "error-as-json": Case(command=("relight", "calls", "show", "call-00000000000000000000000000", "--json")),
    "setting-misspelt": Case(command=("relight", "up", "--data-dir", "{folder}/d"), environ={"RELIGHT_PROT": "8700"}),
    "setting-out-of-range": Case(command=("relight", "up", "--data-dir", "{folder}/d", "--port", "99999")),
    "data-folder-locked": Case(command=("relight", "up", "--data-dir", "{data}", "--port", "0")),
    "data-folder-not-writable": Case(
        script=ONE, command=("relight", "up", "--data-dir", "{folder}/script.py/data", "--port", "0")
    ),
    "port-taken": Case(command=("relight", "up", "--data-dir", "{folder}/d", "--port", "{taken}", "--no-agent")),
    "init-over-a-file": Case(script=ONE, command=("relight", "init", "script.py")),
}
