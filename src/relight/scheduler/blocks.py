"""What may not begin, though it waits: apps, or all of a workspace, that somebody holds back.  What runs goes on."""

from __future__ import annotations

from collections.abc import Mapping

from relight.scheduler.state import Function


class Blocks:
    """The apps that are held back, each with its reason."""

    def __init__(self) -> None:
        self._why: dict[tuple[str, str], str] = {}

    def set(self, why: Mapping[tuple[str, str], str]) -> None:
        """From now on these (workspace, app) are, "" for all apps of one, for these reasons: `code: sentence`."""
        self._why = dict(why)

    def why(self, function: Function) -> str:
        """Why nothing of a function begins; "" when it may."""
        if not self._why:
            return ""
        spec = function.spec
        return self._why.get((spec.workspace, spec.app)) or self._why.get((spec.workspace, "")) or ""
