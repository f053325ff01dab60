"""The lines that the server writes about itself."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from relight.log import JsonForm, LogOptions, TextForm, start_logging


@pytest.fixture
def restored() -> Iterator[None]:
    """The logging of the test run itself, put back as it was."""
    loggers = [logging.getLogger(name) for name in ("relight", "asyncio")]
    before = [(one.handlers, one.level, one.propagate) for one in loggers]
    yield
    for one, (handlers, level, propagate) in zip(loggers, before, strict=True):
        for handler in one.handlers:
            handler.close()
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


def record(said: str, /, **fields: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "relight.agent", "levelname": "INFO", "levelno": logging.INFO, "msg": said})
    vars(made).update(fields)
    return made


def test_json_says_the_event_and_its_fields() -> None:
    line = json.loads(JsonForm().format(record("worker started", worker="worker-1", ms=12)))

    assert (line["event"], line["level"], line["logger"]) == ("worker started", "info", "relight.agent")
    assert (line["worker"], line["ms"]) == ("worker-1", 12)


def test_a_field_cannot_pretend_to_be_the_event() -> None:
    line = json.loads(JsonForm().format(record("worker started", event="another")))

    assert line["event"] == "worker started"


def test_text_is_one_line_whatever_the_event_and_the_fields_hold() -> None:
    line = TextForm().format(record("worker\nstarted", reason="two words", path="/x"))

    assert "\n" not in line
    assert line.endswith('worker\\nstarted reason="two words" path=/x')


@pytest.mark.usefixtures("restored")
def test_lines_go_to_the_stream_and_to_the_file(tmp_path: Path) -> None:
    stream, file = io.StringIO(), tmp_path / "server.log"

    start_logging(LogOptions(format="text", file=file), stream)
    logging.getLogger("relight.gateway").info("server started", extra={"port": 8700})
    logging.getLogger("relight.gateway").debug("not asked for")

    assert stream.getvalue().endswith("info    server started port=8700\n")
    assert file.read_text() == stream.getvalue()


@pytest.mark.usefixtures("restored")
def test_away_from_a_terminal_lines_are_json() -> None:
    stream = io.StringIO()

    start_logging(LogOptions(), stream)
    logging.getLogger("relight").warning("node lost", extra={"node": "a"})

    assert json.loads(stream.getvalue())["node"] == "a"
