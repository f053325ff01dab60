"""What sets some calls of a function apart from others, as the text that travels with each."""

from __future__ import annotations

from relight.protocol.binding import parse_binding, text_of
from relight.protocol.manifest import Binding, Json

Pairs = tuple[tuple[str, Json], ...]


def binding_text(parameters: Pairs, options: Pairs) -> str:
    """The text of parameters and options, "" for neither."""
    if not parameters and not options:
        return ""  # most calls
    return text_of(Binding(parameters=parameters, options=options))


def with_more_options(binding: str, options: Pairs) -> str:
    """A binding with these options beside, or instead of, those it has."""
    before = parse_binding(binding)
    return binding_text(before.parameters, merged(before.options, options))


def merged(before: Pairs, after: Pairs) -> Pairs:
    """Options, of which later ones win; variables and tags add up."""
    made = dict(before)
    for name, value in after:
        there = made.get(name)
        adds_up = name in ("env", "tags") and isinstance(there, list) and isinstance(value, list)
        made[name] = [*there, *value] if adds_up and isinstance(there, list) and isinstance(value, list) else value
    return tuple(made.items())
