"""Errors as HTTP says them: problem+json (RFC 9457), with the stable `code` of `protocol.errors`."""

from __future__ import annotations

from http import HTTPStatus

from relight.gateway.render import plain
from relight.protocol.errors import ERRORS, Failure, InvalidInput, InvalidRequest, LimitExceeded, RelightError, TooLarge
from relight.protocol.manifest import Json

PROBLEM_TYPE = "application/problem+json"


class HttpProblem(Exception):
    """An error whose status, or headers, only HTTP knows; `problem` is how it is told."""

    def __init__(self, status: int, error: RelightError, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(str(error))
        self.status = status
        self.error = error
        self.headers = headers
        self.problem = problem_of(error, status)

    @classmethod
    def too_large(cls, length: int, limit: int) -> HttpProblem:
        """A body is longer than it may be."""
        return cls(
            413, TooLarge(f"cannot take the body: it has {length} bytes or more, the limit is {limit}; send less")
        )

    @classmethod
    def bad_method(cls, method: str, path: str, allowed: str) -> HttpProblem:
        """The path is there, but not for this method."""
        error = InvalidRequest(f"cannot {method} {path}: this path takes {allowed}; use one of these")
        return cls(405, error, (("allow", allowed),))


def problem_of(error: RelightError, status: int | None = None) -> dict[str, Json]:
    """An error as a problem."""
    problem = _problem(error.code, str(error), status or error.status, is_retryable=error.retryable)
    if isinstance(error, LimitExceeded) and error.retry_after_seconds is not None:
        problem["retry_after_seconds"] = error.retry_after_seconds
    if isinstance(error, InvalidInput):
        problem["errors"] = [{"pointer": fault.pointer, "detail": fault.detail} for fault in error.errors]
    return problem


def problem_schema() -> dict[str, Json]:
    """What a problem looks like."""
    fault: Json = {"type": "object", "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}}}
    codes: list[Json] = [*sorted(ERRORS)]
    return {
        "type": "object",
        "required": ["type", "title", "status", "detail", "code", "retryable"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"enum": codes},
            "retryable": {"type": "boolean"},
            "retry_after_seconds": {"type": "number", "description": "of limit_exceeded: when to ask again"},
            "errors": {"type": "array", "items": fault, "description": "of invalid_input: what is wrong, and where"},
            "exit": {"type": "object", "description": "how the worker ended, where one did over it"},
        },
    }


def problem_of_failure(call: str, failure: Failure) -> dict[str, Json]:
    """Why a call did not succeed, as a problem; what user code raised is told with its traceback."""
    kind = ERRORS.get(failure.code, RelightError)
    problem = _problem(failure.code, failure.message, kind.status, is_retryable=kind.retryable)
    problem["call"] = call
    if failure.type_name:
        problem["exception"] = failure.type_name
        problem["traceback"] = failure.traceback
    if failure.exit is not None:
        problem["exit"] = plain(failure.exit)
    return problem


def _problem(code: str, detail: str, status: int, *, is_retryable: bool) -> dict[str, Json]:
    return {
        "type": f"urn:relight:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "retryable": is_retryable,
    }
