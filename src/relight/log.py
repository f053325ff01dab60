"""What the server and the agent write about themselves: an event in the past tense, and fields.

    log = logging.getLogger(__name__)
    log.info("worker started", extra={"worker": worker.id, "ms": 12})

As text on a terminal, as one JSON object a line elsewhere.  Only handlers are made here, and only when told to.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TextIO

ROOT = "relight"

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """Where lines go and in which form.  `file` None: nowhere but to the stream."""

    level: str = "info"
    format: str = "auto"
    to_stderr: bool = True
    file: Path | None = None


def start_logging(options: LogOptions, stream: TextIO | None = None) -> None:
    """Send relight's own lines, and its web server's, where `options` say; a second call replaces the first."""
    stream = stream or sys.stderr
    handlers: list[logging.Handler] = []
    if options.to_stderr:
        shows_text = options.format == "text" or (options.format == "auto" and stream.isatty())
        handlers.append(_with(logging.StreamHandler(stream), TextForm() if shows_text else JsonForm()))
    if options.file is not None:
        form = TextForm() if options.format == "text" else JsonForm()
        handlers.append(_with(logging.FileHandler(options.file, encoding="utf-8"), form))
    for name, level in ((ROOT, options.level.upper()), ("asyncio", "WARNING")):
        logger = logging.getLogger(name)
        for old in logger.handlers:
            old.close()
        logger.handlers = list(handlers)
        logger.setLevel(level)
        logger.propagate = False


class TextForm(logging.Formatter):
    """`12:03:04.120 info    worker started worker=worker-01… ms=12`"""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback under it when there is one."""
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        fields = "".join(f" {name}={_short(value)}" for name, value in fields_of(record).items())
        line = f"{at} {record.levelname.lower():7} {_one_line(record.getMessage())}{fields}"
        return line if record.exc_info is None else f"{line}\n{self.formatException(record.exc_info)}"


class JsonForm(logging.Formatter):
    """One JSON object a line: at, level, event, logger, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        at = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        said: dict[str, object] = {
            "at": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        said.update((name, value) for name, value in fields_of(record).items() if name not in said)
        if record.exc_info is not None:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str, ensure_ascii=False)


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """What was given as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _with(handler: logging.Handler, form: logging.Formatter) -> logging.Handler:
    handler.setFormatter(form)
    return handler


def _short(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or any(c.isspace() or c in '"=' for c in text) else text


def _one_line(text: str) -> str:
    return text.replace("\n", "\\n").replace("\r", "\\r")
