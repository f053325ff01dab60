"""A run: the app deployed for as long as this block, its output shown here, its calls ended when the block ends.

deploy to `run-…` ▶ listen to its output (a thread; also our sign of life) ▶ the user's block
    ends well   ▶ wait for spawned calls ▶ end the run ▶ the last output
    raises      ▶ cancel what is left    ▶ end the run ▶ the last output
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from relight.protocol.errors import NotFound, RelightError, Unavailable
from relight.protocol.views import LogRecord, RunEnded
from relight.sdk import requests
from relight.sdk.connection import Connection, Stream
from relight.sdk.repeats import Repeats
from relight.sdk.session import Session

_LAST_OUTPUT_SECONDS = 5.0
"""So long is waited for what workers write as they leave (an `@exit` method may), ..."""

_LAST_OUTPUT_AFTER_AN_ERROR_SECONDS = 1.0
"""... and so long where the user has something else to read, or pressed Ctrl-C."""


class Output:
    """Shows what the workers of a run write, as they write it."""

    def __init__(self, connection: Connection, run: str, show: Callable[[LogRecord], None] | None = None) -> None:
        self._connection = connection
        self._run = run
        self._shown = Repeats(show or write)
        self._after = 0
        self._stream: Stream | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="relight.output", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def finish(self, seconds: float) -> None:
        """Show the rest, as far as it comes within so many seconds, and stop listening."""
        self._thread.join(seconds)
        self._is_over.set()
        if self._stream is not None:
            self._stream.stop()
        self._thread.join(_LAST_OUTPUT_SECONDS)
        self._shown.finish()

    def _listen(self) -> None:
        """Listen again whenever the server was away; the run ends without us when we cannot."""
        while not self._is_over.is_set():
            self._try_hear()

    def _try_hear(self) -> None:
        try:
            self._hear()
        except Unavailable:
            self._is_over.wait(0.2)  # the server is being restarted, or has gone: the calls themselves say so
        except NotFound:
            self._is_over.set()
        except RelightError as error:
            self._is_over.set()
            sys.stderr.write(f"relight: {error}\n")

    def _hear(self) -> None:
        with self._connection.stream(requests.attach(self._run, self._after)) as stream:
            self._stream = stream
            for line in stream:
                event = requests.read_event(line)
                if isinstance(event, RunEnded):
                    self._is_over.set()
                    return
                if event is not None and event.id > self._after:
                    self._after = event.id
                    self._shown.tell(event)
        self._is_over.wait(0.05)


def write(record: LogRecord) -> None:
    """Write one line where its source belongs."""
    stream = sys.stdout if record.source == "stdout" else sys.stderr
    stream.write(f"relight: {record.text}\n" if record.source == "system" else record.text + "\n")
    stream.flush()


@contextmanager
def running(session: Session, show: Callable[[LogRecord], None] | None = None) -> Iterator[None]:
    """The time in which a run is open.  `show` is given what its workers write, instead of it being written here."""
    output = Output(session.connection, session.environment, show)
    output.start()
    patience = _LAST_OUTPUT_SECONDS
    try:
        yield
        _finish_spawned(session)
    except BaseException:
        patience = _LAST_OUTPUT_AFTER_AN_ERROR_SECONDS
        with suppress(RelightError):  # what the user is to see is their own error
            left = session.connection.stop_run(session.environment, cancel=True)
            if left:
                session.say(f"relight: cancelled {left} unfinished call{'s' * (left != 1)}\n")
        raise
    else:
        with suppress(NotFound):
            session.connection.stop_run(session.environment, cancel=True)
    finally:
        output.finish(patience)


def _finish_spawned(session: Session) -> None:
    waits_for = len(session.spawned)
    if not waits_for:
        return
    left = session.connection.stop_run(session.environment, cancel=False)
    if left:
        session.say(f"relight: waiting for {left} spawned call{'s' * (left != 1)} to end; Ctrl-C cancels\n")
        session.connection.do(session.wait_spawned())
