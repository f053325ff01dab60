"""Tokens: what a function says that it read and wrote, for it alone knows."""

from __future__ import annotations

from relight.protocol.errors import InvalidRequest
from relight.protocol.inside import inside

MOST_TOKENS = 10**12
"""More are not reported at once."""


def report_tokens(tokens_in: int = 0, tokens_out: int = 0) -> None:
    """Say that the call that runs here read and wrote so many tokens more: costs tell them, by cards that have a price for them.

    They are told with the end of the call, or of the web request.  Where several calls are gathered in one they are the
    worker's, and no call's.  Outside of a worker nothing happens.  Raises InvalidRequest for what is no number of tokens.
    """
    for name, count in (("tokens_in", tokens_in), ("tokens_out", tokens_out)):
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST_TOKENS:
            raise InvalidRequest(
                f"cannot report {name}={count!r}: it is no whole number from 0 to {MOST_TOKENS}; report how many there were"
            )
    if inside.report_tokens is not None and (tokens_in or tokens_out):
        inside.report_tokens(tokens_in, tokens_out)
