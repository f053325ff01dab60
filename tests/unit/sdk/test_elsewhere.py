"""Modal's words mean what relight's do, and those that mean nothing here say so."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import pytest

import relight
from relight.protocol import errors, manifest
from relight.sdk.classes import GeneratorMethod
from relight.sdk.elsewhere import (
    ABSENT_ERRORS,
    ABSENT_IMAGES,
    ABSENT_NAMES,
    ABSENT_OPTIONS,
    ABSENT_WORDS,
    SO_ANYWAY,
    AppWords,
    DeployWords,
    FindWords,
    RunWords,
    plain_retries,
)
from relight.sdk.options import FunctionOptions, Place, call_options, check_options, spec_of
from relight.sdk.session import Callee, Session


def lamp(x: int) -> int:
    """Something with a name, to decorate."""
    return x


HERE = Place(name="f", module="m", qualname="f", is_class=False, methods=())


def spec(**given: Any) -> manifest.FunctionSpec:
    check_options("f", FunctionOptions(**given))
    return spec_of(HERE, FunctionOptions(**given), relight.Image.host().spec)


def test_containers_are_workers() -> None:
    theirs = spec(min_containers=1, max_containers=5, buffer_containers=2, scaledown_window=9)

    assert theirs == spec(min_workers=1, max_workers=5, buffer_workers=2, scaledown_window=9)
    assert theirs.scaling == manifest.Scaling(
        min_workers=1, max_workers=5, buffer_workers=2, scaledown_window_seconds=9.0
    )


def test_containers_of_some_calls_are_workers_too() -> None:
    assert call_options("f", {"max_containers": 2}) == call_options("f", {"max_workers": 2}) == (("max_workers", 2),)


def test_an_option_that_is_none_was_not_said() -> None:
    given: Any = {"min_containers": None, "max_containers": None, "retries": None, "startup_timeout": None, "env": None}

    assert spec(**given) == spec()


def test_an_option_by_two_names_is_refused() -> None:
    with pytest.raises(relight.InvalidRequest, match=r"max_containers= and max_workers= are one option; say one"):
        spec(max_workers=1, max_containers=2)


def test_an_option_out_of_range_is_refused_by_its_name_here() -> None:
    with pytest.raises(relight.InvalidRequest, match=r"cannot decorate f: buffer_workers=-1 is out of range"):
        spec(buffer_containers=-1)


@pytest.mark.parametrize("option", sorted(ABSENT_OPTIONS))
def test_an_option_that_is_not_there_is_refused_unless_it_asks_for_nothing(option: str) -> None:
    nothing: tuple[Any, ...] = (None, [], {}, False)

    assert all(spec(**{option: value}) == spec() for value in nothing)
    with pytest.raises(relight.InvalidRequest, match=rf"^cannot decorate f: {option}='x' asks for .*, which .*; \w"):
        spec(**{option: "x"})


def test_an_option_that_says_what_is_so_anyway_changes_nothing() -> None:
    assert spec(**dict.fromkeys(SO_ANYWAY, True)) == spec()
    assert spec().network == "egress"
    assert spec(block_network=True).network == "none"
    assert spec(block_network=False) == spec(block_network=None) == spec()


def test_a_snapshot_of_a_gpu_is_asked_for_in_vain_and_other_experiments_are_refused() -> None:
    assert spec(experimental_options={"enable_gpu_snapshot": True}) == spec()
    with pytest.raises(
        relight.InvalidRequest, match=r"^cannot decorate f: experimental_options=\{'enable_gpu_sn.*exper"
    ):
        spec(experimental_options={"enable_gpu_snapshot": True, "lamp": 1})


WORDS: list[tuple[Callable[..., Any], type, str]] = [
    (lambda **given: relight.App("port", **given), AppWords, "cannot make an app"),
    (lambda **given: relight.App("port").run(**given).__enter__(), RunWords, "cannot run port"),
    (lambda **given: relight.App("port").deploy(**given), DeployWords, "cannot deploy port"),
    (lambda **given: relight.Function.from_name("a", "f", **given), FindWords, "cannot find function 'f'"),
    (lambda **given: relight.Cls.from_name("a", "C", **given), FindWords, "cannot find class 'C'"),
]


def absent(words: type) -> list[str]:
    """Those of the words that ask for what is not here."""
    return [word for word in words.__annotations__ if word in ABSENT_WORDS]


@pytest.mark.parametrize(("use", "words", "cannot"), WORDS, ids=[cannot for _, _, cannot in WORDS])
def test_an_argument_that_asks_for_what_is_not_there_says_what_to_do(
    use: Callable[..., Any], words: type, cannot: str
) -> None:
    for word in absent(words):
        with pytest.raises(relight.InvalidRequest, match=rf"^{cannot}: {word}='x' asks for .*, which .*; \w"):
            use(**{word: "x"})
    with pytest.raises(TypeError, match=rf"^{cannot}: it got an unexpected keyword argument 'lamp'; it takes \w"):
        use(lamp=1)


def test_an_argument_that_asks_for_nothing_is_passed_over(platform: Any) -> None:
    app = relight.App("port", tags=None, secrets=[], volumes={}, include_source=True)
    found = relight.Function.from_name("a", "f", environment_name=None, version=None, client=None)
    relight.Cls.from_name("a", "C", environment_name=None, version=None, client=None)
    call: relight.Call[int] = relight.Call("call-1", Session(platform.connection(), "a", "main"))

    assert (app.name, found.callee.function) == ("port", "f")
    with pytest.raises(relight.NotFound):
        call.get(index=0)


def test_a_cancel_that_shall_end_the_worker_is_one_like_any_other(platform: Any) -> None:
    platform.functions["f"] = lambda: 1
    platform.is_stuck = True
    session = Session(platform.connection(), "a", "main")
    request = session.request(Callee(function="f"), (), {})
    session.connection.do(session.spawn((request,)))

    relight.Call(request.id, session).cancel(terminate_containers=True)

    assert relight.Call(request.id, session).status() is relight.CallState.CANCELLED
    with pytest.raises(TypeError, match=r"^cannot cancel call-.*: it got an unexpected keyword argument 'terminate'"):
        relight.Call(request.id, session).cancel(terminate=True)  # type: ignore[call-arg]  # that is what is tested


@pytest.mark.parametrize("verb", ["map", "starmap"])
def test_what_a_map_returns_for_a_call_that_raised_is_never_wrapped(platform: Any, verb: str) -> None:
    platform.functions["f"] = lambda x: 1 // x
    app = relight.App("port")
    mapped = getattr(app.add_function(lamp, {"name": "f"}), verb)
    rows: list[Any] = [(0,), (1,)] if verb == "starmap" else [0, 1]

    with app.using(Session(platform.connection(), "port", "main")):
        came = list(mapped(rows, return_exceptions=True, wrap_returned_exceptions=False))
        assert (type(came[0]), came[1]) == (ZeroDivisionError, 1)
        with pytest.raises(relight.InvalidRequest, match=r"^cannot map f: wrap_returned_exceptions=True asks for wrap"):
            mapped(rows, return_exceptions=True, wrap_returned_exceptions=True)
        with pytest.raises(relight.InvalidRequest, match="wrappers"):
            mapped.aio(rows, wrap_returned_exceptions=True)


def test_a_deploy_says_its_environment_by_either_word_and_may_name_the_app(
    platform: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = relight.App("port")
    app.add_function(lamp, {"name": "f"})
    monkeypatch.setattr("relight.sdk.app.connect", lambda: platform.connection())

    app.deploy(environment_name="staging")
    app.deploy("live")
    app.deploy(name=None, tag="", client=None, strategy="rolling", environment_name=None)
    app.deploy(name="harbour")

    said = [(one.environment, one.manifest.app) for one in platform.deploys]
    assert said == [("staging", "port"), ("live", "port"), ("main", "port"), ("main", "harbour")]
    with pytest.raises(relight.InvalidRequest, match=r"cannot name an app 'har bour'"):
        app.deploy(name="har bour")


def test_an_entrypoint_may_have_a_name_of_its_own() -> None:
    app = relight.App("port")

    @app.local_entrypoint(name="start")
    def main() -> None: ...

    assert dict(app.entrypoints) == {"start": main}


def test_a_method_that_is_said_to_yield_is_one_like_any_other() -> None:
    @relight.method(is_generator=True)
    def count(self: object) -> Iterator[int]:
        yield 1

    assert isinstance(count, GeneratorMethod)


def test_retries_by_either_words_are_the_same() -> None:
    ours = relight.Retries(count=3, delay_seconds=0.5, backoff=1.5, max_delay_seconds=9.0)
    theirs = relight.Retries(max_retries=3, initial_delay=0.5, backoff_coefficient=1.5, max_delay=9.0)

    assert ours == theirs
    assert spec(retries=theirs).retries == manifest.Retries(**asdict(ours))
    assert (plain_retries(2), asdict(relight.Retries())) == (manifest.Retries(count=2), asdict(manifest.Retries()))


def test_retries_by_no_known_word_are_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'max_retrys'; it has count, delay_seconds"):
        relight.Retries(max_retrys=3)  # type: ignore[call-arg]  # that is what is tested


@pytest.mark.parametrize("name", sorted(ABSENT_NAMES))
def test_a_name_that_is_not_there_says_so(name: str) -> None:
    with pytest.raises(relight.InvalidRequest, match=rf"^cannot use relight\.{name}: relight has no .* yet; \w"):
        getattr(relight, name)
    assert name not in dir(relight)


@pytest.mark.parametrize("name", sorted(ABSENT_IMAGES))
def test_a_way_to_make_an_image_that_is_not_there_says_so(name: str) -> None:
    for image in (relight.Image, relight.Image.host()):
        with pytest.raises(
            relight.InvalidRequest, match=rf"^cannot build an image yet: relight\.Image has no {name}; "
        ):
            getattr(image, name)
    assert name not in dir(relight.Image)


def test_what_no_image_ever_had_is_an_attribute_error() -> None:
    image = relight.Image.host()

    for one in (relight.Image, image):
        with pytest.raises(AttributeError, match="has no attribute 'lamp'"):
            one.lamp  # type: ignore[attr-defined]  # noqa: B018 - that is what is tested
    assert copy.copy(image).spec == image.spec


def test_errors_have_the_names_that_modal_gives_them() -> None:
    for name in relight.exception.__all__:
        error = getattr(relight.exception, name)
        assert issubclass(error, errors.RelightError), name
    assert relight.exception.FunctionTimeoutError is relight.FunctionTimeout
    assert relight.exception.NotFoundError is relight.NotFound


@pytest.mark.parametrize("name", sorted(ABSENT_ERRORS))
def test_an_error_that_is_never_raised_says_what_to_catch(name: str) -> None:
    with pytest.raises(relight.InvalidRequest, match=rf"cannot catch relight\.exception\.{name}: .*; catch "):
        getattr(relight.exception, name)


def test_an_error_that_nobody_has_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'relight.exception' has no attribute 'LampError'"):
        relight.exception.LampError  # type: ignore[attr-defined]  # noqa: B018 - that is what is tested


def test_the_input_is_the_call() -> None:
    assert relight.current_input_id is relight.current_function_call_id
    assert relight.current_input_id() is None
