"""What failed starts say is shown once; everything else is shown as it comes."""

from __future__ import annotations

import pytest

from relight.protocol.views import LogRecord
from relight.sdk.repeats import ENDED, MOST_LINES, Repeats

TRACEBACK = ("Traceback (most recent call last):", "ImportError: no module")
FAILED = f"{ENDED}start_failed"


class Screen:
    """What a user sees."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.repeats = Repeats(lambda record: self.lines.append(record.text))

    def say(self, worker: str, *texts: str, call: str = "", function: str = "f") -> None:
        for text in texts:
            source = "system" if text.startswith(ENDED) else "stderr"
            self.repeats.tell(
                LogRecord(
                    at=1.0,
                    app="a",
                    environment="run-1",
                    function=function,
                    worker=worker,
                    call=call,
                    source=source,
                    text=text,
                )
            )


@pytest.fixture
def screen() -> Screen:
    return Screen()


def test_a_start_that_fails_as_the_one_before_it_is_counted(screen: Screen) -> None:
    for worker in ("w1", "w2", "w3"):
        screen.say(worker, *TRACEBACK, FAILED)
    screen.repeats.finish()

    assert screen.lines == [*TRACEBACK, FAILED, f"again 2 times: {FAILED}"]


def test_the_first_failure_is_shown_line_by_line(screen: Screen) -> None:
    screen.say("w1", TRACEBACK[0])

    assert screen.lines == [TRACEBACK[0]]


def test_workers_that_fail_at_the_same_time_are_told_apart(screen: Screen) -> None:
    screen.say("w1", *TRACEBACK, FAILED)
    for text in (*TRACEBACK, FAILED):
        screen.say("w2", text)
        screen.say("w3", text, function="g")
    screen.repeats.finish()

    assert screen.lines == [*TRACEBACK, FAILED, *TRACEBACK, FAILED, f"once more: {FAILED}"]


def test_a_start_that_fails_in_another_way_is_shown_whole_after_the_count_of_the_one_before(screen: Screen) -> None:
    screen.say("w1", *TRACEBACK, FAILED)
    screen.say("w2", *TRACEBACK, FAILED)
    screen.say("w3", TRACEBACK[0], "KeyError: 'x'", FAILED)
    screen.repeats.finish()

    assert screen.lines == [*TRACEBACK, FAILED, f"once more: {FAILED}", TRACEBACK[0], "KeyError: 'x'", FAILED]


def test_a_start_that_ends_earlier_than_the_one_before_is_shown(screen: Screen) -> None:
    screen.say("w1", "a", "b", FAILED)
    screen.say("w2", "a", FAILED)

    assert screen.lines == ["a", "b", FAILED, "a", FAILED]


def test_a_worker_that_starts_after_all_is_shown_from_its_first_line(screen: Screen) -> None:
    screen.say("w1", "loading", "ImportError: no module", FAILED)
    screen.say("w2", "loading")
    held = list(screen.lines)
    screen.say("w2", "working", call="call-1")
    screen.say("w2", "loading", call="call-2")

    assert held == ["loading", "ImportError: no module", FAILED]
    assert screen.lines == [*held, "loading", "working", "loading"]


def test_a_line_that_is_still_held_at_the_end_is_shown_then(screen: Screen) -> None:
    screen.say("w1", "loading", FAILED)
    screen.say("w2", "loading")
    screen.repeats.finish()

    assert screen.lines == ["loading", FAILED, "loading"]


def test_a_flood_is_shown_each_time(screen: Screen) -> None:
    flood = [str(number) for number in range(MOST_LINES + 1)]
    screen.say("w1", *flood, FAILED)
    screen.say("w2", *flood, FAILED)

    assert screen.lines == [*flood, FAILED] * 2
