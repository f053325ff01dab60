"""A call that was spawned: its id, and the result it will have."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from relight.protocol.calls import CallState
from relight.protocol.errors import InvalidRequest
from relight.protocol.ids import is_id
from relight.protocol.inside import inside
from relight.sdk.connection import connect
from relight.sdk.session import Session

R = TypeVar("R")


class Call(Generic[R]):
    """One call.  It is kept by the server: `Call.from_id` finds it again, from any process."""

    def __init__(self, id: str, session: Session) -> None:  # noqa: A002 - it is `call.id`
        self.id = id
        self._session = session

    @staticmethod
    def from_id(id: str) -> Call[Any]:  # noqa: A002 - as above
        """The call of that id, on the server that is found from here."""
        if not is_id(id, "call"):
            raise InvalidRequest(f"cannot find a call by {id!r}: it is not the id of one; they look like call-01jd2m…")
        return Call(id, Session(connect(), "", ""))

    def get(self, timeout: float | None = None) -> R:
        """The result; raises what the function raised, TimeoutError when it has not ended after `timeout` seconds."""
        result: R = self._session.get(self.id, timeout)
        return result

    def status(self) -> CallState:
        """Where it stands."""
        return self._session.status(self.id)

    def cancel(self) -> None:
        """Stop it; what has ended stays as it ended."""
        self._session.connection.cancel(self.id)

    def __repr__(self) -> str:
        return f"Call({self.id!r})"


def is_remote() -> bool:
    """Whether this code runs in a worker."""
    return inside.is_worker


def current_call() -> str | None:
    """The id of the call that runs here, None outside of one."""
    return inside.call or None
