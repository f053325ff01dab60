"""Tracebacks without relight's own frames, for errors that were raised on purpose."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from relight.protocol.errors import NotFound
from relight.sdk import frames
from relight.sdk.app import App
from relight.sdk.frames import RemoteTraceback, hide_own_frames, is_told
from relight.sdk.function import Fit
from relight.sdk.uncaught import hide_own_frames_of_uncaught

OWN = str(Path(frames.__file__).parents[1])
app = App("frames")


def raised(act: Callable[[], object]) -> BaseException:
    """What a piece of code raises."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - each test says which it is
        act()
    return caught.value


def files(error: BaseException) -> list[str]:
    """The files of its frames, outermost first."""
    return [frame.filename for frame in traceback.extract_tb(error.__traceback__)]


def not_a_function() -> None:
    """A wrong use, in a frame of the user's."""
    app.function()("text")  # type: ignore[call-overload]  # that is what is wrong


def in_a_context_manager() -> None:
    """The same, within a function of the standard library."""
    with app.run():
        pass


def test_of_an_error_of_relights_the_users_frames_are_left() -> None:
    error = raised(not_a_function)
    assert any(file.startswith(OWN) for file in files(error))

    hide_own_frames(error)

    assert set(files(error)) == {__file__}
    assert traceback.extract_tb(error.__traceback__)[-1].name == "not_a_function"


def test_what_the_standard_library_does_for_relight_goes_with_it() -> None:
    error = raised(in_a_context_manager)

    hide_own_frames(error)

    assert set(files(error)) == {__file__}


def test_what_only_says_the_same_in_other_words_is_left_out() -> None:
    def act() -> None:
        try:
            Fit(not_a_function)(1)
        except TypeError as error:
            error.__traceback__ = None
            raise NotFound("cannot find it: it is not there") from error

    error = raised(act)

    hide_own_frames(error)

    assert (error.__cause__, error.__context__) == (None, None)


def test_the_users_own_cause_stays() -> None:
    def act() -> None:
        try:
            not_a_function()
        except Exception as error:
            raise KeyError("mine") from error

    error = raised(act)

    hide_own_frames(error)

    assert error.__cause__ is not None
    assert set(files(error.__cause__)) == {__file__}


def test_a_traceback_from_elsewhere_stays() -> None:
    error = NotFound("cannot find it: it is not there")
    error.__cause__ = RemoteTraceback("Traceback: there")

    hide_own_frames(error)

    assert isinstance(error.__cause__, RemoteTraceback)
    assert "Traceback: there" in str(error.__cause__)


def test_where_relight_itself_breaks_all_is_shown() -> None:
    error = raised(lambda: Fit(None)())  # type: ignore[arg-type]  # what only a mistake of ours could do
    before = files(error)

    hide_own_frames(error)

    assert not is_told(error)
    assert files(error) == before


def test_causes_in_a_circle_end() -> None:
    first, second = ValueError("one"), ValueError("two")
    first.__context__, second.__context__ = second, first

    hide_own_frames(first)

    assert first.__context__ is second


@pytest.fixture
def _pythons_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)


@pytest.mark.usefixtures("_pythons_hooks")
def test_what_nobody_catches_is_shown_without_relights_frames(capsys: pytest.CaptureFixture[str]) -> None:
    error = raised(not_a_function)
    hide_own_frames_of_uncaught()

    sys.excepthook(type(error), error, error.__traceback__)

    said = capsys.readouterr().err
    assert "relight.InvalidRequest: cannot decorate 'text'" in said
    assert "in not_a_function" in said
    assert OWN not in said


@pytest.mark.usefixtures("_pythons_hooks")
def test_debugging_shows_them(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELIGHT_DEBUG", "1")
    error = raised(not_a_function)
    hide_own_frames_of_uncaught()

    sys.excepthook(type(error), error, error.__traceback__)

    assert f"{OWN}/sdk/app.py" in capsys.readouterr().err


def test_who_has_a_hook_of_their_own_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", print)
    monkeypatch.setattr(threading, "excepthook", print)

    hide_own_frames_of_uncaught()

    assert sys.excepthook is print
    assert threading.excepthook is print
