"""Bars: drawn once a map takes its time, on a terminal, and gone when it is over."""

from __future__ import annotations

import io

from rich.console import Console

from relight.cli.progress import PATIENCE_SECONDS, Bars, bars_on_a_terminal
from relight.sdk import progress


class FakeClock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing sleeps here")


def bars() -> tuple[Bars, FakeClock, io.StringIO]:
    clock, screen = FakeClock(), io.StringIO()
    return Bars(Console(file=screen, force_terminal=True, width=80), clock), clock, screen


def test_a_map_that_ends_soon_is_not_drawn() -> None:
    shown, clock, screen = bars()

    bar = shown.begin("square")
    clock.at = PATIENCE_SECONDS / 2
    bar.tell(20, 20, 20)
    bar.end()
    shown.close()

    assert screen.getvalue() == ""


def test_a_map_that_takes_its_time_is_drawn_as_far_as_it_is() -> None:
    shown, clock, screen = bars()
    bar = shown.begin("sq[u]are")

    clock.at = PATIENCE_SECONDS
    bar.tell(20, 3, None)
    bar.tell(20, 7, 20)
    shown.close()

    assert "sq[u]are" in screen.getvalue()
    assert "7/20" in screen.getvalue()


def test_each_map_has_a_bar_of_its_own_until_it_ends() -> None:
    shown, clock, screen = bars()
    first, second = shown.begin("first"), shown.begin("second")
    clock.at = PATIENCE_SECONDS
    first.tell(5, 1, 5)
    second.tell(9, 2, 9)

    first.end()
    screen.truncate(0)
    second.tell(9, 3, 9)
    shown.close()

    assert "3/9" in screen.getvalue()
    assert "first" not in screen.getvalue()


def test_in_a_pipe_nothing_is_set_to_show_maps() -> None:
    with bars_on_a_terminal():
        assert type(progress.begin("square")).__name__ == "_Nobody"


def test_maps_are_shown_by_whom_the_block_says_and_by_nobody_after() -> None:
    shown, _, _ = bars()

    with progress.showing(shown):
        inside = progress.begin("square")
    outside = progress.begin("square")

    assert (type(inside).__name__, type(outside).__name__) == ("Bar", "_Nobody")
