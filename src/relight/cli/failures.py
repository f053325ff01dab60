"""What the user's code raised, shown as the user wants to read it: their frames, wherever they ran."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from relight.cli.main import USER_CODE_FAILED
from relight.protocol.errors import FunctionFailed, RelightError
from relight.sdk.frames import RemoteTraceback
from relight.settings import wants_traceback

_OWN = str(Path(__file__).parents[1])
_RUNPY = "<frozen runpy>"


@dataclass(slots=True)
class Outcome:
    """How a piece of user code went; `told` is what was shown of what it raised."""

    code: int = 0
    told: str = ""

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
        outcome.told = told(error, path)
        click.echo(outcome.told, err=True, nl=False)
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
    said = traceback.TracebackException.from_exception(error)
    _keep_users(said, path)
    return "".join(said.format())


def _keep_users(said: traceback.TracebackException, path: Path) -> None:
    """Leave out the frames of relight itself, and what called the user's file."""
    frames = [frame for frame in said.stack if not frame.filename.startswith((_OWN, _RUNPY))]
    first = next((at for at, frame in enumerate(frames) if frame.filename == str(path)), 0)
    said.stack[:] = frames[first:]
    for before in (said.__cause__, said.__context__):
        if before is not None:
            _keep_users(before, path)


def _code_of(leaving: SystemExit) -> int:
    if leaving.code is None or isinstance(leaving.code, int):
        return leaving.code or 0
    click.echo(str(leaving.code), err=True)
    return USER_CODE_FAILED
