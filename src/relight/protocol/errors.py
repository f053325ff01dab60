"""The one tree of errors, and the table that carries them over a wire.

Each class has a stable `code` (part of the API), an HTTP `status`, and says whether trying again may help.  The
names say whose fault it is.  Messages have one form: *cannot <what>: <why, with the values>; <what to do>.*
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from relight.protocol.exits import WorkerExit
from relight.protocol.payload import Payload


class RelightError(Exception):
    """The root of everything relight raises on purpose.  `exit` is how the worker ended, where one did over it."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    exit: WorkerExit | None = None

    def __init_subclass__(cls) -> None:
        _say_public_name(cls)


def _say_public_name(error: type[RelightError]) -> None:
    """Show it, and pickle it, as `relight.NotFound`: the name by which people catch it."""
    if error.__module__ == __name__:
        error.__module__ = "relight"


_say_public_name(RelightError)


# -- the caller's


class InvalidRequest(RelightError):
    """What was asked has no meaning here."""

    code, status = "invalid_request", 400


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFault:
    """What is wrong with one part of an input.  `pointer` says which, as a JSON pointer ("/items/0"; "" is the whole)."""

    pointer: str
    detail: str


class InvalidInput(InvalidRequest):
    """An argument is not what the function asks for; `errors` says which, and why."""

    code, status = "invalid_input", 422

    def __init__(self, message: str, errors: tuple[InputFault, ...] = ()) -> None:
        super().__init__(message)
        self.errors = errors


class Unauthenticated(RelightError):
    """No token, or one that this server does not know."""

    code, status = "unauthenticated", 401


class Forbidden(RelightError):
    """A known caller asked for what its token does not allow."""

    code, status = "forbidden", 403


class NotFound(RelightError):
    """Nothing has that name."""

    code, status = "not_found", 404


class ValueIsPython(RelightError):
    """The result exists, but only Python can read it."""

    code, status = "value_is_python", 406


class Conflict(RelightError):
    """It contradicts what is already there."""

    code, status = "conflict", 409


class KeyReused(InvalidRequest):
    """An Idempotency-Key that stands for a call with other arguments."""

    code, status = "key_reused", 422


class SessionLost(RelightError):
    """The worker that had a strict session is gone; the next call of it begins anew."""

    code, status, retryable = "session_lost", 410, True


class TooLarge(RelightError):
    """More bytes than the limit that the message names."""

    code, status = "too_large", 413


class ValueNotPortable(RelightError):
    """An argument or a result cannot be turned into bytes, or back."""

    code, status = "value_not_portable", 422


class LimitExceeded(RelightError):
    """A limit the operator or the user set is reached; `retry_after_seconds` is when to ask again, None where nobody knows."""

    code, status, retryable = "limit_exceeded", 429, True

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


# -- the user's function's


class FunctionFailed(RelightError):
    """The function raised; over HTTP, the form of any exception of the user's."""

    code, status = "function_failed", 500


class RemoteError(FunctionFailed):
    """The function raised something that cannot be rebuilt here; the message says what it was."""


class FunctionTimeout(RelightError):
    """An attempt ran longer than `timeout`; its worker has been told, and is dead if it did not obey."""

    code, status = "timed_out", 504


class CallCancelled(RelightError):
    """Somebody cancelled the call."""

    code, status = "cancelled", 409


class CallExpired(RelightError):
    """The call did not start within `queue_timeout`."""

    code, status = "expired", 504


class StartFailed(RelightError):
    """The function's module could not be imported, or its `@enter` raised."""

    code, status = "start_failed", 500


class DeployFailed(RelightError):
    """A version whose modules cannot be loaded was not deployed; the one before serves on."""

    code, status = "deploy_failed", 422


class Deadlock(RelightError):
    """Calls wait for one another in a circle."""

    code, status = "deadlock", 500


# -- ours, or the world's


class WorkerLost(RelightError):
    """The worker died under the call as often as the call may be tried again."""

    code, status, retryable = "worker_lost", 502, True


class Unavailable(RelightError):
    """The server, or a part it needs, cannot be reached now."""

    code, status, retryable = "unavailable", 503, True


class ProtocolError(RelightError):
    """The other end said something that has no meaning; the connection ends."""

    code, status = "protocol_error", 400


def _tree(root: type[RelightError]) -> list[type[RelightError]]:
    return [root, *(below for child in root.__subclasses__() for below in _tree(child))]


ERRORS: dict[str, type[RelightError]] = {error.code: error for error in reversed(_tree(RelightError))}
"""Each `code`, and the class that it stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a call did not succeed, as data: `code` is one of `ERRORS`.

    `type_name`, `traceback` and `exception` (the pickled exception itself) are there when user code raised; `exit` where
    a worker ended over it.
    """

    code: str
    message: str
    type_name: str = ""
    traceback: str = ""
    exception: Payload | None = None
    exit: WorkerExit | None = None


def failure_of(error: RelightError) -> Failure:
    """An error of ours as data."""
    return Failure(code=error.code, message=str(error))


def error_of(failure: Failure) -> RelightError:
    """The error a failure stands for; an unknown code becomes the root class."""
    error = ERRORS.get(failure.code, RelightError)(failure.message)
    if failure.exit is not None:
        error.exit = failure.exit
    return error
