"""What the gateway needs of the platform: the part of `control` that it calls, and nothing else of it."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import Protocol

from relight.control.exchanges import Exchange
from relight.control.sources import Delivery
from relight.control.web import Target
from relight.protocol.api import Await, CallDetail, CallViews, Cancel, Deploy, Deployed, Items, ReadItems, Submit
from relight.protocol.calls import CallKey, CallRequest, CallView
from relight.protocol.costviews import BudgetView, CostQuery, CostReport
from relight.protocol.manifest import FunctionSpec, Json
from relight.protocol.scaleviews import DeadView, QueueView, ScalingView
from relight.protocol.sources import PushView, SourceRequest, SourceView
from relight.protocol.startviews import StartQuery, StartSummary, StartView
from relight.protocol.versions import DeployPlan, Difference, Led, Switch, VersionView
from relight.protocol.views import (
    AppTemplates,
    AppView,
    CallPlace,
    CallQuery,
    FunctionStats,
    LogQuery,
    LogRecord,
    NodeView,
    Principal,
    RunEnded,
    TokenRequest,
    TokenView,
)
from relight.protocol.workers import WorkerView


class Calls(Protocol):
    """Calls, taken in and told about."""

    async def submit(self, workspace: str, submit: Submit, /, *, worker: str = "") -> CallViews:
        """Keep calls; wait up to `wait_seconds` for all of them.  `worker` is the one that asks, if one does."""

    async def submit_once(
        self,
        workspace: str,
        request: CallRequest,
        key: CallKey | None,
        /,
        *,
        wait_seconds: float = 0.0,
        worker: str = "",
    ) -> CallView:
        """Keep a call, unless its key stands for another: then that one; wait for one without a key.  Raises KeyReused."""

    async def named(self, workspace: str, key: CallKey, /) -> CallView | None:
        """The call that a key stands for; None when that is none.  Raises KeyReused."""

    def follow(self, workspace: str, call_id: str, /) -> AsyncIterator[CallView]:
        """A call as it stands now, and each time that it stands otherwise; its end is the last.  Raises NotFound."""

    async def wait(self, workspace: str, query: Await, /, *, worker: str = "") -> CallViews:
        """Wait for one of the calls named."""

    async def items(self, workspace: str, query: ReadItems, /, *, worker: str = "") -> Items:
        """The items of a generator past those that were taken; waits for one."""

    async def show(self, workspace: str, call_id: str, /) -> CallDetail:
        """All that is known of a call."""

    async def tree(self, workspace: str, call_id: str, /) -> tuple[CallView, ...]:
        """A call and those that came of it, oldest first.  Raises NotFound."""

    async def list(self, workspace: str, query: CallQuery, /) -> tuple[CallView, ...]:
        """Calls, newest first."""

    async def cancel(self, workspace: str, call_id: str, /) -> CallView:
        """Cancel a call."""

    async def unfinished(self, workspace: str, named: Cancel, /) -> tuple[CallPlace, ...]:
        """Those of the calls named that wait or run."""

    async def cancel_all(self, workspace: str, calls: Sequence[CallPlace], /) -> int:
        """Cancel calls; how many had not ended."""


class Traffic(Protocol):
    """Web requests that are over."""

    async def list(self, workspace: str, query: CallQuery, /) -> tuple[CallView, ...]:
        """Those that are asked for, newest first."""

    async def show(self, workspace: str, request_id: str, /) -> CallDetail:
        """All that is known of one.  Raises NotFound."""


class Retries(Protocol):
    """Calls made once more."""

    async def retry(self, workspace: str, call_id: str, /) -> CallView:
        """A new call of the same function with the same input.  Raises NotFound."""


Name = tuple[str, str, str, str]
"""Workspace, app, environment and function."""


class Tunings(Protocol):
    """What is asked of functions since they were deployed."""

    async def show(self, name: Name, /) -> ScalingView:
        """What is asked of a function, and what comes of it."""

    async def update(self, name: Name, changes: Mapping[str, Json], /) -> ScalingView:
        """Ask other things of it."""

    async def report(self, name: Name, worker: str, values: Mapping[str, Json], /) -> None:
        """A worker says how much there is of something."""


class Queues(Protocol):
    """The queues of functions."""

    async def show(self, name: Name, /) -> QueueView:
        """What waits, and for what."""

    async def pause(self, name: Name, /, *, is_paused: bool) -> QueueView:
        """Let no call begin, or let calls begin again."""

    async def purge(self, name: Name, /) -> int:
        """Cancel what waits; how many that were."""

    async def dead(self, name: Name, limit: int, /) -> DeadView:
        """What came to nothing."""

    async def rerun(self, name: Name, limit: int, /) -> tuple[str, ...]:
        """Make it once more; the ids of the new calls."""


class Deploys(Protocol):
    """What is deployed."""

    async def deploy(self, workspace: str, deploy: Deploy, /, *, made_by: str = "") -> Deployed:
        """Make a manifest what its environment leads to."""

    async def plan(self, workspace: str, deploy: Deploy, /) -> DeployPlan:
        """What a deploy would change."""

    async def promote(
        self, workspace: str, app: str, source: str, environment: str, /, *, version: str = "", made_by: str = ""
    ) -> Deployed:
        """Deploy to one environment what serves in another."""

    async def apps(self, workspace: str, /) -> tuple[AppView, ...]:
        """What is deployed where."""

    async def function(self, workspace: str, app: str, environment: str, name: str, /) -> FunctionSpec:
        """What was deployed under a name."""

    async def templates(self, workspace: str, app: str, environment: str, wait_seconds: float, /) -> AppTemplates:
        """What became of the templates of an app."""

    async def stats(self, workspace: str, app: str, environment: str, name: str, /) -> FunctionStats:
        """How much of a function waits and runs."""

    async def stop(self, workspace: str, app: str, environment: str, /, *, made_by: str = "") -> int:
        """Stop an app; how many calls were cancelled."""


class Versions(Protocol):
    """Where names lead, and have led."""

    async def history(
        self, workspace: str, app: str, environment: str, /
    ) -> tuple[tuple[VersionView, ...], tuple[Switch, ...]]:
        """The versions of an app, oldest first, and where its name has led, the newest first."""

    async def difference(
        self, workspace: str, app: str, environment: str, before: str = "", after: str = "", /
    ) -> Difference:
        """What one version changes beside another."""

    async def rollback(
        self, workspace: str, app: str, environment: str, to: str = "", made_by: str = "", /
    ) -> VersionView:
        """Lead a name back."""

    async def shift(self, workspace: str, app: str, environment: str, percent: float, made_by: str = "", /) -> Led:
        """Lead so much of an app's calls to its canary."""


