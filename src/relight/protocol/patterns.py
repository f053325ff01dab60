"""How much work a regular expression can make, told from its text: the server tries only those that cannot make much.

A pattern comes from whoever deploys and a text from whoever calls, and `(a+)+$` against a few dozen letters takes
years.  What is not tried on the server is tried by the caller's SDK and in the worker, each in a process of its own.
The bound is coarse on purpose: it counts, for each repeat and each choice, the ways in which it could be taken.
"""

from __future__ import annotations

import re

MOST_WAYS = 1_000_000
"""About so many steps, some milliseconds, may one pattern take on one text."""

_PIECE = re.compile(
    r"""
    \\. | \[\^?\]?(?:\\.|[^\]\\])*\]    # an escape, or a set of characters
    | \(\?[^:P)] | \(\?P[=>] | \\[1-9]  # looks around, back references, flags
    | [*+?] | \{(\d*)(?:(,)(\d*))?\} | [()|]
    """,
    re.VERBOSE | re.DOTALL,
)
_QUANTIFIER = re.compile(r"[*+?{]")


def is_bounded(pattern: str, length: int) -> bool:
    """Whether trying `pattern` on a text of so many characters ends soon, however they are chosen."""
    ways, depth, is_anchored = 1, 0, pattern.startswith(("^", r"\A"))
    for found in _PIECE.finditer(pattern):
        piece = found[0]
        if piece.startswith(("(?", "\\")) and _is_strange(piece):
            return False
        if piece == ")" and _QUANTIFIER.match(pattern, found.end()):
            return False  # a repeat of what may hold repeats
        depth += {"(": 1, ")": -1}.get(piece, 0)
        is_anchored = is_anchored and not (piece == "|" and depth == 0)
        ways *= _ways(found, length)
        if ways > MOST_WAYS:
            return False
    return ways * (1 if is_anchored else max(length, 1)) <= MOST_WAYS


def _is_strange(piece: str) -> bool:
    return piece.startswith("(?") or piece[1].isdecimal()


def _ways(found: re.Match[str], length: int) -> int:
    piece = found[0]
    if piece in ("*", "+"):
        return max(length, 1)
    if piece in ("?", "|"):
        return 2
    if piece.startswith("{") and found[2]:
        least = int(found[1] or 0)
        most = min(int(found[3]), length) if found[3] else length
        return max(most - least + 1, 1)
    return 1
