"""What became of a template on a node: it is ready to be forked, or there is none, and why."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relight.protocol.link import WorkerSpec
    from relight.protocol.manifest import FunctionSpec

KEPT_OUTCOMES = 1000
"""So many templates, the newest, are known of a node."""


class TemplateState(str, Enum):
    """Where a template stands."""

    MAKING = "making"
    READY = "ready"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateOutcome:
    """A template of a node, by the key that all its workers have in common (`template_key`).

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


def template_key(spec: WorkerSpec) -> str:
    """What two workers must have in common to be forked from one template.

    The version says which code; functions of one module share it, unless their objects are made before the fork.
    """
    function = spec.function
    own = (function.name, spec.parameters) if function.has_snap or function.serialized else ()
    parts = (
        *(spec.workspace, spec.app, spec.environment, spec.version, spec.code.digest, function.image),
        *(function.env, function.network, function.module, own),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def never_forked(function: FunctionSpec) -> str:
    """Why no worker of this function is a fork, on whatever node; "" when that depends."""
    if function.resources.gpu:
        return "gpu: a worker with a GPU is started by itself"
    if not function.uses_template:
        return "asked: the function has template=False"
    return ""
