"""Shadows: copies of some calls, counted and compared, of which nobody hears and nothing is kept."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from relight.control.catalog import Catalog, Route, Version
from relight.control.shadows import MOST_WAITING, PATIENCE_SECONDS, Shadows, read_tally
from relight.protocol.calls import CallEvent, CallRequest, CallState, CallView, Token
from relight.protocol.errors import Failure
from relight.protocol.link import CallEnd
from relight.protocol.manifest import CodeBundle, FunctionSpec, Manifest
from relight.protocol.payload import Payload
from relight.protocol.versions import ShadowView, Strategy
from relight.protocol.workers import WorkerKind, WorkerState
from relight.scheduler.queue import FunctionKey, WaitingCall
from scheduled import IMAGE, World

WS = "default"
CODE = CodeBundle(digest="d", size=1, folder="/app")
PAYLOAD = Payload(format="json", data=b"1", size=1)


def version(name: str, *functions: str) -> Version:
    specs = tuple(FunctionSpec(name=one, module="m", qualname=one, image=IMAGE) for one in functions)
    manifest = Manifest(app="a", code=CODE, functions=specs)
    return Version(workspace=WS, id=name, app="a", environment="main", manifest=manifest)


@dataclass
class Place:
    """A scheduler with a node, and shadows before it."""

    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        self.catalog = Catalog(None)  # type: ignore[arg-type]  # everything is led to here
        self.stable, self.shadow = version("v-1", "f", "gone"), version("v-2", "f")
        self.catalog.lead(Route(stable=self.stable, canary=self.shadow, percent=100, strategy=Strategy.SHADOW))
        self.shadows = Shadows(self.catalog, self.world.clock)
        self.shadows.use(self.world.scheduler)
        self.world.node()
        self.world.key = FunctionKey("v-2", "f")

    def call(self, name: str, function: str = "f", **more: object) -> None:
        request = CallRequest(id=name, app="a", function=function, payload=PAYLOAD, **more)  # type: ignore[arg-type]  # shorthand
        self.shadows.copy(WS, [request])

    def answered(self, name: str, data: bytes | None = b"7", state: CallState = CallState.SUCCEEDED) -> None:
        """The call itself has ended."""
        result = None if data is None else Payload(format="json", data=data, size=1)
        view = CallView(id=name, app="a", environment="main", version="v-1", function="f", state=state, result=result)
        self.shadows.call_ended(view)

    def copy_ends(self, data: bytes | None = b"7") -> None:
        """The next copy has ended; None: with an exception."""
        ((copy, token),) = self.world.runs()
        outcome = CallEvent.FAILED if data is None else CallEvent.SUCCEEDED
        result = None if data is None else Payload(format="json", data=data, size=1)
        failure = Failure(code="function_failed", message="cannot") if data is None else None
        end = CallEnd(call=copy, token=token, outcome=outcome, worker="w", result=result, failure=failure, seconds=1.0)
        assert self.shadows.ended("n1", end) == self.world.key

    def start(self) -> None:
        for worker in self.world.started():
            self.world.report(worker, WorkerState.READY)

    def view(self) -> ShadowView:
        return next(one for one in self.shadows.views(WS, "v-2") if one.function == "f")


def test_a_copy_is_run_by_the_shadow_and_its_worker_is_billed_as_one() -> None:
    place = Place()
    place.call("call-1")

    (worker,) = place.world.started()
    ((copy, _),) = place.world.runs()

    known = place.world.scheduler.worker(worker)
    assert known is not None
    assert (known.key.version, known.spec.kind) == ("v-2", WorkerKind.SHADOW)
    assert copy.startswith("shadow-")


@pytest.mark.parametrize(
    ("call", "copy", "counts"),
    [
        (b"7", b"7", (1, 1, 0, 1, 0, 0)),
        (b"7", b"8", (1, 1, 0, 1, 1, 0)),
        (b"7", None, (1, 1, 1, 1, 1, 0)),
        (None, b"7", (1, 1, 0, 1, 1, 0)),
        (None, None, (1, 1, 1, 1, 0, 1)),
    ],
    ids=["same", "another", "copy fails", "call fails", "both fail"],
)
@pytest.mark.parametrize("is_first", [True, False], ids=["call first", "copy first"])
def test_what_both_answer_is_compared(
    call: bytes | None, copy: bytes | None, counts: tuple[int, ...], is_first: bool
) -> None:
    place = Place()
    place.call("call-1")
    place.start()

    state = CallState.FAILED if call is None else CallState.SUCCEEDED
    if is_first:
        place.answered("call-1", call, state)
    place.copy_ends(copy)
    if not is_first:
        place.answered("call-1", call, state)

    one = place.view()
    assert (one.copies, one.ended, one.failed, one.compared, one.differed, one.both_failed) == counts
    assert one.failures == ((("function_failed", 1),) if copy is None else ())


def test_a_call_that_was_cancelled_is_not_compared() -> None:
    place = Place()
    place.call("call-1")
    place.start()

    place.answered("call-1", None, CallState.CANCELLED)
    place.copy_ends()

    assert (place.view().ended, place.view().compared) == (1, 0)


def test_what_calls_make_is_not_copied_and_what_a_copy_makes_is_its_versions() -> None:
    place = Place()
    place.call("call-1", parent="call-0")
    assert place.shadows.views(WS, "v-2") == ()

    place.call("call-2")
    place.start()
    ((copy, _),) = place.world.runs()
    route = place.catalog.current(WS, "a", "main")
    assert route is not None
    inner = CallRequest(id="call-3", app="a", function="f", payload=PAYLOAD, parent=copy)

    assert place.shadows.parents_version(inner, route) is place.shadow
    assert route.of("call-3") is place.stable


def test_a_function_that_the_shadow_has_not_fails_there() -> None:
    place = Place()

    place.call("call-1", function="gone")

    (one,) = place.shadows.views(WS, "v-2")
    assert (one.function, one.failed, one.failures) == ("gone", 1, (("not_found", 1),))


def test_a_slow_shadow_gets_no_more_than_it_can_take() -> None:
    place = Place()
    for n in range(MOST_WAITING + 50):
        place.call(f"call-{n}")
    place.world.advance(PATIENCE_SECONDS + 1)
    late = place.world.expired_calls
    waiting = [WaitingCall(id=one, workspace=WS, key=place.world.key) for one in late]

    place.shadows.drop(waiting)

    one = place.view()
    assert one.copies + one.dropped >= MOST_WAITING + 50
    assert one.dropped >= MOST_WAITING


def test_a_copy_whose_worker_is_lost_is_not_tried_again() -> None:
    place = Place()
    place.call("call-1")
    place.start()
    ((copy, token),) = place.world.runs()
    lease = place.world.scheduler.release(copy, token)
    assert lease is not None

    place.shadows.lost([lease])

    assert place.view().failures == (("worker_lost", 1),)
    assert place.world.scheduler.lease(copy) is None


def test_a_shadow_that_is_taken_back_drops_what_waits() -> None:
    place = Place()
    for n in range(20):
        place.call(f"call-{n}")
    before = place.world.scheduler.waiting(place.world.key)

    place.shadows.stop(place.shadow)

    assert before > 0
    assert place.world.scheduler.waiting(place.world.key) == 0
    assert place.view().dropped == before


def test_what_was_counted_outlives_the_server() -> None:
    place = Place()
    place.call("call-1")
    place.start()
    place.answered("call-1")
    place.copy_ends(b"8")
    ((where, text),) = place.shadows.changes().items()

    again = Shadows(place.catalog, place.world.clock)
    again.restore(*where, text)

    assert again.views(WS, "v-2") == place.shadows.views(WS, "v-2")
    assert read_tally(text).differed == 1
    assert place.shadows.changes() == {}


def test_an_end_under_an_old_token_means_nothing() -> None:
    place = Place()
    end = CallEnd(call="shadow-x", token=Token(1, 1), outcome=CallEvent.SUCCEEDED, worker="w")

    assert place.shadows.ended("n1", end) is None
