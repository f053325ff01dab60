"""Options made from signatures."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Optional

import click
import pytest

from relight.cli.parameters import from_function, from_specs, read_options
from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import ParameterSpec


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


def everything(
    x: int,
    y: float = 1.5,
    name: str = "n",
    path: Path = Path("."),
    mode: Literal["fast", "slow"] = "fast",
    level: Literal[1, 2] = 1,
    colour: Colour = Colour.RED,
    tags: list[str] = [],  # noqa: B006 - it is read, not changed
    sizes: Sequence[int] = (),
    pair: tuple[int, ...] = (),
    some_flag: bool = False,
    maybe: int | None = None,
    maybe_too: Optional[str] = None,  # noqa: UP045 - users write it so
    data: dict[str, int] | None = None,
    unsaid=None,  # type: ignore[no-untyped-def]
) -> None:
    """Takes everything."""


def read(words: str) -> dict[str, Any]:
    return read_options("f", from_function(everything), words.split())


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("--x 7", {"x": 7}),
        ("--x -7 --y 2", {"x": -7, "y": 2.0}),
        ("--x 1 --name 12", {"x": 1, "name": "12"}),
        ("--x 1 --path a/b", {"x": 1, "path": Path("a/b")}),
        ("--x 1 --mode slow --level 2", {"x": 1, "mode": "slow", "level": 2}),
        ("--x 1 --colour BLUE", {"x": 1, "colour": Colour.BLUE}),
        ("--x 1 --tags a --tags b", {"x": 1, "tags": ["a", "b"]}),
        ("--x 1 --sizes 1 --sizes 2 --pair 3", {"x": 1, "sizes": [1, 2], "pair": (3,)}),
        ("--x 1 --some-flag", {"x": 1, "some_flag": True}),
        ("--x 1 --no-some-flag", {"x": 1, "some_flag": False}),
        ("--x 1 --maybe 3 --maybe-too t", {"x": 1, "maybe": 3, "maybe_too": "t"}),
        ('--x 1 --data {"a":1}', {"x": 1, "data": {"a": 1}}),
        ("--x 1 --unsaid [1,2]", {"x": 1, "unsaid": [1, 2]}),
        ("--x 1 --unsaid words", {"x": 1, "unsaid": "words"}),
    ],
)
def test_words_become_what_the_function_wants(words: str, found: dict[str, Any]) -> None:
    assert read(words) == found


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "Missing option '--x'"),
        ("--x seven", "not a valid integer"),
        ("--x 1 --mode medium", "'medium' is not one of"),
        ("--x 1 --colour GREEN", "'GREEN' is not one of"),
        ("--x 1 --other 2", "No such option"),
        ("--x 1 stray", "unexpected extra argument"),
    ],
)
def test_words_that_do_not_fit_are_refused(words: str, says: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        read(words)

    assert says in caught.value.format_message()


def test_help_shows_each_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.exceptions.Exit):
        read_options("f", from_function(everything), ["--help"], everything.__doc__ or "")

    said = capsys.readouterr().out
    assert "Takes everything." in said
    for line in (
        "--x INTEGER",
        "[required]",
        "[fast|slow]",
        "[default: fast]",
        "--some-flag / --no-some-flag",
        "[default: RED]",
    ):
        assert line in said


def test_the_object_of_a_method_is_no_option() -> None:
    class Reader:
        def read(self, text: str) -> str:
            return text

    assert [one.name for one in from_function(Reader.read)] == ["text"]


def test_annotations_that_exist_for_type_checkers_alone_are_read_as_json() -> None:
    def function(x: "Missing", y: int = 1) -> None:  # type: ignore[name-defined]  # noqa: F821, UP037 - as users write it
        pass

    assert read_options("f", from_function(function), ["--x", "[1]", "--y", "2"]) == {"x": [1], "y": 2}


def test_a_parameter_by_position_only_cannot_be_an_option() -> None:
    def function(x: int, /) -> None:
        pass

    with pytest.raises(InvalidRequest, match="by position only"):
        from_function(function)


@pytest.mark.parametrize(
    ("annotation", "word", "value"),
    [
        ("int", "7", 7),
        ("int | None", "7", 7),
        ("Optional[float]", "7", 7.0),
        ("str", "7", "7"),
        ("'str'", "7", "7"),
        ("list[int]", "7", [7]),
        ("tuple[int, ...]", "7", [7]),
        ("Literal['a', 'b']", "b", "b"),
        ("", "7", 7),
        ("np.ndarray", "[1, 2]", [1, 2]),
        ("dict[str, int]", '{"a": 1}', {"a": 1}),
    ],
)
def test_a_deployed_function_is_known_by_the_text_of_its_annotations(annotation: str, word: str, value: object) -> None:
    options = from_specs([ParameterSpec(name="x", annotation=annotation)])

    assert read_options("f", options, ["--x", word]) == {"x": value}


def test_what_has_a_default_there_may_be_left_out_here() -> None:
    options = from_specs([ParameterSpec(name="x", annotation="int", required=False, default=3)])

    assert read_options("f", options, []) == {}
