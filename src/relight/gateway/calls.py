"""Calls over HTTP: frames for the SDK, JSON for everybody else."""

from __future__ import annotations

from relight.gateway.exchange import BYTES_TYPE, JSON_TYPE, Answer, Ask, StreamAnswer, frame_answer, json_answer
from relight.gateway.platform import Platform
from relight.gateway.problems import PROBLEM_TYPE, HttpProblem, problem_of, problem_of_failure
from relight.gateway.render import call_detail, call_tree, call_view, json_value, plain
from relight.protocol.api import MAX_WAIT_SECONDS, Await, CallDetail, CallViews, Cancel, Submit
from relight.protocol.calls import CallState, CallView
from relight.protocol.errors import Failure, InvalidRequest, RelightError, ValueIsPython
from relight.protocol.ids import is_id
from relight.protocol.payload import JSON, RAW, Payload
from relight.protocol.views import CallQuery

MAX_PAGE = 1000
MAX_CALLS = 10_000
"""How many calls one message may name."""

REQUEST_KIND = "request"
"""What a web request is called in a list."""


async def submit(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/calls"""
    message = await ask.frame(Submit)
    if len(message.calls) > MAX_CALLS:
        raise InvalidRequest(f"cannot submit {len(message.calls)} calls at once: the limit is {MAX_CALLS}; send fewer")
    ask.check_calls(message.calls)
    return frame_answer(_checked(ask, await platform.calls.submit(ask.workspace, message, worker=ask.worker)))


async def wait(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/calls/wait"""
    query = await ask.frame(Await)
    if len(query.ids) > MAX_CALLS:
        raise InvalidRequest(f"cannot wait for {len(query.ids)} calls at once: the limit is {MAX_CALLS}; name fewer")
    if ask.environment and query.ids and query.wait_seconds:  # what is not a worker's to see is not its to wait for
        _checked(ask, await platform.calls.wait(ask.workspace, Await(ids=query.ids)))
    work = platform.calls.wait(ask.workspace, query, worker=ask.worker)
    return frame_answer(_checked(ask, await (ask.unless_gone(work) if query.wait_seconds else work)))


async def list_calls(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/calls"""
    query = CallQuery(
        app=ask.query("app") or ask.app,
        environment=ask.query("environment") or ask.environment,
        function=ask.query("function"),
        state=_state(ask.query("state")),
        limit=ask.whole("limit", 50, most=MAX_PAGE),
        before=ask.query("before"),
        parent=ask.query("parent"),
        since=ask.moment("since"),
        kind=_kind(ask.query("kind")),
    )
    ask.check_calls((query,))
    requests = await platform.traffic.list(ask.workspace, query)
    others = () if query.kind == REQUEST_KIND else await platform.calls.list(ask.workspace, query)
    newest = sorted((*others, *requests), key=_when, reverse=True)[: query.limit]
    return json_answer({"calls": plain(newest)})


async def show(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/calls/{call}"""
    detail = await find(platform, ask.workspace, ask.params["call"])
    ask.check_calls((detail.call,))
    return frame_answer(detail) if ask.speaks_frames else json_answer(call_detail(detail))


async def tree(platform: Platform, ask: Ask) -> Answer:
    """GET /v1/calls/{call}/tree"""
    views = await platform.calls.tree(ask.workspace, ask.params["call"])
    ask.check_calls(views)
    return json_answer({"tree": call_tree(views, ask.params["call"]), "calls": len(views)})


async def cancel(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/calls/{call}/cancel"""
    await _check_call(platform, ask)
    view = await platform.calls.cancel(ask.workspace, ask.params["call"])
    return frame_answer(view) if ask.speaks_frames else json_answer(call_view(view))


async def cancel_many(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/calls/cancel"""
    named = await ask.frame(Cancel)
    if len(named.ids) > MAX_CALLS:
        raise InvalidRequest(f"cannot cancel {len(named.ids)} calls at once: the limit is {MAX_CALLS}; name fewer")
    calls = await platform.calls.unfinished(ask.workspace, named)
    ask.check_calls(calls)
    return json_answer({"cancelled": await platform.calls.cancel_all(ask.workspace, calls)})


async def retry(platform: Platform, ask: Ask) -> Answer:
    """POST /v1/calls/{call}/retry"""
    await _check_call(platform, ask)
    return pending_answer(await platform.retries.retry(ask.workspace, ask.params["call"]))


async def result(platform: Platform, ask: Ask) -> Answer | StreamAnswer:
    """GET /v1/calls/{call}/result"""
    call = ask.params["call"]
    view = (await platform.calls.show(ask.workspace, call)).call
    ask.check_calls((view,))
    seconds = ask.whole("wait", 0, most=int(MAX_WAIT_SECONDS))
    if seconds and not view.state.is_final:
        query = Await(ids=(call,), wait_seconds=seconds)
        view = (await ask.unless_gone(platform.calls.wait(ask.workspace, query, worker=ask.worker))).calls[0]
    if not view.state.is_final:
        return pending_answer(view)
    check_success(view)
    return await value_answer(platform, view, view.result or Payload(format=JSON, data=b"null"))


async def find(platform: Platform, workspace: str, call: str) -> CallDetail:
    """All that is known of a call, or of a web request.  Raises NotFound."""
    return await (platform.traffic if is_id(call, "req") else platform.calls).show(workspace, call)


async def _check_call(platform: Platform, ask: Ask) -> None:
    if ask.app or ask.environment:
        ask.check_calls(((await platform.calls.show(ask.workspace, ask.params["call"])).call,))


def _checked(ask: Ask, views: CallViews) -> CallViews:
    ask.check_calls(views.calls)
    return views


def pending_answer(view: CallView) -> Answer:
    """202: the call is taken, and this is where it stands and where to ask again."""
    said = {"id": view.id, "state": view.state.value, "pending_reason": view.pending_reason}
    return json_answer(said, 202, (("location", f"/v1/calls/{view.id}/result"), ("retry-after", "1")))


class CallProblem(HttpProblem):
    """A call that ended without a value."""

    def __init__(self, view: CallView) -> None:
        failure = view.failure or Failure(
            code=view.state.value, message=f"cannot give the result of {view.id}: it {view.state.value}; call again"
        )
        problem = problem_of_failure(view.id, failure)
        super().__init__(int(str(problem["status"])), RelightError(failure.message))
        self.problem = problem


def check_success(view: CallView) -> None:
    """Raise CallProblem when a call ended in another way than by a value."""
    if view.state is not CallState.SUCCEEDED:
        raise CallProblem(view)


def python_only(view: CallView, payload: Payload) -> Answer:
    """406: the value is there, for Python."""
    error = ValueIsPython(
        f"cannot show the result of {view.id} as JSON: it is a Python value; read it with the SDK, or return plain data"
    )
    said = {**problem_of(error), "call": view.id, "format": payload.format, "preview": payload.preview}
    return Answer(status=error.status, body=json_answer(said).body, type=PROBLEM_TYPE)


async def inlined(platform: Platform, payload: Payload, limit: int) -> Payload:
    """A JSON value with its bytes in it, where they are no more than `limit`; any other as it is."""
    if not payload.blob or payload.format != JSON:
        return payload
    if platform.blobs.size(payload.blob) > limit:
        return payload
    data = b"".join([part async for part in platform.blobs.read(payload.blob)])
    return Payload(format=JSON, data=data, size=len(data), preview=payload.preview)


async def value_answer(platform: Platform, view: CallView, payload: Payload) -> Answer | StreamAnswer:
    """A result as the value itself: JSON, or bytes where the function returned such.  406 where only Python can read it."""
    if payload.format not in (JSON, RAW):
        return python_only(view, payload)
    media = JSON_TYPE if payload.format == JSON else BYTES_TYPE
    if payload.blob:
        size = platform.blobs.size(payload.blob)
        return StreamAnswer(parts=platform.blobs.read(payload.blob), type=media, length=size)
    if payload.format == JSON and not json_value(payload)[0]:
        return python_only(view, payload)
    return Answer(body=payload.data or b"", type=media)


def _when(view: CallView) -> str:
    """What calls and requests are sorted by: when their ids were made."""
    return view.id.partition("-")[2]


def _kind(text: str) -> str:
    if text not in ("", "call", REQUEST_KIND):
        raise InvalidRequest(f"cannot list calls of kind {text[:40]!r}: kinds are call and {REQUEST_KIND}")
    return text


def _state(text: str) -> CallState | None:
    if not text:
        return None
    if text not in {state.value for state in CallState}:
        raise InvalidRequest(
            f"cannot list calls in state {text[:40]!r}: states are {', '.join(s.value for s in CallState)}"
        )
    return CallState(text)
