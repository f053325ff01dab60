"""Deploys: a manifest becomes an immutable version, and a name leads to it from one transaction on."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

from relight.blobs.store import BlobStore
from relight.clock import Clock, now_ms
from relight.control.bindings import check_parameters
from relight.control.calls import Calls
from relight.control.catalog import Catalog, Route, Version
from relight.control.limits import check_limits, check_tags
from relight.control.templates import Templates, can_be_made
from relight.control.versions import Versions, changes, check_percent
from relight.control.web import Web, of_web
from relight.protocol.api import TRY_SECONDS, Deploy, Deployed
from relight.protocol.errors import DeployFailed, InvalidRequest
from relight.protocol.ids import is_id, new_id
from relight.protocol.manifest import FunctionSpec, Manifest, never_forked
from relight.protocol.templates import TemplateState
from relight.protocol.versions import TAG_LENGTH, DeployPlan, Difference, FunctionPlan, How, Strategy
from relight.protocol.views import AppTemplates, AppView, FunctionStats
from relight.protocol.workers import STATES, WorkerState
from relight.scheduler.loop import Scheduler
from relight.scheduler.placement import cpu_of, memory_of
from relight.scheduler.state import Worker
from relight.store.rows import NewVersion
from relight.store.store import Store

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


class Deploys:
    """Versions of apps, and the names that lead to them."""

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        catalog: Catalog,
        versions: Versions,
        calls: Calls,
        templates: Templates,
        web: Web,
        clock: Clock,
    ) -> None:
        self._web = web
        self._store = store
        self._blobs = blobs
        self._catalog = catalog
        self._versions = versions
        self._calls = calls
        self._templates = templates
        self._clock = clock
        self._tried: dict[tuple[str, str, str], Version] = {}
        self._turns: defaultdict[tuple[str, str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._scheduler: Scheduler

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler

    async def deploy(self, workspace: str, deploy: Deploy, *, made_by: str = "") -> Deployed:
        """Make a manifest a version, and what its environment leads to; the one before finishes what it has.

        Raises InvalidRequest when the manifest cannot be run, DeployFailed when it was to be tried and does not load; then
        nothing has changed.
        """
        return await self._deploy(workspace, deploy, made_by=made_by)

    async def promote(
        self, workspace: str, app: str, source: str, environment: str, *, version: str = "", made_by: str = ""
    ) -> Deployed:
        """Deploy to `environment` what serves in environment `source`, loaded first; `version` is an id of the client's.

        Raises NotFound, InvalidRequest, DeployFailed.
        """
        if source == environment:
            raise InvalidRequest(
                f"cannot promote {app!r}: it is to go from {source!r} to {source!r}; name another environment"
            )
        origin = (await self._catalog.route(workspace, app, source)).stable
        deploy = Deploy(manifest=origin.manifest, environment=environment, id=version, is_tried=True)
        return await self._deploy(workspace, deploy, made_by=made_by, how=How.PROMOTE, source=origin.id)

    async def plan(self, workspace: str, deploy: Deploy) -> DeployPlan:
        """What a deploy would change, and where its workers could be; nothing is kept.  Raises InvalidRequest."""
        self._check(deploy, needs_code=False)
        manifest = deploy.manifest
        route = await self._catalog.find(workspace, manifest.app, deploy.environment)
        before = route.stable if route is not None else None
        return DeployPlan(
            difference=Difference(
                before=before.id if before is not None else "",
                after="",
                changes=tuple(changes(before.manifest if before is not None else None, manifest)),
            ),
            functions=tuple(self._plan(function) for function in manifest.functions),
        )

    def _plan(self, function: FunctionSpec) -> FunctionPlan:
        nodes, why_nowhere = self._scheduler.fitting(function.resources)
        return FunctionPlan(
            function=function.name,
            nodes=nodes,
            why_nowhere=why_nowhere,
            why_no_template=never_forked(function),
            cpu=cpu_of(function.resources),
            memory_mib=memory_of(function.resources),
            timeout_seconds=function.timeout_seconds,
            min_workers=function.scaling.min_workers,
            max_workers=function.scaling.max_workers,
        )

    async def _deploy(
        self, workspace: str, deploy: Deploy, *, made_by: str, how: How = How.DEPLOY, source: str = ""
    ) -> Deployed:
        self._check(deploy)
        version = Version(
            workspace=workspace,
            id=deploy.id or new_id("version", now_ms()),
            app=deploy.manifest.app,
            environment=deploy.environment,
            manifest=deploy.manifest,
        )
        self._web.check_labels(version)
        row = NewVersion(
            workspace=workspace,
            id=version.id,
            app=version.app,
            environment=version.environment,
            manifest=version.manifest,
            at=self._clock.now(),
            made_by=made_by,
            tags=deploy.tags,
            commit=deploy.commit,
            source=source,
        )
        place = (workspace, version.app, version.environment)
        async with self._turns[place] if deploy.is_tried else nullcontext():
            before = await self._catalog.find(*place)
            if before is not None and version.id in [one.id for one in before.versions]:
                return self._deployed(version)  # it was asked for again: the answer was lost, say
            if not await self._is_fit(place, version, is_tried=deploy.is_tried):
                return self._deployed(version, is_live=False)
            route, how = _route(before, version, deploy, how)
            return self._deployed(version, replaced=await self._versions.lead(route, how, made_by, row))

    async def _is_fit(self, place: tuple[str, str, str], version: Version, *, is_tried: bool) -> bool:
        """Have its templates made, and whether calls may be led to it by now.  Raises DeployFailed when it does not load."""
        tried = self._tried.get(place)
        if tried is None or tried.id != version.id:
            self._forget_tried(place)
            self._prepare(version)
        if not is_tried:
            return True
        self._tried[place] = version
        if not await self._has_loaded(version):
            return False
        del self._tried[place]
        return True

    def _deployed(self, version: Version, *, replaced: str = "", is_live: bool = True) -> Deployed:
        return Deployed(
            version=version.id,
            app=version.app,
            environment=version.environment,
            replaced=replaced,
            is_live=is_live,
            urls=tuple(self._web.urls(version).items()),
        )

    def _prepare(self, version: Version) -> None:
        self._scheduler.prepare(
            version.worker_spec(bound) for bound in version.all_unbound() if can_be_made(bound.function)
        )

    async def _has_loaded(self, version: Version) -> bool:
        """Whether it is known that its modules load, or cannot be known.  Raises DeployFailed when they do not."""
        views = await self._templates.of(version, TRY_SECONDS)
        for view in views:
            kind, _, sentence = view.why.partition(": ")
            if kind == "failed":
                self._forget_tried((version.workspace, version.app, version.environment))
                raise DeployFailed(
                    f"cannot deploy {version.app!r}: workers of {view.function} do not start: {sentence}; "
                    "mend that and deploy again, what was deployed before serves on"
                )
        return not any(view.state is TemplateState.MAKING and view.node for view in views)

    def _forget_tried(self, place: tuple[str, str, str]) -> None:
        """What was to take a place there is not going to."""
        version = self._tried.pop(place, None)
        if version is not None:
            self._scheduler.stop_version(version.id, now=True)

    async def apps(self, workspace: str) -> tuple[AppView, ...]:
        """What is deployed where, runs included."""
        views = await self._store.versions.list(workspace)
        present = [worker for worker in self._scheduler.workers() if worker.state is not WorkerState.GONE]
        return tuple(self._counted(view, present) for view in views)

    def _counted(self, view: AppView, present: Sequence[Worker]) -> AppView:
        mine = [worker for worker in present if worker.key.version == view.version]
        return replace(
            view,
            workers=len(mine),
            queued=sum(self._scheduler.backlog(view.version, name) for name in view.functions),
            running=sum(len(worker.calls) for worker in mine),
        )

    async def function(self, workspace: str, app: str, environment: str, name: str) -> FunctionSpec:
        """What was deployed under that name.  Raises NotFound with the nearest right one."""
        return (await self._catalog.route(workspace, app, environment)).stable.function(name)

    async def stats(self, workspace: str, app: str, environment: str, name: str) -> FunctionStats:
        """How much of a function waits and runs now.  Raises NotFound with the nearest right one."""
        version = (await self._catalog.route(workspace, app, environment)).stable
        serves_web = any(method.web is not None for method in version.function(name).methods)
        workers = [one for one in self._scheduler.workers() if one.key[:2] == (version.id, name)]
        waiting, running = self._web.counts(version.id, name)
        return FunctionStats(
            backlog=waiting if serves_web else self._scheduler.backlog(version.id, name),
            running=running + sum(not of_web(call) for worker in workers for call in worker.calls),
            workers=sum(STATES[worker.state].takes_calls for worker in workers),
        )

    async def templates(self, workspace: str, app: str, environment: str, wait_seconds: float) -> AppTemplates:
        """What became of the templates of an app, once it is known of all or `wait_seconds` have passed.  Raises NotFound."""
        version = (await self._catalog.route(workspace, app, environment)).stable
        return AppTemplates(version=version.id, templates=await self._templates.of(version, wait_seconds))

    async def stop(self, workspace: str, app: str, environment: str, *, made_by: str = "") -> int:
        """Let a name lead nowhere, cancel its calls and stop its workers; how many calls were cancelled."""
        route = await self._versions.leave(workspace, app, environment, made_by)
        self._forget_tried((workspace, app, environment))
        led = {version.id for version in route.versions}
        cancelled = 0
        for one in led | self._scheduler.versions_of(workspace, app, environment):
            self._web.stop_version(one)
            cancelled += await self._calls.cancel_version(one)
            self._scheduler.stop_version(one, now=False)
        return cancelled

    async def recover(self, workspaces: tuple[str, ...]) -> None:
        """Make what was deployed before this server known to the scheduler, for the sake of the floors."""
        for workspace in workspaces:
            for view in await self._store.versions.list(workspace):
                self._versions.follow(await self._catalog.route(workspace, view.app, view.environment))

    def _check(self, deploy: Deploy, *, needs_code: bool = True) -> None:
        manifest = deploy.manifest
        for name in (manifest.app, deploy.environment, *(function.name for function in manifest.functions)):
            if not name or len(name) > 100 or not _NAME_CHARACTERS.issuperset(name):
                raise InvalidRequest(
                    f"cannot deploy {manifest.app!r}: {name!r} is no name; use 1 to 100 letters, digits, '-', '_' or '.'"
                )
        if deploy.environment.startswith("run-") and not is_id(deploy.environment, "run"):
            raise InvalidRequest(
                f"cannot deploy to {deploy.environment!r}: names that begin with 'run-' are those of runs; choose another"
            )
        if deploy.id and not is_id(deploy.id, "version"):
            raise InvalidRequest(
                f"cannot deploy {manifest.app!r} as {deploy.id[:60]!r}: that is no id of the form version-…; make one for each"
            )
        check_percent(deploy.canary_percent)
        _check_strategy(deploy)
        _check_tags(manifest.app, deploy)
        if needs_code and not self._blobs.has(manifest.code.digest):
            raise InvalidRequest(
                f"cannot deploy {manifest.app!r}: its code {manifest.code.digest[:12]}… is not here; "
                f"upload it first with PUT /v1/blobs/{manifest.code.digest}"
            )
        _check_functions(manifest)


def _route(before: Route | None, version: Version, deploy: Deploy, how: How) -> tuple[Route, How]:
    """Where the name of a new version leads, and why.  Raises InvalidRequest for a shadow of nothing."""
    percent = deploy.canary_percent
    if deploy.strategy is Strategy.SHADOW:
        if before is None:
            raise InvalidRequest(
                f"cannot deploy {version.app!r} as a shadow: nothing serves in {version.environment!r} whose calls it could "
                "get copies of; deploy without strategy= first"
            )
        return Route(stable=before.stable, canary=version, percent=percent, strategy=Strategy.SHADOW), How.SHADOW
    if before is not None and percent < 100:
        return Route(stable=before.stable, canary=version, percent=percent), How.CANARY
    return Route(stable=version, strategy=deploy.strategy), how


def _check_strategy(deploy: Deploy) -> None:
    if deploy.strategy is Strategy.RECREATE and deploy.canary_percent < 100:
        raise InvalidRequest(
            f"cannot deploy {deploy.manifest.app!r}: with strategy recreate no worker of the version before is there, and "
            f"{deploy.canary_percent:g} % of the calls are to lead to a canary beside it; leave one of them out"
        )


def _check_tags(app: str, deploy: Deploy) -> None:
    check_tags(deploy.tags, f"cannot deploy {app!r}")
    if len(deploy.commit) > TAG_LENGTH:
        raise InvalidRequest(
            f"cannot deploy {app!r}: its commit {deploy.commit[:20]!r}… has {len(deploy.commit)} characters; give {TAG_LENGTH} at most"
        )


def _check_functions(manifest: Manifest) -> None:
    if not manifest.functions:
        raise InvalidRequest(f"cannot deploy {manifest.app!r}: it has no function; decorate one with @app.function()")
    names = [function.name for function in manifest.functions]
    double = {name for name in names if names.count(name) > 1}
    if double:
        raise InvalidRequest(f"cannot deploy {manifest.app!r}: it has two functions named {min(double)!r}; rename one")
    for function in manifest.functions:
        check_limits(function, f"cannot deploy {function.name!r}")
        check_parameters(function)
