"""Bindings, checked and applied: which workers of a function a call is for, and how those differ from the others.

Nothing of a binding is believed: it is the text of whoever submits.  What comes out of `bind` is canonical: a value that
is the default is left out, so that `Model()` and `Model(size="7b")` share workers where "7b" is the default.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from relight.control.limits import check_limits
from relight.protocol.binding import TYPES, from_json, parse_binding, text_of, to_json
from relight.protocol.codec import from_plain, to_plain
from relight.protocol.errors import InvalidRequest, ProtocolError
from relight.protocol.manifest import Binding, ClassParameter, FunctionSpec, Json

OPTIONS: Mapping[str, str] = {
    "cpu": "resources",
    "memory_mib": "resources",
    "ephemeral_disk_mib": "resources",
    "gpu": "resources",
    "min_workers": "scaling",
    "max_workers": "scaling",
    "buffer_workers": "scaling",
    "scaledown_window_seconds": "scaling",
    "retries": "",
    "timeout_seconds": "",
    "startup_timeout_seconds": "",
    "queue_timeout_seconds": "",
    "grace_seconds": "",
    "network": "",
    "env": "",
    "tags": "",
}
"""The fields of a spec that a call may replace, and the part of it they are in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A function as some of its workers have it: its spec with the options, and the values they make their object with."""

    text: str
    function: FunctionSpec
    parameters: tuple[tuple[str, Json], ...] = ()


def unbound(spec: FunctionSpec) -> Bound:
    """The workers of whoever says nothing; none are kept ready where something must be said."""
    if any(parameter.required for parameter in spec.parameters):
        spec = replace(spec, scaling=replace(spec.scaling, min_workers=0, buffer_workers=0))
    return Bound(text="", function=spec)


def bind(spec: FunctionSpec, text: str) -> Bound:
    """The workers that a binding asks for.  Raises InvalidRequest saying what of it cannot be."""
    try:
        said = parse_binding(text)
    except ValueError as error:
        raise InvalidRequest(f"cannot call {spec.name}: its binding cannot be read: {error}; send another") from None
    parameters = _checked_parameters(spec, dict(said.parameters))
    _check_option_names(spec, said.options)
    bound = spec_with(spec, said.options)
    is_changed = bound != spec
    if not parameters and not is_changed:
        return unbound(spec)
    if "min_workers" not in dict(said.options):
        bound = replace(bound, scaling=replace(bound.scaling, min_workers=0))  # the floor is that of the others
    check_limits(bound, f"cannot call {spec.name}")
    canonical = Binding(parameters=parameters, options=said.options if is_changed else ())
    return Bound(text=_text(spec, canonical), function=bound, parameters=parameters)


def spec_with(spec: FunctionSpec, options: tuple[tuple[str, Json], ...]) -> FunctionSpec:
    """The spec with these fields replaced; variables and tags are added to those there.  Raises InvalidRequest for a wrong type."""
    if not options:
        return spec
    plain = to_plain(spec)
    assert isinstance(plain, dict), "a dataclass becomes an object"
    for name, value in options:
        part = plain if not OPTIONS[name] else plain.setdefault(OPTIONS[name], {})
        assert isinstance(part, dict), "a section of a spec is an object"
        part[name] = value
    try:
        made = from_plain(plain, FunctionSpec)
    except (ProtocolError, RecursionError) as error:
        names = ", ".join(name for name, _ in options)
        raise InvalidRequest(
            f"cannot call {spec.name}: its options ({names}) are not of their types: {error}"
        ) from None
    env, tags = {**dict(spec.env), **dict(made.env)}, {**dict(spec.tags), **dict(made.tags)}
    return replace(made, env=tuple(sorted(env.items())), tags=tuple(sorted(tags.items())))


def check_parameters(spec: FunctionSpec) -> None:
    """Raise InvalidRequest when the parameters that a manifest gives a class cannot be."""
    for parameter in spec.parameters:
        if parameter.type not in TYPES:
            raise InvalidRequest(
                f"cannot deploy {spec.name!r}: its parameter {parameter.name!r} is of type {parameter.type!r}, "
                f"which is none of {', '.join(TYPES)}"
            )
        if not parameter.required:
            _checked_value(spec, parameter, parameter.default)


def _checked_parameters(spec: FunctionSpec, said: Mapping[str, Json]) -> tuple[tuple[str, Json], ...]:
    """The values that are not the defaults.  Raises InvalidRequest for one that is missing, unknown or of another type."""
    known = {parameter.name: parameter for parameter in spec.parameters}
    for name in said:
        if name not in known:
            raise InvalidRequest(f"cannot make a {spec.name}: it has no parameter {name!r}{_instead(name, known)}")
    for parameter in spec.parameters:
        if parameter.required and parameter.name not in said:
            raise InvalidRequest(
                f"cannot make a {spec.name}: its parameter {parameter.name!r} has no value and no default; "
                f"give it, as in {spec.name}({parameter.name}=…)"
            )
    values = {name: _checked_value(spec, known[name], value) for name, value in said.items()}
    return tuple(
        (name, value) for name, value in sorted(values.items()) if known[name].required or value != known[name].default
    )


def _checked_value(spec: FunctionSpec, parameter: ClassParameter, said: Json) -> Json:
    try:
        return to_json(parameter.type, from_json(parameter.type, said))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"cannot make a {spec.name}: its parameter {parameter.name!r} cannot be set: {error}; "
            f"give it a value of type {parameter.type}"
        ) from None


def _check_option_names(spec: FunctionSpec, options: tuple[tuple[str, Json], ...]) -> None:
    for name, _ in options:
        if name not in OPTIONS:
            raise InvalidRequest(
                f"cannot call {spec.name} with another {name!r}: that is not an option of a call{_instead(name, OPTIONS)}"
            )


def _text(spec: FunctionSpec, binding: Binding) -> str:
    try:
        return text_of(binding)
    except ValueError as error:
        raise InvalidRequest(f"cannot call {spec.name}: its binding cannot be kept: {error}; send another") from None


def _instead(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; it has {', '.join(map(repr, known))}" if known else "; it has none"
