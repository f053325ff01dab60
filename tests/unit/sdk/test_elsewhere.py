"""Modal's words mean what relight's do, and those that mean nothing here say so."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

import pytest

import relight
from relight.protocol import errors, manifest
from relight.sdk.elsewhere import ABSENT_ERRORS, ABSENT_IMAGES, ABSENT_NAMES, ABSENT_OPTIONS, SO_ANYWAY, plain_retries
from relight.sdk.options import FunctionOptions, Place, call_options, check_options, spec_of

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
    assert spec().network == "none"


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
