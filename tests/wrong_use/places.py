"""Servers that are not there, or do not know what is asked, and tokens that do not open."""

from __future__ import annotations

from wrong_use.harness import Case, app

CALL = "import relight\n\nrelight.Function.from_name({names}).remote(3)\n"
F = "@app.function()\ndef f():\n    return 1\n\n"


def named(*names: str) -> Case:
    """A call of a deployed function by its name."""
    return Case(script=CALL.replace("{names}", ", ".join(map(repr, names))))


CASES = {
    "app-not-deployed": named("shup", "square"),
    "function-not-deployed": named("shop", "sqare"),
    "method-not-deployed": named("shop", "Reader.rad"),
    "class-called-as-a-function": named("shop", "Reader"),
    "environment-not-deployed-to": named("shop", "square", "staging"),
    "deployed-class-parameter-misspelt": Case(
        script='import relight\n\nrelight.Cls.from_name("shop", "Reader")(sise=2).read.remote("a")\n'
    ),
    "deployed-function-called-wrongly": Case(
        script='import relight\n\nrelight.Function.from_name("shop", "square").remote(y=3)\n'
    ),
    "call-by-a-nonsense-id": Case(script='import relight\n\nrelight.Call.from_id("thing").get()\n'),
    "call-by-an-unknown-id": Case(
        script='import relight\n\nrelight.Call.from_id("call-00000000000000000000000000").get()\n'
    ),
    "no-server": Case(
        script=CALL.replace("{names}", '"shop", "square"'), environ={"RELIGHT_DATA_DIR": "{folder}/none"}
    ),
    "url-unreadable": Case(script=CALL.replace("{names}", '"shop", "square"'), environ={"RELIGHT_URL": "localhost"}),
    "url-where-nobody-listens": Case(
        script=CALL.replace("{names}", '"shop", "square"'), environ={"RELIGHT_URL": "http://127.0.0.1:{free}"}
    ),
    "url-of-somebody-else": Case(
        script=CALL.replace("{names}", '"shop", "square"'), environ={"RELIGHT_URL": "http://127.0.0.1:{other}"}
    ),
    "token-missing": Case(script=CALL.replace("{names}", '"shop", "square"'), environ={"RELIGHT_URL": "{url}"}),
    "token-wrong": Case(
        script=CALL.replace("{names}", '"shop", "square"'), environ={"RELIGHT_URL": "{url}", "RELIGHT_TOKEN": "guess"}
    ),
    "token-expired": Case(
        script=CALL.replace("{names}", '"shop", "square"'),
        environ={"RELIGHT_URL": "{url}", "RELIGHT_TOKEN": "{expired}"},
    ),
    "token-without-scope": Case(
        script=app(F + "app.deploy()\n"), environ={"RELIGHT_URL": "{url}", "RELIGHT_TOKEN": "{caller}"}
    ),
    "token-for-another-app": Case(
        script=CALL.replace("{names}", '"shop", "square"'),
        environ={"RELIGHT_URL": "{url}", "RELIGHT_TOKEN": "{foreign}"},
    ),
    "profile-that-is-not-there": Case(
        script=CALL.replace("{names}", '"shop", "square"'), environ={"RELIGHT_PROFILE": "prod"}
    ),
    "server-gone-in-the-middle": Case(
        script=app("""
            import time

            @app.function()
            def slow():
                time.sleep(60)

            with app.run():
                call = slow.spawn()
                app.session("f").connection.embedded._process.kill()
                call.get()
        """),
        environ={"RELIGHT_DATA_DIR": "{folder}/own"},
    ),
}
