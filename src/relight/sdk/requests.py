"""What is asked of a server and how its answers are read, without any I/O: bytes out, bytes in.

A `Request` can be sent again as it is: calls are named by the caller, blobs by their content.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from relight.protocol.api import MEDIA_TYPE, Await, CallViews, Cancel, Deploy, Deployed, Items, ReadItems, Submit
from relight.protocol.codec import from_plain, pack, unpack
from relight.protocol.errors import ERRORS, InputFault, InvalidInput, LimitExceeded, ProtocolError, RelightError
from relight.protocol.manifest import Json

if TYPE_CHECKING:
    from relight.protocol.views import LogRecord, RunEnded

M = TypeVar("M")

JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request.  The answer may take `wait_seconds` on purpose."""

    method: str
    path: str
    body: bytes = b""
    content_type: str = ""
    accept: str = JSON_TYPE
    wait_seconds: float = 0.0

    def head(self, host: str, token: str) -> bytes:
        """The lines before the body."""
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: {host}\r\nAccept: {self.accept}\r\n"
        if token:
            head += f"Authorization: Bearer {token}\r\n"
        if self.content_type:
            head += f"Content-Type: {self.content_type}\r\n"
        if self.body or self.method in ("POST", "PUT"):
            head += f"Content-Length: {len(self.body)}\r\n"
        return (head + "\r\n").encode("latin-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer, whole."""

    status: int
    content_type: str = ""
    body: bytes = field(default=b"", repr=False)


# -- requests


def submit(message: Submit) -> Request:
    """Keep these calls, and wait for them as long as it says."""
    return frame("POST", "/v1/calls", message, message.wait_seconds)


def submit_again(message: Submit) -> Request:
    """The same, by somebody who heard no answer: what is there already is taken as it is."""
    return submit(replace(message, is_again=True))


def wait(message: Await) -> Request:
    """Wait until one has ended."""
    return frame("POST", "/v1/calls/wait", message, message.wait_seconds)


def cancel(call: str) -> Request:
    """Cancel a call."""
    return plain("POST", f"/v1/calls/{quoted(call)}/cancel")


def cancel_all(message: Cancel) -> Request:
    """Cancel many calls at once."""
    return Request(
        method="POST", path="/v1/calls/cancel", body=pack(message), content_type=MEDIA_TYPE, accept=JSON_TYPE
    )


def read_items(message: ReadItems) -> Request:
    """What a generator has yielded since."""
    return frame("POST", "/v1/calls/items", message, message.wait_seconds)


def stats(app: str, function: str, environment: str) -> Request:
    """How much of a function waits and runs."""
    path = f"/v1/apps/{quoted(app)}/functions/{quoted(function)}/stats"
    return plain("GET", path + query({"environment": environment}))


def urls(app: str, environment: str) -> Request:
    """Where the things of an app answer web requests."""
    return plain("GET", f"/v1/apps/{quoted(app)}/urls" + query({"environment": environment}))


def tree(call: str) -> Request:
    """A call, and those that it made, and so on."""
    return plain("GET", f"/v1/calls/{quoted(call)}/tree")


def deploy(message: Deploy) -> Request:
    """Make this version what the environment leads to."""
    return frame("POST", "/v1/deploys", message)


def plan(message: Deploy) -> Request:
    """What would that change?"""
    return frame("POST", "/v1/deploys/plan", message)


def health() -> Request:
    """Is anybody there?"""
    return Request(method="GET", path="/v1/health")


def has_blob(digest: str) -> Request:
    """Are these bytes there?"""
    return Request(method="HEAD", path=f"/v1/blobs/{digest}")


def put_blob(digest: str, data: bytes) -> Request:
    """Keep these bytes."""
    return Request(method="PUT", path=f"/v1/blobs/{digest}", body=data, content_type="application/octet-stream")


def get_blob(digest: str) -> Request:
    """Those bytes, please."""
    return Request(method="GET", path=f"/v1/blobs/{digest}", accept="application/octet-stream")


def attach(run: str, after: int) -> Request:
    """The output of a run as it comes, from record `after` on."""
    return Request(method="GET", path=f"/v1/runs/{quoted(run)}/attach{query({'after': after})}")


def stop_run(run: str, *, cancel: bool) -> Request:
    """End a run; without `cancel` only if nothing of it waits or runs."""
    return plain("POST", f"/v1/runs/{quoted(run)}/stop", {"cancel": cancel})


def frame(method: str, path: str, message: object, wait_seconds: float = 0.0) -> Request:
    """A request whose body, and whose answer, is a message of the codec."""
    return Request(
        method=method,
        path=path,
        body=pack(message),
        content_type=MEDIA_TYPE,
        accept=MEDIA_TYPE,
        wait_seconds=wait_seconds,
    )


def plain(method: str, path: str, body: Json = None) -> Request:
    """A request in JSON."""
    if body is None:
        return Request(method=method, path=path)
    return Request(method=method, path=path, body=json.dumps(body).encode(), content_type=JSON_TYPE)


def query(fields: dict[str, str | int]) -> str:
    """The part of a URL from its question mark; empty fields are left out."""
    from urllib.parse import urlencode  # 4 ms that a call need not pay

    given = {name: value for name, value in fields.items() if value not in ("", 0)}
    return f"?{urlencode(given)}" if given else ""


def quoted(name: str) -> str:
    """A name as a part of a path."""
    if name.replace("-", "").isalnum() and name.isascii():
        return name
    from urllib.parse import quote

    return quote(name, safe="")


# -- answers


def check(reply: Reply) -> Reply:
    """The reply when it is a good one; else raises the error that it tells."""
    if reply.status < 400:
        return reply
    raise error_from(reply)


def error_from(reply: Reply) -> RelightError:
    """The error a reply tells, by its code."""
    faults: object = ()
    again: float | None = None
    try:
        problem = json.loads(reply.body)
        code, detail = problem["code"], problem.get("detail") or problem.get("title", "")
        faults, again = problem.get("errors", ()), problem.get("retry_after_seconds")
    except (ValueError, KeyError, TypeError, AttributeError):
        text = reply.body[:200].decode(errors="replace")
        said = f"the server answered {reply.status} {text}".rstrip()
        code, detail = "", f"cannot do it: {said}, which is no answer of relight's; check RELIGHT_URL, or the profile"
    error = ERRORS.get(str(code))
    if error is InvalidInput and isinstance(faults, list):
        return InvalidInput(str(detail), tuple(from_plain(one, InputFault) for one in faults))
    if error is LimitExceeded:
        return LimitExceeded(str(detail), again)
    if error is None:
        error = next((kind for kind in reversed(ERRORS.values()) if kind.status == reply.status), RelightError)
    return error(str(detail))


def read_frame(reply: Reply, kind: type[M]) -> M:
    """The message in a good reply."""
    return unpack(check(reply).body, kind)


def read_views(reply: Reply) -> CallViews:
    """Calls as they stand."""
    return read_frame(reply, CallViews)


def read_part(reply: Reply) -> Items:
    """Items of a generator."""
    return read_frame(reply, Items)


def read_deployed(reply: Reply) -> Deployed:
    """The version made."""
    return read_frame(reply, Deployed)


def read_json(reply: Reply) -> Json:
    """The JSON in a good reply; None when it is empty."""
    body = check(reply).body
    try:
        value: Json = json.loads(body) if body else None
    except ValueError as error:
        raise ProtocolError(f"cannot read the answer: {error}; is this a relight server?") from error
    return value


def read_event(line: Json) -> LogRecord | RunEnded | None:
    """One line of a run's stream; None for what this version does not know."""
    from relight.protocol.views import LogRecord, RunEnded  # 10 ms that who only calls need not pay

    if not isinstance(line, dict):
        return None
    if line.get("event") == "ended":
        return RunEnded(run="")
    return from_plain(line["log"], LogRecord) if "log" in line else None


def read_lines(chunks: Iterable[bytes]) -> Iterable[Json]:
    """The values of a stream of JSON lines; empty lines keep it alive and say nothing."""
    for line in chunks:
        if line.strip():
            yield json.loads(line)
