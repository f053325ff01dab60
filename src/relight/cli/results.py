"""What calls and functions give back, printed as people and pipes read it: whole, or item by item as it comes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from relight.cli.live import Live
from relight.cli.main import USER_CODE_FAILED
from relight.cli.tables import show_json
from relight.protocol.api import Await, ReadItems
from relight.protocol.calls import CallState, CallView
from relight.protocol.errors import NotFound, RelightError, error_of
from relight.protocol.manifest import Json
from relight.protocol.payload import JSON, Payload
from relight.sdk.connection import Connection
from relight.sdk.session import FIRST_WAIT_SECONDS, Waiting

_FIRST_WAIT_SECONDS = 0.3
"""A call that ends sooner is not listened to: its lines are read when it has ended."""

_WAIT_SECONDS = 10.0


class Watch:
    """One call that was submitted, until it has ended.  Ctrl-C cancels it."""

    def __init__(self, connection: Connection, call: str, what: str, live: Live | None = None) -> None:
        self._connection = connection
        self._call = call
        self._live = live
        self._waiting = Waiting(what, lambda text: sys.stderr.write(text))
        self._seconds = _FIRST_WAIT_SECONDS

    def wait(self) -> CallView:
        """The call once it has ended; says why it waits, and shows what it writes."""
        return self._unless_interrupted(self._wait)

    def print_items(self) -> CallView:
        """Print what the call yields, as it does; the call once it has ended."""
        return self._unless_interrupted(self._print_items)

    def _unless_interrupted(self, work: Callable[[], CallView]) -> CallView:
        try:
            view = work()
        except (KeyboardInterrupt, BrokenPipeError) as error:  # nobody wants it any more, at this end or the other
            self._connection.cancel(self._call)
            if isinstance(error, KeyboardInterrupt):
                click.echo(f"relight: told {self._call} to stop", err=True)
            raise
        if self._live is not None:
            self._live.finish()
        return view

    def _wait(self) -> CallView:
        while True:
            found = self._connection.wait(Await(ids=(self._call,), wait_seconds=self._seconds)).calls
            view = next((one for one in found if one.id == self._call), None)
            if view is None:
                raise NotFound(f"cannot find call {self._call}: this server does not know it; see `relight calls list`")
            if view.state.is_final:
                return view
            self._go_on(view)

    def _print_items(self) -> CallView:
        taken = 0
        while True:
            query = ReadItems(call=self._call, taken=taken, wait_seconds=self._seconds)
            answer = self._connection.do(self._connection.server.read_items(query))
            for item in answer.items:
                print_payload(self._connection, item, "an item")
            taken += len(answer.items)
            if answer.call.state.is_final and not answer.items:
                return answer.call
            if not answer.items:
                self._go_on(answer.call)

    def _go_on(self, view: CallView) -> None:
        if self._seconds >= FIRST_WAIT_SECONDS:
            self._waiting.tell(view.pending_reason)
        if self._live is not None:
            self._live.follow()
        self._seconds = FIRST_WAIT_SECONDS if self._seconds < FIRST_WAIT_SECONDS else _WAIT_SECONDS


def print_end(connection: Connection, view: CallView) -> int:
    """Print what a call returned, or raised; the exit code that says which."""
    failure = view.failure
    if view.state is not CallState.SUCCEEDED:
        if failure is None:
            raise RelightError(f"cannot give a result: the call {view.state.value}")
        if not failure.traceback:
            raise error_of(failure)
        click.echo(failure.traceback.rstrip("\n"), err=True)
        return USER_CODE_FAILED
    if view.result is not None:
        print_payload(connection, view.result, "the result")
    return 0


def print_payload(connection: Connection, given: Payload, what: str) -> None:
    """Print a value: text as it is, JSON as JSON, what only Python can open as its repr."""
    payload = connection.fetch(given) if given.format == JSON else given
    if payload.format != JSON or payload.data is None:
        click.echo(payload.preview)
        click.echo(f"relight: {what} is a Python value, and this is its repr; read it with the SDK", err=True)
        return
    value: Json = json.loads(payload.data)
    if isinstance(value, str):
        click.echo(value)
    elif what == "an item":
        click.echo(json.dumps(value, ensure_ascii=False))  # a line each: a stream that a program reads by lines
    else:
        show_json(value)


def print_returned(returned: Any) -> None:
    """Print what a function gave back here: text as it is, nothing for None, an iterator's items as they come."""
    if isinstance(returned, Iterator):
        for item in returned:
            print_returned(item)
    elif returned is not None:
        click.echo(returned if isinstance(returned, str) else repr(returned))
