"""Deploys from Git: a branch of a repository whose pushes are deployed, and what became of each push."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class PushState(str, Enum):
    """How far a push has come."""

    QUEUED = "queued"
    FETCHING = "fetching"
    LOADING = "loading"
    DEPLOYED = "deployed"
    FAILED = "failed"
    SUPERSEDED = "superseded"

    @property
    def is_final(self) -> bool:
        """Whether nothing more becomes of it."""
        return self in (PushState.DEPLOYED, PushState.FAILED, PushState.SUPERSEDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRequest:
    """A source that shall be made.

    `url` is what git fetches from, `file` the app's file relative to the repository's top.  `status_url` is told how each
    push fares, by a POST as GitHub's API takes it; `{commit}` in it stands for the commit, `status_token` is shown there.
    """

    url: str
    branch: str = "main"
    file: str = "app.py"
    environment: str = "main"
    status_url: str = ""
    status_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceView:
    """A source, without its secrets."""

    id: str
    url: str
    branch: str
    file: str
    environment: str
    status_url: str
    made_by: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PushView:
    """A push and what became of it.  `versions` are those that were deployed, `detail` says why it failed."""

    id: str
    source: str
    commit: str
    state: PushState
    at: float
    ended_at: float | None = None
    versions: tuple[str, ...] = ()
    detail: str = ""
