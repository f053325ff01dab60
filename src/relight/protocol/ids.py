"""Names that sort by time: `call-01jd2m…`, 48 bits of milliseconds and 80 of chance, in Crockford's base 32.

An id is made by whoever starts the thing (a caller names its own call), so that saying it twice is harmless.
"""

from __future__ import annotations

import os
import re

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_SHIFTS = tuple(range(120, -1, -10))
_FORM = re.compile(r"[a-z]{2,8}-[0-9a-hjkmnp-tv-z]{26}")


def new_id(kind: str, now_ms: int) -> str:
    """A new id of `kind` (two to eight letters: `call`, `worker`, `run`), made at `now_ms` (milliseconds since 1970)."""
    return id_of(kind, now_ms, int.from_bytes(os.urandom(10), "big"))


def id_of(kind: str, now_ms: int, chance: int) -> str:
    """The id of `kind` that was made at `now_ms` and has these 80 bits of chance."""
    number = (now_ms << 80) | chance
    return f"{kind}-" + "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


def is_id(text: str, kind: str) -> bool:
    """Whether `text` has the form of an id of `kind`."""
    return text.startswith(f"{kind}-") and _FORM.fullmatch(text) is not None


def moment_of(text: str) -> str:
    """The part of an id that says when it was made: such parts sort by time.  `text` must have the form of an id."""
    return text.partition("-")[2][:10]
