"""What the API shows, as plain data: every field, in the words of the protocol.

A result that is JSON is shown as its value; one that only Python can open as its format and its preview.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from enum import Enum

import msgspec

from relight.protocol.api import CallDetail
from relight.protocol.calls import CallView
from relight.protocol.errors import Failure
from relight.protocol.manifest import Json
from relight.protocol.payload import JSON, Payload
from relight.protocol.views import LogRecord


def plain(value: object) -> Json:
    """A dataclass of the protocol, with all its fields."""
    if isinstance(value, CallView):
        return call_view(value)
    if isinstance(value, Payload):
        return _glimpse(value)
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"the API cannot show a {type(value).__name__}")


def call_view(view: CallView) -> dict[str, Json]:
    """A call; `result` is its value, or what can be said of it, and `result_format` says which."""
    shown: dict[str, Json] = {
        field.name: plain(getattr(view, field.name))
        for field in dataclasses.fields(view)
        if field.name not in ("result", "failure")
    }
    shown["result"] = None if view.result is None else _shown_result(view.result)
    shown["result_format"] = "" if view.result is None else view.result.format
    shown["failure"] = None if view.failure is None else _failure(view.failure)
    return shown


def call_detail(detail: CallDetail) -> dict[str, Json]:
    """A call with its tries and its worker's life."""
    return {
        "call": call_view(detail.call),
        "attempts": plain(detail.attempts),
        "worker_intervals": plain(detail.worker_intervals),
        "start": plain(detail.start),
    }


def call_tree(views: Sequence[CallView], root: str) -> dict[str, Json]:
    """Calls, oldest first, each with the `children` it made; `root` is the one at the top, and a parent stands before its own."""
    children: dict[str, list[Json]] = {view.id: [] for view in views}
    top: dict[str, Json] = {}
    for view in views:
        shown: dict[str, Json] = {**call_view(view), "children": children[view.id]}
        if view.id == root:
            top = shown
        else:
            children[view.parent].append(shown)
    return top


def log_line(record: LogRecord) -> bytes:
    """One line of NDJSON."""
    return msgspec.json.encode(plain(record)) + b"\n"


def json_value(payload: Payload) -> tuple[bool, Json]:
    """Whether a payload can be shown as a value, and the value.  A worker's word that it is JSON is not believed."""
    if payload.format != JSON or payload.data is None:
        return False, None
    try:
        return True, msgspec.json.decode(payload.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False, None


def _shown_result(payload: Payload) -> Json:
    is_value, value = json_value(payload)
    return value if is_value else _glimpse(payload)


def _glimpse(payload: Payload) -> dict[str, Json]:
    size = payload.size or len(payload.data or b"")
    return {"format": payload.format, "preview": payload.preview, "size": size}


def _failure(failure: Failure) -> dict[str, Json]:
    return {
        "code": failure.code,
        "message": failure.message,
        "exception": failure.type_name,
        "traceback": failure.traceback,
        "exit": plain(failure.exit),
    }