class Runs(Protocol):
    """Apps that live as long as their client."""

    def attach(self, workspace: str, run: str, after: int = 0, /) -> AsyncIterator[LogRecord | RunEnded]:
        """The output of a run, then its end."""

    async def stop(self, workspace: str, run: str, /, *, cancel: bool) -> int:
        """End a run; how many of its calls had not ended."""

    async def tell_fault(self, workspace: str, run: str, text: str, /) -> None:
        """What is wrong with the newest form of what is served, "" for nothing.  Raises NotFound."""

    def fault(self, workspace: str, run: str, /) -> str:
        """What was told last."""


class Sources(Protocol):
    """Branches whose pushes are deployed."""

    async def create(self, workspace: str, request: SourceRequest, made_by: str, /) -> tuple[SourceView, str]:
        """A new source, and its secret."""

    async def list(self, workspace: str, /) -> tuple[SourceView, ...]:
        """Every source."""

    async def remove(self, workspace: str, source: str, /) -> SourceView:
        """Deploy no more of its pushes."""

    async def pushes(self, workspace: str, source: str, /) -> tuple[PushView, ...]:
        """What became of its pushes."""

    async def redeploy(self, workspace: str, source: str, /) -> PushView:
        """Deploy its newest commit."""

    async def receive(self, source: str, delivery: Delivery, /) -> PushView | str:
        """Take in what a forge sends."""


class Logs(Protocol):
    """What workers wrote."""

    async def read(self, workspace: str, query: LogQuery, /) -> tuple[LogRecord, ...]:
        """Lines, oldest first."""

    def follow(self, workspace: str, query: LogQuery, /) -> AsyncIterator[LogRecord]:
        """Lines as they come."""


class Nodes(Protocol):
    """Workers and the machines they are on."""

    def workers(self, workspace: str, /) -> tuple[WorkerView, ...]:
        """The workers of a workspace."""

    async def past_workers(self, workspace: str, /) -> tuple[WorkerView, ...]:
        """Those that are gone too, as far as they are kept."""

    def now(self) -> float:
        """What the server's wall clock shows, in seconds since 1970."""

    def nodes(self) -> tuple[NodeView, ...]:
        """Every node."""


