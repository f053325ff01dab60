"""Bindings: what is equal shares workers, what cannot be is refused before anything is kept."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relight.blobs.store import BlobStore
from relight.clock import SystemClock, now_ms
from relight.control.bindings import OPTIONS, Bound, bind, check_parameters, unbound
from relight.control.platform import Control, Rules, open_control
from relight.protocol.api import Submit
from relight.protocol.calls import CallRequest
from relight.protocol.errors import InvalidRequest, LimitExceeded, NotFound
from relight.protocol.ids import new_id
from relight.protocol.link import Hello
from relight.protocol.manifest import (
    ClassParameter,
    CodeBundle,
    FunctionSpec,
    GpuRequest,
    HostImage,
    Manifest,
    MethodSpec,
    Resources,
    Retries,
    Scaling,
)
from relight.protocol.payload import Payload
from relight.scheduler import loop
from relight.scheduler.loop import Timing
from relight.scheduler.queue import FunctionKey, WaitingCall
from relight.store.rows import NewVersion
from relight.store.store import Store, open_store

IMAGE = HostImage(python="/p/bin/python", prefix="/p", base_prefix="/p", version="3.11.7")
MODEL = FunctionSpec(
    name="Model",
    module="m",
    qualname="Model",
    image=IMAGE,
    is_class=True,
    methods=(MethodSpec(name="generate"),),
    parameters=(
        ClassParameter(name="size", type="str", required=False, default="7b"),
        ClassParameter(name="heat", type="float", required=False, default=1.0),
        ClassParameter(name="salt", type="bytes", required=False, default=""),
    ),
    resources=Resources(cpu=2.0, memory_mib=512),
    scaling=Scaling(min_workers=1, max_workers=4),
    env=(("A", "1"), ("B", "2")),
    tags=(("team", "search"),),
)


def text(parameters: dict[str, Any] | None = None, **options: Any) -> str:
    return json.dumps({"parameters": parameters or {}, "options": options})


def test_values_that_are_the_defaults_share_workers_with_no_values() -> None:
    plain = bind(MODEL, "")

    assert plain == unbound(MODEL) == Bound(text="", function=MODEL)
    assert bind(MODEL, text({"size": "7b", "heat": 1})) == plain
    assert bind(MODEL, text(timeout_seconds=600)) == plain


def test_equal_values_have_equal_texts_and_keep_no_worker_of_their_own_ready() -> None:
    one, other = bind(MODEL, text({"size": "13b", "heat": 2})), bind(MODEL, text({"heat": 2.0, "size": "13b"}))

    assert one == other
    assert one.parameters == (("heat", 2.0), ("size", "13b"))
    assert one.function.scaling == Scaling(min_workers=0, max_workers=4)
    assert bind(MODEL, one.text) == one


def test_options_replace_what_was_deployed_and_variables_and_tags_are_added() -> None:
    given = text(
        cpu=0.5,
        gpu=[{"kind": "A100", "count": 2}],
        timeout_seconds=5,
        queue_timeout_seconds=None,
        min_workers=2,
        max_workers=None,
        retries={"count": 3},
        network="host",
        env=[["B", "3"], ["C", "4"]],
        tags=[["customer", "acme"]],
    )

    spec = bind(MODEL, given).function

    assert spec.resources == Resources(cpu=0.5, memory_mib=512, gpu=(GpuRequest(kind="A100", count=2),))
    assert (spec.timeout_seconds, spec.retries, spec.network) == (5.0, Retries(count=3), "host")
    assert spec.scaling == Scaling(min_workers=2, max_workers=None)
    assert spec.env == (("A", "1"), ("B", "3"), ("C", "4"))
    assert spec.tags == (("customer", "acme"), ("team", "search"))
    assert (spec.module, spec.qualname, spec.image) == (MODEL.module, MODEL.qualname, MODEL.image)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{", "cannot call Model: its binding cannot be read"),
        (text({"sise": "7b"}), "cannot make a Model: it has no parameter 'sise'; did you mean 'size'"),
        (text({"q": "7b"}), "no parameter 'q'; it has 'size', 'heat', 'salt'"),
        (text({"size": 7}), "its parameter 'size' cannot be set: 7 is not a str; give it a value of type str"),
        (text({"heat": 10**400}), "its parameter 'heat' cannot be set"),
        (text({"salt": "?"}), "is not base64"),
        (text(module="os"), "cannot call Model with another 'module': that is not an option of a call"),
        (text(timeout=5), "did you mean 'timeout_seconds'"),
        (text(timeout_seconds="soon"), r"its options \(timeout_seconds\) are not of their types"),
        (text(timeout_seconds=0), "cannot call Model: timeout=0 is not between"),
        (text(cpu=1e6), "cannot call Model: cpu="),
        (text(max_workers=0), "max_workers=0 is not between 1"),
        (text(gpu="A100"), r"its options \(gpu\) are not of their types"),
        (text(tags=[["team=", "1"]]), "cannot call Model: 'team==1' is no tag: a name has no '='"),
        (text(tags=[["", "1"]]), "is no tag"),
        (text(tags=[["team", "1" * 201]]), "200 characters at most"),
        (text(tags=[[f"t{n}", ""] for n in range(33)]), "it has 34 tags; give 32 at most"),
        (text(env={"A": "1"}), r"its options \(env\) are not of their types"),
        (text(network="moon"), "network='moon': 'moon' is none of 'egress', 'none', 'host', nor a name"),
        (text(scaledown_window_seconds=float("inf")), "Infinity is no JSON"),
        ('{"options":{"scaledown_window_seconds":1e999}}', "scaledown_window=inf is not between"),
    ],
)
def test_a_binding_that_cannot_be_is_refused(said: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        bind(MODEL, said)


def test_a_value_without_a_default_must_be_given_and_nothing_is_kept_ready_without_it() -> None:
    spec = replace(MODEL, parameters=(ClassParameter(name="size", type="str"),))

    with pytest.raises(InvalidRequest, match=r"its parameter 'size' has no value and no default; .*Model\(size=…\)"):
        bind(spec, "")

    assert unbound(spec).function.scaling == Scaling(max_workers=4)
    assert bind(spec, text({"size": "7b"})).parameters == (("size", "7b"),)


def test_a_function_has_no_parameters_to_bind() -> None:
    function = FunctionSpec(name="f", module="m", qualname="f", image=IMAGE)

    with pytest.raises(InvalidRequest, match="cannot make a f: it has no parameter 'x'; it has none"):
        bind(function, text({"x": 1}))


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (ClassParameter(name="a", type="list"), "of type 'list', which is none of str, int"),
        (ClassParameter(name="a", type="int", required=False, default="x"), "'x' is not an int"),
    ],
)
def test_parameters_that_cannot_be_are_refused_at_deploy(parameter: ClassParameter, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        check_parameters(replace(MODEL, parameters=(parameter,)))


def test_every_option_is_a_field_of_a_spec() -> None:
    sections = {"": MODEL, "resources": MODEL.resources, "scaling": MODEL.scaling}

    assert all(hasattr(sections[section], name) for name, section in OPTIONS.items())


# -- in a server

WS = "default"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path)
    manifest = Manifest(app="a", code=CodeBundle(digest="d" * 64, size=1, folder="/a"), functions=(MODEL,))
    row = NewVersion(workspace=WS, id="version-1", app="a", environment="main", manifest=manifest, at=1.0)
    await opened.versions.deploy(row)
    yield opened
    await opened.close()


async def started(store: Store, tmp_path: Path) -> Control:
    rules = Rules(timing=Timing(lease_seconds=30.0, sweep_seconds=1.0))
    return await open_control(store, BlobStore(tmp_path / "blobs"), SystemClock(), rules)


@pytest.fixture
async def control(store: Store, tmp_path: Path) -> Control:
    """A platform without a node: what it takes in stays in its queue."""
    return await started(store, tmp_path)


def request(binding: str) -> CallRequest:
    payload = Payload(format="json", data=b"{}", size=2)
    return CallRequest(
        id=new_id("call", now_ms() + 1), app="a", function="Model", method="generate", payload=payload, binding=binding
    )


async def test_a_call_waits_for_the_workers_it_is_for_and_says_so(control: Control) -> None:
    large, small = request(text({"size": "13b"})), request(text({"size": "7b"}))
    views = (await control.calls.submit(WS, Submit(calls=(large, small)))).calls

    bindings = [view.binding for view in views]
    assert bindings == ['{"parameters":{"size":"13b"}}', ""]
    for call, binding in zip((large, small), bindings, strict=True):
        found = control.scheduler.cancel(call.id, FunctionKey("version-1", "Model", binding))
        assert isinstance(found, WaitingCall)


async def test_a_waiting_call_of_a_binding_has_a_reason_and_is_cancelled(control: Control) -> None:
    call = request(text({"size": "13b"}))
    (view,) = (await control.calls.submit(WS, Submit(calls=(call,)))).calls

    assert view.pending_reason.startswith("no_node")
    assert (await control.calls.cancel(WS, call.id)).state.value == "cancelled"


async def test_a_binding_that_cannot_be_keeps_nothing(control: Control, store: Store) -> None:
    good, bad = request(""), request(text({"sise": "7b"}))

    with pytest.raises(InvalidRequest, match="did you mean 'size'"):
        await control.calls.submit(WS, Submit(calls=(good, bad)))
    with pytest.raises(NotFound, match="cannot find method"):
        await control.calls.submit(WS, Submit(calls=(replace(good, method="generat"),)))

    assert await store.calls.existing(WS, [good.id, bad.id]) == {}


async def test_a_server_that_comes_back_gives_calls_to_the_workers_they_are_for(
    control: Control, store: Store, tmp_path: Path
) -> None:
    call = request(text({"size": "13b"}, timeout_seconds=5))
    (view,) = (await control.calls.submit(WS, Submit(calls=(call,)))).calls

    again = await started(store, tmp_path)

    key = FunctionKey("version-1", "Model", view.binding)
    assert isinstance(again.scheduler.cancel(call.id, key), WaitingCall)


async def test_a_binding_is_forgotten_once_nothing_is_left_of_it(control: Control) -> None:
    call = request(text({"size": "13b"}))
    (view,) = (await control.calls.submit(WS, Submit(calls=(call,)))).calls
    key = FunctionKey("version-1", "Model", view.binding)

    control.scheduler.sweep()
    assert control.scheduler.knows(key)
    await control.calls.cancel(WS, call.id)
    control.scheduler.sweep()

    assert not control.scheduler.knows(key)
    assert control.scheduler.knows(FunctionKey("version-1", "Model"))


async def test_the_version_before_keeps_no_workers_ready_after_a_restart(
    control: Control, store: Store, tmp_path: Path
) -> None:
    calls = (request(""), request(text(min_workers=2, timeout_seconds=5)))
    await control.calls.submit(WS, Submit(calls=calls))
    manifest = Manifest(app="a", code=CodeBundle(digest="d" * 64, size=1, folder="/a"), functions=(MODEL,))
    row = NewVersion(workspace=WS, id="version-2", app="a", environment="main", manifest=manifest, at=2.0)
    await store.versions.deploy(row)

    again = await started(store, tmp_path)
    for call in calls:
        await again.calls.cancel(WS, call.id)
    again.scheduler.connect(Hello(node="n", incarnation="i", protocol=1, cpu=8.0, memory_mib=8192))

    assert {worker.key.version for worker in again.scheduler.workers()} == {"version-2"}


async def test_there_are_only_so_many_bindings_at_once(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MAX_BINDINGS", 2)
    first, *more = [request(text({"size": f"{n}b"})) for n in range(3)]
    await control.calls.submit(WS, Submit(calls=(first, more[0])))

    with pytest.raises(LimitExceeded, match="2 different values of parameters or options are in use"):
        await control.calls.submit(WS, Submit(calls=(more[1],)))
    await control.calls.submit(WS, Submit(calls=(request(first.binding),)))
    await control.calls.cancel(WS, more[0].id)
    control.scheduler.sweep()

    await control.calls.submit(WS, Submit(calls=(more[1],)))
