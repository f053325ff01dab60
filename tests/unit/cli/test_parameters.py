"""Options made from signatures."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import click
import pytest

from relight.cli.parameters import as_json, as_python, from_function, from_method, read_options
from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import MethodSpec, ParameterSpec
from relight.sdk.file import File, SentPath
from relight.sdk.inputs import Input


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
    """What the function is called with."""
    return as_python(everything, read_options("f", from_function(everything), words.split()), is_local=True)


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


def paint(
    prompt: Annotated[str, Input("What to paint", min_length=2)],
    steps: Annotated[int, Input(ge=1, le=50, unit="rounds")] = 20,
    strength: Annotated[float, Input(gt=0)] = 0.5,
    at: datetime.datetime | None = None,
    size: Size | None = None,
    tags: Annotated[list[str], Input(choices=["a", "b"])] = [],  # noqa: B006 - it is read, not changed
    image: File | None = None,
    images: list[File] = [],  # noqa: B006 - as above
    where: Path = Path("."),
    table: dict[str, int] = {},  # noqa: B006 - as above
) -> None:
    """Paints.

    Args:
        at: when it shall be ready
    """


@dataclasses.dataclass
class Size:
    width: int
    height: int = 1


def words_of(**options: str) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", value)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"steps": "99"}, "99 is not in the range 1<=x<=50"),
        ({"strength": "0"}, "0.0 is not in the range x>0"),
        ({"at": "noon"}, "--at: 'noon' is not a date-time"),
        ({"size": '{"width": 1, "hight": 2}'}, "there is no 'hight'; did you mean 'height'?"),
        ({"tags": "c"}, "'c' is not one of 'a', 'b'"),
        ({"image": "nowhere.png"}, "there is no file 'nowhere.png' here"),
        ({"table": '{"a": "b"}'}, "--table: a: 'b' is not an integer"),
        ({"prompt": "x"}, "--prompt: it has 1 characters, and must have at least 2"),
    ],
)
def test_what_the_schema_refuses_is_refused_before_anything_is_sent(options: dict[str, str], says: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        read_options("f", from_function(paint), words_of(**{"prompt": "a cat", **options}))

    assert says in caught.value.format_message()


def test_what_is_read_becomes_what_the_annotations_say() -> None:
    words = words_of(prompt="a cat", at="2026-01-31T12:00:00Z", size='{"width": 3}', tags='["a", "b"]')

    found = as_python(paint, read_options("f", from_function(paint), words), is_local=False)

    assert found == {
        "prompt": "a cat",
        "at": datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.timezone.utc),
        "size": Size(width=3),
        "tags": ["a", "b"],
    }


def test_help_shows_descriptions_ranges_units_and_no_second_list_of_parameters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(click.exceptions.Exit):
        read_options("f", from_function(paint), ["--help"], paint.__doc__ or "")

    said = " ".join(capsys.readouterr().out.split())
    assert "Paints." in said
    assert "Args:" not in said
    for part in ("What to paint", "(in rounds) [default: 20]", "1<=x<=50", "when it shall be ready", "--image FILE"):
        assert part in said


def test_a_file_goes_by_its_bytes_and_a_path_by_its_name_unless_it_is_a_file_here(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"png")
    words = words_of(prompt="xx", image=str(picture), images=str(picture), where="/models/x")

    said = as_json(read_options("f", from_function(paint), words))

    sent = {"url": "data:image/png;base64,cG5n", "name": "a.png"}
    assert said == {"prompt": "xx", "image": sent, "images": [sent], "where": "/models/x"}
    assert as_json({"where": picture}) == {"where": sent}


def test_a_file_for_a_worker_is_sent_along_and_one_for_an_entrypoint_is_here_already(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"png")
    said = read_options(
        "f", from_function(paint), words_of(prompt="xx", image=str(picture), images=str(picture), where=str(picture))
    )

    sent, kept = as_python(paint, said, is_local=False), as_python(paint, said, is_local=True)

    assert isinstance(sent["image"], File)
    assert [one.read() for one in (sent["image"], *sent["images"])] == [b"png", b"png"]
    assert isinstance(sent["where"], SentPath)
    assert kept["where"] == picture
    assert as_python(paint, {"where": Path("/models/x")}, is_local=False) == {"where": Path("/models/x")}


def test_a_url_stands_for_a_file() -> None:
    url = "data:text/plain;base64,aGk="

    found = as_python(paint, read_options("f", from_function(paint), words_of(prompt="xx", image=url)), is_local=False)

    assert found["image"].read() == b"hi"


def test_what_was_deployed_without_a_schema_takes_json_or_text() -> None:
    options = from_method(MethodSpec(parameters=(ParameterSpec(name="x"), ParameterSpec(name="y", required=False))))

    assert read_options("f", options, ["--x", "[1]"]) == {"x": [1]}
    assert read_options("f", options, ["--x", "a", "--y", "1"]) == {"x": "a", "y": 1}


def test_parameters_that_take_the_rest_are_no_options() -> None:
    def function(x: int, *rest: int, **more: int) -> None:
        pass

    assert [one.name for one in from_function(function)] == ["x"]
