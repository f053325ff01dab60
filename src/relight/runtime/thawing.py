"""Making a fork unlike its siblings."""

from __future__ import annotations

import random


def thaw(cpu: float | None) -> None:
    """In the child, before user code."""
    random.seed()