class Starts(Protocol):
    """How workers were started."""

    async def list(self, workspace: str, query: StartQuery, /) -> tuple[StartView, ...]:
        """Starts, newest first."""

    async def summary(self, workspace: str, query: StartQuery, /) -> StartSummary:
        """What they come to."""


class Costs(Protocol):
    """What things cost."""

    async def report(self, workspace: str, query: CostQuery, /) -> CostReport:
        """What was spent.  Raises InvalidRequest, NotFound."""


class Budgets(Protocol):
    """What may be spent."""

    async def set(self, workspace: str, app: str, nanos: int, warn_percent: int, /) -> BudgetView:
        """So much from now on.  Raises InvalidRequest."""

    async def remove(self, workspace: str, app: str, /) -> BudgetView:
        """Any amount from now on.  Raises NotFound."""

    async def list(self, workspace: str, /) -> tuple[BudgetView, ...]:
        """Every budget of a workspace."""


class Tokens(Protocol):
    """Who asks."""

    def verify(self, token: str, /) -> Principal:
        """Who shows this token.  Raises Unauthenticated."""

    def local(self) -> Principal:
        """Who comes by the local socket."""

    async def create(self, workspace: str, request: TokenRequest, /) -> tuple[TokenView, str]:
        """A new token, and its secret."""

    def list(self, workspace: str, /) -> tuple[TokenView, ...]:
        """Every token of a workspace."""

    def get(self, principal: Principal, /) -> TokenView | None:
        """The token that somebody showed; None when it was none."""

    async def revoke(self, workspace: str, token: str, /) -> TokenView:
        """Take a token back.  Raises NotFound."""


class Blobs(Protocol):
    """Bytes by digest."""

    def has(self, digest: str, /) -> bool:
        """Whether these bytes are here."""

    def size(self, digest: str, /) -> int:
        """How many they are.  Raises NotFound."""

    def read(self, digest: str, /) -> AsyncIterator[bytes]:
        """The bytes, in pieces.  Raises NotFound."""

    async def put(self, chunks: AsyncIterable[bytes], digest: str, /) -> object:
        """Keep bytes.  Raises InvalidRequest when they are not those of the digest."""


class Web(Protocol):
    """What answers web requests."""

    async def target(self, workspace: str, app: str, environment: str, name: str, /) -> Target:
        """What answers under a name.  Raises NotFound."""

    def labelled(self, label: str, /) -> tuple[str, str, str] | None:
        """The app, environment and name that a host's label stands for; None when it stands for none."""

    def open(
        self, target: Target, head: bytes, body: bytes | None, /, *, is_idempotent: bool, is_tunnel: bool
    ) -> Exchange:
        """Have a request answered."""

    async def urls_of(self, workspace: str, app: str, environment: str, /) -> dict[str, str]:
        """Where the things of an app answer.  Raises NotFound."""


class Platform(Protocol):
    """The whole of it, as `control.platform.Control` is."""

    @property
    def calls(self) -> Calls:
        """Calls."""

    @property
    def traffic(self) -> Traffic:
        """Web requests that are over, which are calls too."""

    @property
    def retries(self) -> Retries:
        """Calls made once more."""

    @property
    def tunings(self) -> Tunings:
        """What is asked of functions."""

    @property
    def queues(self) -> Queues:
        """Their queues."""

    @property
    def deploys(self) -> Deploys:
        """Deploys."""

    @property
    def versions(self) -> Versions:
        """Versions."""

    @property
    def runs(self) -> Runs:
        """Runs."""

    @property
    def sources(self) -> Sources:
        """Sources."""

    @property
    def logs(self) -> Logs:
        """Logs."""

    @property
    def nodes(self) -> Nodes:
        """Nodes."""

    @property
    def starts(self) -> Starts:
        """Starts."""

    @property
    def costs(self) -> Costs:
        """Costs."""

    @property
    def budgets(self) -> Budgets:
        """Budgets."""

    @property
    def tokens(self) -> Tokens:
        """Tokens."""

    @property
    def blobs(self) -> Blobs:
        """Blobs."""

    @property
    def web(self) -> Web:
        """What answers web requests."""
