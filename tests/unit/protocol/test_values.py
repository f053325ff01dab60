"""Users' values: what comes back is what went, what cannot go is named, and nothing is bigger than it may be."""

from __future__ import annotations

import enum
import math
import mmap
import pickle
import sys
import threading
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.protocol.errors import InvalidRequest, ValueNotPortable
from relight.protocol.payload import JSON, PICKLE, PREVIEW_BYTES, RAW, Payload
from relight.protocol.values import (
    PYTHON,
    dump_exception,
    dump_function,
    dump_input,
    dump_result,
    is_json,
    load_exception,
    load_function,
    load_input,
    load_result,
    preview,
)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class Colour(enum.Enum):
    RED = 1


@dataclass
class Lamp:
    colour: Colour


class Stubborn:
    """Neither pickle nor repr."""

    def __reduce__(self) -> str:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """One file under two names: `__main__`, and `script`."""
    modules = []
    for name in ("__main__", "script"):
        module = ModuleType(name)
        module.__file__ = "script.py"
        exec("class Lamp:\n    pass\ndef light():\n    return 'lit'\n", vars(module))
        monkeypatch.setitem(sys.modules, name, module)
        modules.append(module)
    return modules[0], modules[1]


def test_what_stands_in_no_file_goes_by_value(
    twin: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    main, _ = twin
    monkeypatch.delattr(main, "__file__")
    payload = dump_input((main.Lamp(),), {})
    monkeypatch.delattr(main, "Lamp")

    (lamp,), _ = load_input(payload)

    assert payload.python == PYTHON
    assert type(lamp).__name__ == "Lamp"


def test_a_function_by_value_needs_no_module(
    twin: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    main, _ = twin
    monkeypatch.delattr(main, "__file__")
    data = dump_function(main.light)
    monkeypatch.delattr(main, "light")

    assert load_function(data)() == "lit"
    lock = threading.Lock()
    with pytest.raises(ValueNotPortable, match="cannot pickle"):
        dump_function(lambda: lock)


@given(JSON_VALUES)
def test_json_comes_back_as_it_went(value: Any) -> None:
    payload = dump_result(value, (JSON,))

    assert payload.format == JSON
    assert load_result(payload) == value


@given(st.lists(JSON_VALUES), st.dictionaries(st.text(), JSON_VALUES))
def test_arguments_come_back_as_they_went(args: list[Any], kwargs: dict[str, Any]) -> None:
    assert load_input(dump_input(tuple(args), kwargs)) == (tuple(args), kwargs)


def test_plain_objects_are_any_pythons() -> None:
    payload = dump_result(Lamp(Colour.RED), (PICKLE,))

    assert (payload.format, payload.python) == (PICKLE, "")
    assert load_result(payload) == Lamp(Colour.RED)


def test_a_function_by_value_is_for_the_same_minor_alone() -> None:
    two = 2
    payload = dump_result(lambda x: x * two, (PICKLE,))

    assert payload.python == PYTHON
    assert load_result(payload)(4) == 8
    other = Payload(format=PICKLE, data=payload.data, python="3.9")
    with pytest.raises(ValueNotPortable, match=r"made by Python 3\.9, and this is"):
        load_result(other)


def test_a_class_of_the_script_is_the_same_class_at_home(twin: tuple[ModuleType, ModuleType]) -> None:
    main, script = twin

    (there,), _ = load_input(dump_input((main.Lamp(),), {}), None, {"__main__": "script"})
    home = load_result(dump_result(script.Lamp(), (PICKLE,)), None, {"script": "__main__"})

    assert type(there) is script.Lamp
    assert type(home) is main.Lamp


def test_what_stands_in_the_script_goes_by_name_even_beside_a_lambda(twin: tuple[ModuleType, ModuleType]) -> None:
    main, script = twin

    (lamp, function, light), _ = load_input(
        dump_input((main.Lamp(), lambda: 1, main.light), {}), None, {"__main__": "script"}
    )

    assert type(lamp) is script.Lamp
    assert light is script.light
    assert function() == 1


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        ((1, threading.Lock()), {}, r"argument 2 \(a lock\)"),
        ((), {"door": Stubborn()}, r"argument 'door' \(a Stubborn\)"),
    ],
)
def test_an_argument_that_cannot_go_is_named(args: tuple[Any, ...], kwargs: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueNotPortable, match=f"cannot send {named}"):
        dump_input(args, kwargs)


