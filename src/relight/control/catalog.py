"""Which version a name leads to, and what is in it: immutable versions, kept in memory once read."""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from relight.control.bindings import Bound, bind, unbound
from relight.protocol.errors import InvalidRequest, NotFound
from relight.protocol.link import WorkerSpec
from relight.protocol.manifest import FunctionSpec, Manifest
from relight.protocol.versions import Strategy
from relight.protocol.workers import WorkerKind
from relight.scheduler.queue import FunctionKey
from relight.store.store import Store

BOUNDS_IN_MEMORY = 4096
"""How many bindings of a version are remembered as read; they are read again when they come again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One immutable deploy of an app, where it is deployed, and what was worked out of it."""

    workspace: str
    id: str
    app: str
    environment: str
    manifest: Manifest
    _bounds: dict[tuple[str, str], Bound] = field(default_factory=dict, compare=False, repr=False)

    def function(self, name: str) -> FunctionSpec:
        """The function of that name.  Raises NotFound with the nearest right name."""
        function = self.manifest.function(name)
        if function is None:
            names = [one.name for one in self.manifest.functions]
            raise NotFound(
                f"cannot find function {name!r} in app {self.app!r}: it has {_list(names)}{_nearest(name, names)}"
            )
        return function

    def bind(self, name: str, text: str = "") -> Bound:
        """The function of that name as a binding has it.  Raises NotFound, or InvalidRequest for a binding that cannot be."""
        known = self._bounds.get((name, text))
        if known is None:
            known = bind(self.function(name), text)
            if len(self._bounds) >= BOUNDS_IN_MEMORY:
                self._bounds.clear()
            self._bounds[(name, text)] = known
        return known

    def all_unbound(self) -> tuple[Bound, ...]:
        """Every function, as whoever says nothing more has it."""
        return tuple(unbound(function) for function in self.manifest.functions)

    def worker_spec(self, bound: Bound) -> WorkerSpec:
        """What a node needs to start a worker of one of its functions."""
        return WorkerSpec(
            workspace=self.workspace,
            app=self.app,
            environment=self.environment,
            version=self.id,
            function=bound.function,
            code=self.manifest.code,
            parameters=bound.parameters,
            binding=bound.text,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a name leads: to `stable`, but for `percent` of its calls, which lead to `canary`.

    Where the `strategy` is SHADOW all lead to `stable`, and copies of that part to `canary`; where it is RECREATE `stable` has
    no worker beside those of another version.
    """

    stable: Version
    canary: Version | None = None
    percent: float = 0.0
    strategy: Strategy = Strategy.ROLLING

    @property
    def versions(self) -> tuple[Version, ...]:
        """Those that it leads to."""
        return (self.stable,) if self.canary is None else (self.stable, self.canary)

    def of(self, name: str) -> Version:
        """The version that a call of this id goes to, or a session of this name: the same one however often it is asked."""
        second = self._second_of(name) if self.strategy is not Strategy.SHADOW else None
        return self.stable if second is None else second

    def shadow_of(self, call: str) -> Version | None:
        """The version that gets a copy of this call; None when none does."""
        return self._second_of(call) if self.strategy is Strategy.SHADOW else None

    def _second_of(self, name: str) -> Version | None:
        return self.canary if zlib.crc32(name.encode()) % 10_000 < 100 * self.percent else None


def key_of(version: Version, bound: Bound) -> FunctionKey:
    """The scheduler's name for a function of a version."""
    return FunctionKey(version.id, bound.function.name, bound.text)


def check_method(function: FunctionSpec, method: str, *, returns: bool = False) -> None:
    """Raise NotFound or InvalidRequest when a call of `method` means nothing; with `returns`, when it yields instead."""
    found = function.method(method)
    if found is not None:
        if returns and found.is_generator:
            name = f"{function.name}.{method}" if method else function.name
            raise InvalidRequest(
                f"cannot call {name} for what it returns: it yields; iterate over it, from Python with .remote_gen(…)"
            )
        return
    names = [one.name for one in function.methods]
    if function.is_class and not method:
        raise InvalidRequest(f"cannot call {function.name!r}: it is a class; call one of its methods: {_list(names)}")
    if not function.is_class:
        raise InvalidRequest(
            f"cannot call {function.name}.{method}: {function.name!r} is a function and has no methods; leave .{method} out"
        )
    raise NotFound(
        f"cannot find method {method!r} of {function.name!r}: it has {_list(names)}{_nearest(method, names)}"
    )


class Catalog:
    """The versions this server has seen, and the routes to them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._versions: dict[tuple[str, str], Version] = {}
        self._routes: dict[tuple[str, str, str], Route] = {}
        self.changes = 0
        """Grows with each route that leads anew, or nowhere."""

    async def route(self, workspace: str, app: str, environment: str) -> Route:
        """Where an app's name leads.  Raises NotFound with the nearest right name."""
        found = await self.find(workspace, app, environment)
        if found is None:
            raise NotFound(await self._explain(workspace, app, environment))
        return found

    async def find(self, workspace: str, app: str, environment: str) -> Route | None:
        """Where an app's name leads; None for nowhere."""
        known = self._routes.get((workspace, app, environment))
        if known is not None:
            return known
        row = await self._store.versions.route(workspace, app, environment)
        if row is None:
            return None

        def read(version: str, manifest: Manifest) -> Version:
            return Version(workspace=workspace, id=version, app=app, environment=environment, manifest=manifest)

        canary = read(row.canary, row.canary_manifest) if row.canary_manifest is not None else None
        stable = read(row.version, row.manifest)
        route = Route(stable=stable, canary=canary, percent=row.canary_percent, strategy=row.strategy)
        self.lead(route)
        return route

    async def version(self, workspace: str, version_id: str, app: str, environment: str) -> Version:
        """A version by its id, whether a route leads to it or not."""
        known = self._versions.get((workspace, version_id))
        if known is None:
            manifest = await self._store.versions.manifest(workspace, version_id)
            if manifest is None:
                raise NotFound(f"cannot find version {version_id!r} of app {app!r}: it is not kept; deploy it again")
            known = Version(workspace=workspace, id=version_id, app=app, environment=environment, manifest=manifest)
            self._versions[(workspace, version_id)] = known
        return known

    def known(self, workspace: str, version_id: str) -> Version:
        """A version that has been read before, as that of every call in memory has."""
        return self._versions[(workspace, version_id)]

    def workspace_of(self, version_id: str) -> str:
        """Whose version that is; it has been read before."""
        return next(workspace for workspace, known in self._versions if known == version_id)

    def is_current(self, version: Version) -> bool:
        """Whether a name that was looked up leads to this version, rather than to a later one."""
        current = self._routes.get((version.workspace, version.app, version.environment))
        return current is not None and any(one.id == version.id for one in current.versions)

    def current(self, workspace: str, app: str, environment: str) -> Route | None:
        """Where a name leads that was looked up or led before; None otherwise."""
        return self._routes.get((workspace, app, environment))

    def worker_spec(self, version: Version, bound: Bound) -> WorkerSpec:
        """What a node needs to start a worker of a version as it is led to now."""
        route, spec = self.current(version.workspace, version.app, version.environment), version.worker_spec(bound)
        canary = route.canary if route is not None and route.strategy is Strategy.SHADOW else None
        is_shadow = canary is not None and canary.id == version.id
        return replace(spec, kind=WorkerKind.SHADOW) if is_shadow else spec

    def heir_of(self, version: Version) -> str:
        """The version that begins when the workers of this one are gone; "" where both may be there."""
        route = self.current(version.workspace, version.app, version.environment)
        if route is None or route.strategy is not Strategy.RECREATE or route.stable.id == version.id:
            return ""
        return route.stable.id

    def lead(self, route: Route) -> None:
        """From now on the name of its versions leads there."""
        self.changes += 1
        for version in route.versions:
            self._versions[(version.workspace, version.id)] = version
        stable = route.stable
        self._routes[(stable.workspace, stable.app, stable.environment)] = route

    def routes(self) -> Iterable[Route]:
        """Every route that was looked up or led anew, in the order in which they first were."""
        return self._routes.values()

    def drop_route(self, workspace: str, app: str, environment: str) -> None:
        """The name leads nowhere any more."""
        self.changes += 1
        self._routes.pop((workspace, app, environment), None)

    async def _explain(self, workspace: str, app: str, environment: str) -> str:
        views = await self._store.versions.list(workspace)
        places = sorted({view.environment for view in views if view.app == app})
        if places:
            return f"cannot find app {app!r} in environment {environment!r}: it is deployed to {_list(places)}; name one of these"
        names = sorted({view.app for view in views if not view.environment.startswith("run-")})
        if not names:
            return f"cannot find app {app!r}: nothing is deployed; deploy it with `relight deploy FILE`"
        return f"cannot find app {app!r}: deployed are {_list(names)}{_nearest(app, names)}"


def _list(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
