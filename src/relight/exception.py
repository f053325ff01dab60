"""relight's errors by the names that Modal gives them: `except relight.exception.FunctionTimeoutError`.

Each is one of relight's own; `RemoteError`, `ConflictError` and so on are caught whichever name is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relight.protocol.errors import (
    Conflict,
    Forbidden,
    FunctionTimeout,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    RelightError,
    RemoteError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    ValueNotPortable,
    WorkerLost,
)

AlreadyExistsError = Conflict
AuthError = Unauthenticated
ConflictError = Conflict
ConnectionError = Unavailable  # noqa: A001 - it is Modal's name
DeserializationError = ValueNotPortable
Error = RelightError
FunctionTimeoutError = FunctionTimeout
InternalFailure = WorkerLost
InvalidError = InvalidRequest
NotFoundError = NotFound
OutputExpiredError = NotFound
PermissionDeniedError = Forbidden
RequestSizeError = TooLarge
ResourceExhaustedError = LimitExceeded
SerializationError = ValueNotPortable
ServiceError = Unavailable
TimeoutError = FunctionTimeout  # noqa: A001 - it is Modal's name

__all__ = [
    "AlreadyExistsError",
    "AuthError",
    "ConflictError",
    "ConnectionError",
    "DeserializationError",
    "Error",
    "FunctionTimeoutError",
    "InternalFailure",
    "InvalidError",
    "NotFoundError",
    "OutputExpiredError",
    "PermissionDeniedError",
    "RemoteError",
    "RequestSizeError",
    "ResourceExhaustedError",
    "SerializationError",
    "ServiceError",
    "TimeoutError",
]

if not TYPE_CHECKING:  # for type checkers a name is there or not

    def __getattr__(name: str) -> object:
        from relight.sdk.elsewhere import refuse_error

        refuse_error(name)
        raise AttributeError(f"module 'relight.exception' has no attribute {name!r}")
