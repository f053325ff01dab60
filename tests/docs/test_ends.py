"""docs/ends.md names every way in which a worker can end, and says truly what is held against a function."""

from __future__ import annotations

import re
from pathlib import Path

from relight.protocol.exits import EXITS, rule_of

PAGE = Path(__file__).parents[2] / "docs" / "ends.md"
ROWS = re.findall(r"^\| `([^`]+)` \| .* \| (yes|no) \|$", PAGE.read_text(), re.MULTILINE)


def test_every_reason_has_a_row_and_every_row_a_reason() -> None:
    assert sorted(name.partition(":<")[0] for name, _ in ROWS) == sorted(EXITS)


def test_what_is_held_against_a_function_is_said() -> None:
    assert [name for name, held in ROWS if rule_of(name).is_own_fault is not (held == "yes")] == []