def test_what_the_other_end_cannot_find_is_said() -> None:
    with pytest.raises(ValueNotPortable, match=r"cannot read the result: ModuleNotFoundError.*nowhere_to_be"):
        load_result(Payload(format=PICKLE, data=b"cnowhere_to_be\nLamp\n."))


@pytest.mark.parametrize("data", [b"", b"\x80\x05", b"\xff" * 20])
def test_bytes_without_meaning_are_refused(data: bytes) -> None:
    with pytest.raises(ValueNotPortable):
        load_result(Payload(format=PICKLE, data=data))
    with pytest.raises(ValueNotPortable):
        load_result(Payload(format="of tomorrow", data=data))


@pytest.mark.parametrize(
    "payload",
    [
        Payload(format=JSON, data=b"[1]"),
        Payload(format=JSON, data=b'{"args": {}}'),
        Payload(format=JSON, data=b'{"args": [], "more": 1}'),
        Payload(format=PICKLE, data=pickle.dumps([1, 2])),
    ],
)
def test_what_is_no_arguments_is_refused(payload: Payload) -> None:
    with pytest.raises(InvalidRequest, match="cannot read the arguments"):
        load_input(payload)


def test_arguments_in_json_are_rows_and_names() -> None:
    assert load_input(Payload(format=JSON, data=b'{"args": [1], "kwargs": {"x": 2}}')) == ((1,), {"x": 2})
    assert load_input(Payload(format=JSON, data=b"{}")) == ((), {})


def test_a_value_in_a_mapped_file_is_read_there() -> None:
    payload = dump_result(list(range(1000)), (PICKLE,))
    assert payload.data is not None
    with mmap.mmap(-1, payload.size) as mapped:
        mapped.write(payload.data)
        mapped.seek(0)

        assert load_result(Payload(format=PICKLE, size=payload.size), mapped) == list(range(1000))


def test_a_value_that_was_not_fetched_is_said() -> None:
    with pytest.raises(ValueNotPortable, match="its 9 bytes were not fetched"):
        load_result(Payload(format=PICKLE, blob="0" * 64, size=9))


@pytest.mark.parametrize("value", [{1: 2}, {1, 2}, math.nan, b"x", Colour.RED, [object()], {"a": {"b": math.inf}}])
def test_what_json_would_change_stays_python(value: Any) -> None:
    assert not is_json(value)
    assert dump_result(value, (JSON,)).format == PICKLE


def test_a_circle_is_not_json() -> None:
    circle: list[Any] = []
    circle.append(circle)

    assert dump_result(circle, (JSON,)).format == PICKLE


def test_bytes_may_go_as_they_are() -> None:
    payload = dump_result(b"\x00\xff", (RAW, PICKLE))

    assert (payload.format, payload.data) == (RAW, b"\x00\xff")
    assert load_result(payload) == b"\x00\xff"


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ({"a": [1, None]}, '{"a": [1, null]}'),
        ("é", '"é"'),
        ({1}, "{1}"),
        (type("list", (), {})(), "<list, whose repr raised TypeError>"),  # not the list that its name promises
    ],
)
def test_a_preview_says_what_a_value_is(value: Any, seen: str) -> None:
    assert preview(value) == seen


@pytest.mark.parametrize("value", ["é" * 100_000, list(range(1_000_000)), {str(n): n for n in range(300)}, "\ud800"])
def test_a_preview_is_short_whatever_the_value(value: Any) -> None:
    assert 0 < len(preview(value).encode()) <= PREVIEW_BYTES


def test_an_exception_goes_with_what_it_holds_unless_it_is_too_large() -> None:
    payload = dump_exception(KeyError("lamp", 3), 1000)

    assert payload is not None
    assert load_exception(payload).args == ("lamp", 3)
    assert dump_exception(KeyError("x" * 2000), 1000) is None
    assert dump_exception(KeyError(threading.Lock()), 1000) is None


def test_what_is_no_exception_is_not_raised() -> None:
    with pytest.raises(ValueNotPortable, match="it became a int"):
        load_exception(dump_result(3, (PICKLE,)))
