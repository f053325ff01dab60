"""A user's value on its way: bytes, the form they are in, and a glimpse of what they say.

Only the two ends of a call open one (`protocol.values`); the server and the agent carry it.
"""

from __future__ import annotations

from dataclasses import dataclass

INLINE_BYTES = 256 * 1024
"""A larger value travels as a blob."""

PREVIEW_BYTES = 4 * 1024
"""No preview is longer."""

PICKLE = "pickle5"
JSON = "json"
RAW = "raw"
FORMATS = (PICKLE, JSON, RAW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """One value.  `data` holds it up to `INLINE_BYTES`; past that `blob` is its SHA-256 and `size` its length.

    `python` is the minor version ("3.11") that must open it, empty when any may; `preview` is its JSON, or its repr.
    """

    format: str
    data: bytes | None = None
    blob: str = ""
    size: int = 0
    python: str = ""
    preview: str = ""
