"""Wrong uses: each says what cannot be done, why, and what to do, and shows nothing of relight's own code.

`pytest tests/wrong_use --update-golden` writes down anew what they say.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wrong_use import arguments, commands, decorators, failures, places, web, workers
from wrong_use.harness import OWN, Case, Place, told

GOLDEN = Path(__file__).parent / "golden"
ALL: dict[str, Case] = {
    **arguments.CASES,
    **decorators.CASES,
    **failures.CASES,
    **workers.CASES,
    **places.CASES,
    **commands.CASES,
    **web.CASES,
}
FORM = re.compile(r"\bcannot .+?: .+(; |\?)", re.DOTALL)


@pytest.mark.parametrize("name", ALL)
def test_a_wrong_use_says_what_why_and_what_next(name: str, place: Place, request: pytest.FixtureRequest) -> None:
    case = ALL[name]
    golden = GOLDEN / f"{name}.txt"

    said = told(case, place)

    if request.config.getoption("--update-golden"):
        golden.write_text(said, encoding="utf-8")
    assert "\nexit code 0\n" not in said
    assert OWN not in said
    assert "src/relight/" not in said
    assert case.is_users or FORM.search(said)
    assert said == golden.read_text(encoding="utf-8")


def test_there_are_as_many_as_were_promised() -> None:
    assert len(ALL) >= 34
    assert sorted(ALL) == sorted(path.stem for path in GOLDEN.glob("*.txt"))
