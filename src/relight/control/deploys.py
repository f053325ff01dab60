"""Deploys: a manifest becomes an immutable version, and a name leads to it from one transaction on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from relight.blobs.store import BlobStore
from relight.clock import Clock, now_ms
from relight.control.bindings import check_parameters
from relight.control.calls import Calls
from relight.control.catalog import Catalog, Version, key_of
from relight.control.limits import check_limits
from relight.control.templates import Templates, can_be_made
from relight.protocol.api import Deploy, Deployed
from relight.protocol.errors import InvalidRequest
from relight.protocol.ids import is_id, new_id
from relight.protocol.manifest import FunctionSpec, Manifest
from relight.protocol.views import AppTemplates, AppView, FunctionStats
from relight.protocol.workers import STATES, WorkerState
from relight.scheduler.loop import Scheduler
from relight.scheduler.state import Worker
from relight.store.rows import NewVersion
from relight.store.store import Store

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


class Deploys:
    """Versions of apps, and the names that lead to them."""

    def __init__(
        self, store: Store, blobs: BlobStore, catalog: Catalog, calls: Calls, templates: Templates, clock: Clock
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._catalog = catalog
        self._calls = calls
        self._templates = templates
        self._clock = clock
        self._scheduler: Scheduler

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler

    async def deploy(self, workspace: str, deploy: Deploy) -> Deployed:
        """Make a manifest the version its environment leads to; the one before finishes what it has.

        Raises InvalidRequest, having changed nothing, when the manifest cannot be run.
        """
        self._check(deploy)
        version = Version(
            workspace=workspace,
            id=new_id("version", now_ms()),
            app=deploy.manifest.app,
            environment=deploy.environment,
            manifest=deploy.manifest,
        )
        row = NewVersion(
            workspace=workspace,
            id=version.id,
            app=version.app,
            environment=version.environment,
            manifest=version.manifest,
            at=self._clock.now(),
        )
        replaced = await self._store.versions.deploy(row)
        self._activate(version)
        self._scheduler.prepare(
            version.worker_spec(bound) for bound in version.all_unbound() if can_be_made(bound.function)
        )
        if replaced:
            self._scheduler.supersede_version(replaced)
        return Deployed(version=version.id, app=version.app, environment=version.environment, replaced=replaced)

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
        return (await self._catalog.route(workspace, app, environment)).function(name)

    async def stats(self, workspace: str, app: str, environment: str, name: str) -> FunctionStats:
        """How much of a function waits and runs now.  Raises NotFound with the nearest right one."""
        version = await self._catalog.route(workspace, app, environment)
        version.function(name)
        workers = [one for one in self._scheduler.workers() if one.key[:2] == (version.id, name)]
        return FunctionStats(
            backlog=self._scheduler.backlog(version.id, name),
            running=sum(len(worker.calls) for worker in workers),
            workers=sum(STATES[worker.state].takes_calls for worker in workers),
        )

    async def templates(self, workspace: str, app: str, environment: str, wait_seconds: float) -> AppTemplates:
        """What became of the templates of an app, once it is known of all or `wait_seconds` have passed.  Raises NotFound."""
        version = await self._catalog.route(workspace, app, environment)
        return AppTemplates(version=version.id, templates=await self._templates.of(version, wait_seconds))

    async def stop(self, workspace: str, app: str, environment: str) -> int:
        """Let a name lead nowhere, cancel its calls and stop its workers; how many calls were cancelled."""
        version = await self._catalog.route(workspace, app, environment)
        await self._store.versions.remove_route(workspace, app, environment)
        self._catalog.drop_route(workspace, app, environment)
        cancelled = 0
        for one in {version.id, *self._scheduler.versions_of(workspace, app, environment)}:
            cancelled += await self._calls.cancel_version(one)
            self._scheduler.stop_version(one, now=False)
        return cancelled

    async def recover(self, workspaces: tuple[str, ...]) -> None:
        """Make what was deployed before this server known to the scheduler, for the sake of the floors."""
        for workspace in workspaces:
            for view in await self._store.versions.list(workspace):
                self._activate(await self._catalog.route(workspace, view.app, view.environment))

    def _activate(self, version: Version) -> None:
        self._catalog.switch(version)
        for bound in version.all_unbound():
            self._scheduler.add_function(key_of(version, bound), version.worker_spec(bound))

    def _check(self, deploy: Deploy) -> None:
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
        if not self._blobs.has(manifest.code.digest):
            raise InvalidRequest(
                f"cannot deploy {manifest.app!r}: its code {manifest.code.digest[:12]}… is not here; "
                f"upload it first with PUT /v1/blobs/{manifest.code.digest}"
            )
        _check_functions(manifest)


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
