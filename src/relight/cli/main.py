"""`relight`: finds the command, and says what went wrong in one line.

Exit codes: 0 it worked · 1 the user's code failed · 2 the command was written wrongly · 3 relight could not do it ·
130 interrupted.
"""

from __future__ import annotations

import importlib
import sys
from typing import NoReturn

import click

from relight.protocol.errors import RelightError

USER_CODE_FAILED = 1
NOT_DONE = 3
INTERRUPTED = 130

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("up", "Start a server on this machine"),
    "run": ("run", "Run a file's function or entrypoint, on a server of its own when there is none"),
    "deploy": ("deploy", "Deploy a file's app, to be called from anywhere"),
    "call": ("call", "Call a deployed function"),
    "calls": ("calls", "List, show and cancel calls"),
    "ps": ("ps", "Show workers: their states, ages and calls"),
    "logs": ("logs", "Show what workers wrote"),
    "apps": ("apps", "Show what is deployed"),
    "stop": ("apps", "Stop an app"),
    "doctor": ("doctor", "Say what this machine permits, and what to do about it"),
    "token": ("token", "Print the server's URL and token"),
}
"""Each command: the module it is in, and what it does."""


class Commands(click.Group):
    """The table above as a click group; a command's module is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"relight.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, says) for name, (_, says) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="relight", message="relight %(version)s")
def cli() -> None:
    """relight: decorate a function, and it becomes a remote call."""


def main() -> NoReturn:
    """Run the command of this process, and leave with its exit code."""
    try:
        code = cli.main(prog_name="relight", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("relight: interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has left, as `head` does
        sys.exit(NOT_DONE)
    except (RelightError, OSError) as error:  # an OSError names what the machine refused, and where
        _tell(error)
        sys.exit(NOT_DONE)
    sys.exit(code if isinstance(code, int) else 0)


def _tell(error: RelightError | OSError) -> None:
    from relight.settings import wants_traceback

    if wants_traceback():
        raise error
    said = str(error) if isinstance(error, RelightError) else f"cannot go on: {error}"
    click.echo(f"relight: {said}", err=True)
