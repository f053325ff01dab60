"""The tables of the documents are what the code computes now.  To make them so: `python tests/docs/test_computed.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from relight.planner.guide import TABLES, refresh

DOCS = Path(__file__).parents[2] / "docs"
COMPUTED = ("costs.md", "flex-active-dedicated.md")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPUTED)
def test_the_tables_of_a_document_are_computed(name: str) -> None:
    page = (DOCS / name).read_text()

    assert refresh(page) == page


def test_every_table_is_in_a_document() -> None:
    pages = "".join((DOCS / name).read_text() for name in COMPUTED)

    assert [name for name in TABLES if f"<!-- {name}: begin -->" not in pages] == []


if __name__ == "__main__":
    for name in COMPUTED:
        (DOCS / name).write_text(refresh((DOCS / name).read_text()))
