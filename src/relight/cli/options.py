"""Options that several commands have."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from relight.cli.main import Wishes

if TYPE_CHECKING:
    _Seconds = click.ParamType[float]
else:
    _Seconds = click.ParamType  # generic to a type checker only, before click 8.5

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def json_option(command: F) -> F:
    """`--json`: what the command says, and its errors, as JSON."""
    return click.option(
        "--json", "as_json", is_flag=True, callback=_note_json, is_eager=True, help="As JSON (docs/cli-json.md)."
    )(command)


def _note_json(context: click.Context, _option: click.Parameter, value: bool) -> bool:
    wishes = context.find_object(Wishes)
    if wishes is not None and value:
        wishes.as_json = True
    return value


class Duration(_Seconds):
    """`90s`, `15m`, `12h`, `30d`, `4w`; as seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds."""
        if isinstance(value, (int, float)):
            return float(value)
        found = _DURATION.fullmatch(str(value).strip().lower())
        if found is None:
            self.fail(f"{value!r} is no length of time; write 90s, 15m, 12h, 30d or 4w", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


class Moment(_Seconds):
    """`15m` (ago), or a time such as `2026-11-24T08:30`; as seconds since 1970, by the clock handed in."""

    name = "moment"

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The time."""
        if isinstance(value, (int, float)):
            return float(value)
        text = str(value).strip()
        found = _DURATION.fullmatch(text.lower())
        if found is not None:
            return self._now() - float(found[1]) * _UNITS[found[2]]
        try:
            at = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            self.fail(f"{value!r} is no time; write 15m, 2h or 3d (ago), or 2026-11-24T08:30", param, ctx)
        return at.timestamp()


def show_moment(at: float) -> str:
    """A time as people read it, in their own zone."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M")
