"""What user code raised, as it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from relight.cli.failures import of_user_code, told
from relight.protocol.errors import NotFound, RemoteError
from relight.sdk.app import App
from relight.sdk.failures import RemoteTraceback

HERE = Path(__file__)
app = App("failures")


@app.function()
def divide(x: int) -> float:
    return x / 0


def test_a_remote_exception_is_shown_by_the_workers_traceback_alone(capsys: pytest.CaptureFixture[str]) -> None:
    error = ValueError("bad")
    error.__cause__ = RemoteTraceback('Traceback:\n  File "x.py", line 3\nValueError: bad')

    with of_user_code(HERE) as outcome:
        raise error

    assert outcome.code == 1
    assert capsys.readouterr().err == 'Traceback:\n  File "x.py", line 3\nValueError: bad\n'


def test_a_local_exception_is_shown_without_relights_own_frames(capsys: pytest.CaptureFixture[str]) -> None:
    with of_user_code(HERE) as outcome:
        divide.local(3)

    said = capsys.readouterr().err
    assert outcome.has_failed
    assert "return x / 0" in said
    assert "divide.local(3)" in said
    assert "sdk/function.py" not in said


def test_arguments_that_do_not_fit_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = TypeError("square() missing a required argument: 'x'")

    assert told(error, HERE) == "TypeError: square() missing a required argument: 'x'\n"


def test_what_relight_could_not_do_is_not_taken_for_the_users_failure() -> None:
    with pytest.raises(NotFound), of_user_code(HERE):
        raise NotFound("cannot find it: it is not there")


def test_a_function_that_raised_what_cannot_be_rebuilt_is_the_users_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with of_user_code(HERE) as outcome:
        raise RemoteError("the function raised X")

    assert outcome.code == 1
    assert "the function raised X" in capsys.readouterr().err


@pytest.mark.parametrize(("leaving", "code"), [(None, 0), (0, 0), (7, 7), ("no images", 1)])
def test_leaving_with_a_code_leaves_with_that_code(
    leaving: object, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with of_user_code(HERE) as outcome:
        raise SystemExit(leaving)

    assert outcome.code == code
    assert capsys.readouterr().err == ("no images\n" if leaving == "no images" else "")


def test_debug_shows_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELIGHT_DEBUG", "1")
    error = ValueError("bad")
    error.__cause__ = RemoteTraceback("there")

    assert "direct cause" in told(error, HERE)
