"""What one call writes, shown on stderr while it is waited for."""

from __future__ import annotations

import sys
import threading

from relight.cli.tables import number
from relight.protocol.errors import RelightError
from relight.protocol.manifest import Json
from relight.sdk.connection import Connection, Stream
from relight.sdk.requests import plain, query

_PAGE = 1000
_LEAVE_SECONDS = 5.0


class Live:
    """The lines of a call.  `follow` begins to show them, in a thread; `finish` shows those that are left."""

    def __init__(self, connection: Connection, call: str) -> None:
        self._connection = connection
        self._call = call
        self._after = 0
        self._stream: Stream | None = None
        self._thread: threading.Thread | None = None

    def follow(self) -> None:
        """Begin, unless it has begun."""
        if self._thread is None:
            self._stream = self._connection.stream(plain("GET", self._path(follow=1)))
            self._thread = threading.Thread(target=self._listen, args=(self._stream,), name="relight.live", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Stop following, and show the lines that have been kept since."""
        if self._stream is not None and self._thread is not None:
            self._stream.stop()
            self._thread.join(_LEAVE_SECONDS)
        is_more = True
        while is_more:
            lines = list(self._connection.lines(self._path(limit=_PAGE)))
            for line in lines:
                self._show(line)
            is_more = len(lines) == _PAGE

    def _listen(self, stream: Stream) -> None:
        try:
            with stream:
                for line in stream:
                    self._show(line)
        except RelightError:
            return  # it was stopped, or the server is away: `finish` reads the rest, or says why it cannot

    def _show(self, line: Json) -> None:
        if isinstance(line, dict) and number(line["id"]) > self._after:
            self._after = int(number(line["id"]))
            sys.stderr.write(f"{line['text']}\n")
            sys.stderr.flush()

    def _path(self, **fields: str | int) -> str:
        asked: dict[str, str | int] = {"call": self._call, "after": self._after}
        return f"/v1/logs{query({**asked, **fields})}"
