"""Versions of an app, where its name leads, and what changes between two: what a person or a program may ask to see."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from relight.protocol.manifest import Json

KEPT_TAGS = 32
"""How many tags a version may have."""

TAG_LENGTH = 200
"""How many characters the name, and the value, of a tag may have."""


class How(str, Enum):
    """Why a name came to lead elsewhere."""

    DEPLOY = "deploy"
    CANARY = "canary"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionView:
    """One immutable deploy.

    `number` counts the versions of its app in its environment from 1; `percent` of the calls lead to it now; `made_by` is
    the name of the token that deployed it ("" on the local socket), `source` the version it was promoted from.
    """

    id: str
    app: str
    environment: str
    number: int
    at: float
    percent: float = 0.0
    made_by: str = ""
    commit: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A time from which on a name leads to `version`, but for `canary_percent` of its calls, which lead to `canary`."""

    at: float
    how: How
    version: str
    canary: str = ""
    canary_percent: float = 0.0
    made_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Led:
    """Where a name leads now."""

    version: str
    canary: str = ""
    canary_percent: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that differs between two versions: `function` "" is the app itself; a value None is not there."""

    function: str
    field: str
    before: Json = None
    after: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """GET /v1/apps/{app}/diff: what one version changes beside another ("" for none)."""

    before: str
    after: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionPlan:
    """What a deploy comes to for one function.

    `nodes` could run it, were they empty; `why_nowhere` says why there is none, `why_no_template` why each worker is a
    process of its own ("" where neither is so).
    """

    function: str
    nodes: tuple[str, ...]
    why_nowhere: str = ""
    why_no_template: str = ""
    cpu: float
    memory_mib: int
    timeout_seconds: float
    min_workers: int
    max_workers: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployPlan:
    """POST /v1/deploys/plan: what a deploy would change beside what is there, and what each function comes to."""

    difference: Difference
    functions: tuple[FunctionPlan, ...]
