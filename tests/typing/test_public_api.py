"""The public API means to a type checker what it does."""

from __future__ import annotations

from pathlib import Path

import pytest
from mypy import api

HERE = Path(__file__).parent


@pytest.mark.slow
def test_the_public_api_is_typed() -> None:
    root = HERE.parent.parent

    said, errors, code = api.run(
        [
            "--strict",
            "--python-version",
            "3.11",
            "--config-file",
            str(root / "pyproject.toml"),
            str(HERE / "public_api.py"),
            str(HERE / "classes.py"),
        ]
    )

    assert (code, errors) == (0, ""), said
