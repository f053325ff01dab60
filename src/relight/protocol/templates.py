"""What became of a template on a node: it is ready to be forked, or there is none, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

KEPT_OUTCOMES = 1000
"""So many templates, the newest, are known of a node."""


class TemplateState(str, Enum):
    """Where a template stands."""

    MAKING = "making"
    READY = "ready"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateOutcome:
    """A template of a node, by the key that all its workers have in common (`link.template_key`).

    `why` says why there is none, `code: sentence`.  A ready one took `seconds` to make, and has `memory_bytes`.
    """

    key: str
    state: TemplateState
    why: str = ""
    seconds: float = 0.0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateView:
    """What is known of a function's template: on `node` where it is ready, else on the node that said why it is not.

    One that waits for a node is being made, and `why` says so.
    """

    function: str
    state: TemplateState
    why: str = ""
    node: str = ""
    seconds: float = 0.0
    memory_mib: float = 0.0
