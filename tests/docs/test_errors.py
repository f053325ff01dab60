"""The page of errors has each of them, as it is."""

from __future__ import annotations

import re
from pathlib import Path

import relight
from relight.protocol.errors import ERRORS, RelightError

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \| (\d+) \| (yes|no) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def rows() -> dict[str, tuple[list[str], int, bool]]:
    """Each code of the table: its classes, its status, and whether to try again may help."""
    return {
        code: (re.findall(r"\w+", classes), int(status), again == "yes")
        for code, classes, status, again, _, _ in ROW.findall(PAGE)
    }


def test_every_code_is_on_the_page_with_its_class_its_status_and_whether_to_try_again() -> None:
    told = {code: (status, again) for code, (_, status, again) in rows().items()}

    assert told == {code: (error.status, error.retryable) for code, error in ERRORS.items()}


def test_the_classes_of_a_code_are_those_that_people_can_catch() -> None:
    for code, (names, _, _) in rows().items():
        assert ERRORS[code].__name__ in names
        for name in names:
            kind = getattr(relight, name)
            assert issubclass(kind, RelightError)
            assert kind.code == code
