"""A failed call as an exception here: the one that was raised there, with its traceback as the cause."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relight.protocol.calls import CallState, CallView
from relight.protocol.errors import (
    CallCancelled,
    CallExpired,
    Failure,
    FunctionTimeout,
    RelightError,
    RemoteError,
    ValueNotPortable,
    error_of,
)
from relight.protocol.payload import Payload
from relight.protocol.values import load_exception, load_result
from relight.sdk.frames import RemoteTraceback

_WHY_NOT_SENT = dict.fromkeys(("SystemExit", "KeyboardInterrupt", "GeneratorExit"), "it would end this process too")


def outcome_of(view: CallView, payload: Payload | None, aliases: Mapping[str, str]) -> Any:
    """What an ended call returned; raises what it raised.  `payload` is its result with its bytes."""
    if view.state is CallState.SUCCEEDED:
        return load_result(payload, None, aliases) if payload is not None else None
    raise exception_of(view, aliases)


def exception_of(view: CallView, aliases: Mapping[str, str]) -> Exception:
    """The exception that a call which did not succeed stands for."""
    failure = view.failure
    if failure is None:
        return _bare(view)
    error: Exception
    if failure.exception is None and failure.code == "function_failed":
        error = RemoteError(_not_raised(failure, _WHY_NOT_SENT.get(failure.type_name, "it cannot be pickled")))
    elif failure.exception is None:
        error = error_of(failure)
    else:
        error = _rebuilt(failure, failure.exception, aliases)
    if failure.traceback:
        error.__cause__ = RemoteTraceback(failure.traceback)
    return error


def _rebuilt(failure: Failure, exception: Payload, aliases: Mapping[str, str]) -> Exception:
    try:
        return load_exception(exception, aliases)
    except ValueNotPortable as error:
        why = str(error.__cause__) if error.__cause__ is not None else str(error)
        return RemoteError(_not_raised(failure, f"it cannot be rebuilt here: {why}"))


def _not_raised(failure: Failure, why: str) -> str:
    return (
        f"cannot raise {failure.type_name or 'what the function raised'}: {why}; "
        f"catch relight.RemoteError, or raise another; what it said: {failure.message}"
    )


def _bare(view: CallView) -> RelightError:
    kinds: dict[CallState, type[RelightError]] = {
        CallState.CANCELLED: CallCancelled,
        CallState.TIMED_OUT: FunctionTimeout,
        CallState.EXPIRED: CallExpired,
    }
    return kinds.get(view.state, RemoteError)(
        f"cannot give the result of {view.id}: it {view.state.value.replace('_', ' ')}; call again to have one"
    )
