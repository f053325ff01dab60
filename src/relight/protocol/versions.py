"""Versions of an app, where its name leads, and what changes between two: what a person or a program may ask to see."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from relight.protocol.manifest import Json

KEPT_TAGS = 32
"""How many tags a version may have."""

TAG_LENGTH = 200
"""How many characters the name, and the value, of a tag may have."""


class Strategy(str, Enum):
    """What becomes of the version before when another is deployed.

    ROLLING: both are there until the one before has ended what it has.  RECREATE: the new one's workers start when those
    before are gone, and calls wait meanwhile.  SHADOW: calls stay with the one before, and the new one gets copies of some.
    """

    ROLLING = "rolling"
    RECREATE = "recreate"
    SHADOW = "shadow"


class How(str, Enum):
    """Why a name came to lead elsewhere."""

    DEPLOY = "deploy"
    CANARY = "canary"
    SHADOW = "shadow"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowView:
    """How copies of the calls of one function went, beside the calls themselves.  Times are seconds that a worker took.

    Of `copies` that were made, `ended` have, `failed` of them without a result, by `failures` (the code of each, and how
    often).  `compared` are those whose call has ended too: of them `differed` have another result (or have one where the
    other has none), and `both_failed`.  `dropped` were not made, or not run, as too many waited.
    """

    function: str
    copies: int = 0
    ended: int = 0
    failed: int = 0
    compared: int = 0
    differed: int = 0
    both_failed: int = 0
    dropped: int = 0
    p50_seconds: float = 0.0
    p99_seconds: float = 0.0
    p50_seconds_before: float = 0.0
    p99_seconds_before: float = 0.0
    failures: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionView:
    """One immutable deploy.

    `number` counts the versions of its app in its environment from 1; `percent` of the calls lead to it now, and of
    `shadow_percent` it gets copies; `made_by` is the name of the token that deployed it ("" on the local socket), `source`
    the version it was promoted from.  `shadow` says how the copies went, of one that is or was a shadow.
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
    shadow_percent: float = 0.0
    shadow: tuple[ShadowView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A time from which on a name leads to `version`, but for `canary_percent` of its calls, which lead to `canary`.

    Where the `strategy` is SHADOW, all calls lead to `version`, and copies of that part to `canary`.
    """

    at: float
    how: How
    version: str
    canary: str = ""
    canary_percent: float = 0.0
    made_by: str = ""
    strategy: Strategy = Strategy.ROLLING


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
