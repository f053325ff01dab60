"""A call made once more: the same input, to the function as it is deployed now."""

from __future__ import annotations

from relight.clock import now_ms
from relight.control.calls import Calls
from relight.protocol.api import Submit
from relight.protocol.calls import CallView
from relight.protocol.errors import InvalidRequest, NotFound
from relight.protocol.ids import is_id, new_id
from relight.store.requests import KIND as REQUEST
from relight.store.store import Store


class Retries:
    """Calls made once more."""

    def __init__(self, store: Store, calls: Calls) -> None:
        self._store = store
        self._calls = calls

    async def retry(self, workspace: str, call_id: str) -> CallView:
        """A new call with the input of an earlier one, which stays as it is.

        It belongs to no group and has no parent: nobody waits for it but who asked.  Raises NotFound when the call is not
        kept, or its function is deployed no longer, InvalidRequest for a web request.
        """
        if is_id(call_id, REQUEST):
            raise InvalidRequest(
                f"cannot retry {call_id}: it was a web request, whose headers and body are not kept; ask its URL again"
            )
        request = await self._store.calls.request(workspace, call_id, new_id("call", now_ms()))
        if request is None:
            raise NotFound(f"cannot retry call {call_id!r}: it is not kept here, or no longer; check the id")
        return (await self._calls.submit(workspace, Submit(calls=(request,)))).calls[0]
