"""What the user's code raised, shown as the user wants to read it: their frames, wherever they ran."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import click

from relight.cli.main import USER_CODE_FAILED
from relight.protocol.errors import FunctionFailed, RelightError
from relight.sdk.failures import RemoteTraceback
from relight.settings import wants_traceback


@dataclass(slots=True)
class Outcome:
    """How a piece of user code went."""

    code: int = 0

    @property
    def has_failed(self) -> bool:
        """Whether it raised, or asked to leave with a code."""
        return self.code != 0


@contextmanager
def of_user_code(path: Path) -> Iterator[Outcome]:
    """Run user code: what it raises is shown, and becomes an exit code.  Errors of relight's own go on."""
    outcome = Outcome()
    try:
        yield outcome
    except SystemExit as leaving:
        outcome.code = _code_of(leaving)
    except (click.ClickException, click.Abort):
        raise
    except Exception as error:  # the boundary of the user's code: anything may come out of it
        if _is_ours(error):
            raise
        click.echo(told(error, path), err=True, nl=False)
        outcome.code = USER_CODE_FAILED


def _is_ours(error: Exception) -> bool:
    """Whether it is what relight could not do, rather than what a function raised."""
    return (
        isinstance(error, RelightError) and not isinstance(error, FunctionFailed) and not _has_remote_traceback(error)
    )


def _has_remote_traceback(error: Exception) -> bool:
    return isinstance(error.__cause__, RemoteTraceback)


def told(error: Exception, path: Path) -> str:
    """An exception as text: of a remote one the traceback of the worker, of a local one that from the user's file on."""
    if wants_traceback():
        return "".join(traceback.format_exception(error))
    if isinstance(error.__cause__, RemoteTraceback):
        return error.__cause__.text.rstrip("\n") + "\n"
    trace = _from_file(error.__traceback__, path)
    return "".join(traceback.format_exception(type(error), error, trace))


def _from_file(trace: TracebackType | None, path: Path) -> TracebackType | None:
    at = trace
    while at is not None:
        if at.tb_frame.f_code.co_filename == str(path):
            return at
        at = at.tb_next
    return None if trace is None or trace.tb_next is None else trace


def _code_of(leaving: SystemExit) -> int:
    if leaving.code is None or isinstance(leaving.code, int):
        return leaving.code or 0
    click.echo(str(leaving.code), err=True)
    return USER_CODE_FAILED
