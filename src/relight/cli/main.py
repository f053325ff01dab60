"""`relight`: finds the command, and says what went wrong in one line.

Exit codes: 0 it worked · 1 the user's code failed · 2 the command was written wrongly · 3 relight could not do it ·
4 `watch --once` has something to warn of · 130 interrupted.
"""

from __future__ import annotations

import difflib
import importlib
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import click

from relight.protocol.errors import RelightError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

USER_CODE_FAILED = 1
NOT_DONE = 3
WARNED = 4
INTERRUPTED = 130

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("up", "Start a server on this machine"),
    "run": ("run", "Run a file's function or entrypoint, on a server of its own when there is none"),
    "serve": ("serve", "Serve a file's app while you write it: each change as soon as it is saved"),
    "deploy": ("deploy", "Deploy a file's app, to be called from anywhere"),
    "call": ("call", "Call a deployed function"),
    "schema": ("schema", "Show what a function takes and gives"),
    "calls": ("calls", "List, show and cancel calls"),
    "ps": ("ps", "Show workers: their states, ages and calls"),
    "nodes": ("nodes", "Show machines: what they have, what of it is free, what GPUs do, and whether they are fit"),
    "scale": ("scale", "Show or change how many workers a function has, and why"),
    "queue": ("queue", "Show, hold and drop what waits of a function; rerun what failed"),
    "starts": ("starts", "Show how workers were started, how quickly, and why not quicker"),
    "cost": ("cost", "Show what was spent, and what it would have cost elsewhere"),
    "budget": ("cost", "Set, list and remove what may be spent in a month"),
    "invoice": ("cost", "Show what a month comes to"),
    "plan": ("advice", "Say what is cheapest for your traffic: flex, active or dedicated, how many, and where"),
    "watch": ("watch", "Warn where a function's workers should be held, are cold too often, or should sleep at night"),
    "simulate": ("advice", "Replay a trace under a grid of settings"),
    "rates": ("rates", "Show rate cards: what an hour costs, here and elsewhere"),
    "providers": ("rates", "Compare platforms: prices, cold starts, GPUs, what each is best for"),
    "logs": ("logs", "Show what workers wrote"),
    "apps": ("apps", "Show what is deployed"),
    "stop": ("apps", "Stop an app"),
    "versions": ("versions", "Show what was deployed when, by whom, and what serves"),
    "diff": ("versions", "Show what one version changes beside another"),
    "rollback": ("versions", "Lead an app's calls back to the version before"),
    "promote": ("versions", "Deploy to one environment what serves in another"),
    "canary": ("versions", "Lead more, or fewer, of an app's calls to its canary"),
    "git": ("git", "Deploy what is pushed to a branch"),
    "init": ("init", "Begin an app: write a file that runs"),
    "login": ("login", "Use a server elsewhere"),
    "profile": ("profile", "List, choose and forget the servers that were logged in to"),
    "token": ("token", "Show, make, list and revoke tokens"),
    "doctor": ("doctor", "Say whether this machine is fit, and what to do about what is not"),
    "completion": ("completion", "Print what a shell needs to complete commands"),
}
"""Each command: the module it is in, and what it does."""


@dataclass(slots=True)
class Wishes:
    """What the command line asked for that concerns its errors too."""

    as_json: bool = False


class Suggesting(click.Group):
    """A group that names the nearest right command when one is written wrongly."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            names = self.list_commands(ctx)
            near = difflib.get_close_matches(args[0], names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


class Commands(Suggesting):
    """The table above as a click group; a command's module is imported when it is asked for."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; end in silence when whoever read its output has left, as `head` does."""
        try:
            result: object = super().invoke(ctx)
        except BrokenPipeError:  # here: click would make it exit code 1, which is the user's code's
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be flushed goes nowhere
            sys.exit(NOT_DONE)
        return result

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

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """The names that begin so, without importing anything."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name, help=says) for name, (_, says) in COMMANDS.items() if name.startswith(incomplete)]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="relight", message="relight %(version)s")
@click.option("--profile", help="The server to speak to: a profile of `relight login`, or local.")
def cli(profile: str | None) -> None:
    """relight: decorate a function, and it becomes a remote call."""
    if profile:
        from relight.settings import choose_profile

        choose_profile(profile)


def main() -> NoReturn:
    """Run the command of this process, and leave with its exit code."""
    wishes = Wishes()
    try:
        code = cli.main(prog_name="relight", standalone_mode=False, obj=wishes)
    except click.ClickException as error:
        _tell("usage" if isinstance(error, click.UsageError) else "internal", _usage(error), wishes)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("relight: interrupted", err=True)
        sys.exit(INTERRUPTED)
    except (RelightError, OSError) as error:  # an OSError names what the machine refused, and where
        _raise_for_debugging(error)
        if isinstance(error, RelightError):
            _tell(error.code, str(error), wishes)
        else:
            _tell("internal", f"cannot go on: {error}", wishes)
        sys.exit(NOT_DONE)
    sys.exit(code if isinstance(code, int) else 0)


def _raise_for_debugging(error: RelightError | OSError) -> None:
    from relight.settings import wants_traceback

    if wants_traceback():
        raise error


def _tell(code: str, message: str, wishes: Wishes) -> None:
    """Say an error in one line; as JSON when the command was to speak JSON."""
    if wishes.as_json:
        click.echo(json.dumps({"error": {"code": code, "message": message}}, ensure_ascii=False), err=True)
    else:
        click.echo(f"relight: {message}", err=True)


def _usage(error: click.ClickException) -> str:
    """What click has to say, in our form."""
    said = error.format_message().strip().rstrip(".").replace("\n", " ")
    context = error.ctx if isinstance(error, click.UsageError) else None
    where = context.command_path if context is not None else "relight"
    end = " " if said.endswith("?") else "; "
    return f"cannot read the command: {said[:1].lower()}{said[1:]}{end}`{where} --help` says how it is written"
