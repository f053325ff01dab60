"""Versions: where a name leads and has led, what changes between two, and the ways from one to another.

A name leads to one version, or in part to a second, its canary, or a second gets copies, its shadow.  Each change of that is
one transaction; from then on calls go there, and what the name does not lead to any more finishes what it has.  Templates of earlier versions stay as long as
there is memory for them, so that the way back is as short as any start.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import fields, replace

from relight.clock import Clock
from relight.control.catalog import Catalog, Route, Version, key_of
from relight.control.shadows import Shadows
from relight.protocol.codec import to_plain
from relight.protocol.errors import Conflict, InvalidRequest, NotFound
from relight.protocol.manifest import FunctionSpec, HostImage, Json, Manifest, Queueing, Resources, Retries, Scaling
from relight.protocol.versions import Change, Difference, How, Led, Strategy, Switch, VersionView
from relight.scheduler.loop import Scheduler
from relight.store.rows import NewVersion
from relight.store.store import Store

_FIELDS = (FunctionSpec, HostImage, Queueing, Resources, Retries, Scaling)
"""What is compared field by field."""


class Versions:
    """The versions of every app."""

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        shadows: Shadows,
        clock: Clock,
        on_deployed: Callable[[Version], Awaitable[None]],
    ) -> None:
        self._shadows = shadows
        self._on_deployed = on_deployed
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._scheduler: Scheduler

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler

    async def lead(self, route: Route, how: How, made_by: str, row: NewVersion | None = None) -> str:
        """Have a name lead there, keeping a new version's `row` in the same transaction; what it led to before, or ""."""
        stable, canary = route.stable, route.canary
        place = (stable.workspace, stable.app, stable.environment)
        before = await self._catalog.find(*place)
        switch = Switch(
            at=self._clock.now(),
            how=how,
            version=stable.id,
            canary=canary.id if canary is not None else "",
            canary_percent=route.percent if canary is not None else 0.0,
            made_by=made_by,
            strategy=route.strategy,
        )
        if row is None:
            await self._store.versions.switch(*place, switch)
        else:
            await self._store.versions.deploy(row, switch)
        if how in (How.DEPLOY, How.PROMOTE) and canary is None:
            await self._on_deployed(
                stable
            )  # what it changed has the last word; a way back changes nothing that was said
        self.follow(route)
        if before is not None and before.canary is not None and before.canary not in route.versions:
            self._shadows.stop(before.canary)
        replaced = [one.id for one in before.versions if one not in route.versions] if before is not None else []
        if route.strategy is Strategy.RECREATE:
            for version in self._scheduler.versions_of(*place) - {stable.id}:
                self._scheduler.replace_version(version, stable.id)
        else:
            for version in replaced:
                self._scheduler.supersede_version(version)
        return replaced[0] if replaced else ""

    def follow(self, route: Route) -> None:
        """Make what a name leads to known to catalog and scheduler."""
        self._catalog.lead(route)
        for version in route.versions:
            self._scheduler.serve_version(version.id, is_alone=route.strategy is Strategy.RECREATE)
            for bound in version.all_unbound():
                key, spec = key_of(version, bound), self._catalog.worker_spec(version, bound)
                self._scheduler.add_function(key, spec)
                function = self._scheduler.function(key)
                if function is not None:
                    function.spec = spec  # a shadow that is led to is none any more

    async def leave(self, workspace: str, app: str, environment: str, made_by: str) -> Route:
        """Have a name lead nowhere; where it led.  Raises NotFound."""
        route = await self._catalog.route(workspace, app, environment)
        switch = Switch(at=self._clock.now(), how=How.STOP, version="", made_by=made_by)
        await self._store.versions.switch(workspace, app, environment, switch)
        self._catalog.drop_route(workspace, app, environment)
        if route.canary is not None:
            self._shadows.stop(route.canary)
        return route

    async def history(
        self, workspace: str, app: str, environment: str
    ) -> tuple[tuple[VersionView, ...], tuple[Switch, ...]]:
        """The versions of an app in an environment, oldest first, and where its name has led, the newest first.

        Raises NotFound.
        """
        versions = await self._store.versions.history(workspace, app, environment)
        if not versions:
            await self._catalog.route(workspace, app, environment)  # says what there is
        told = tuple(replace(one, shadow=self._shadows.views(workspace, one.id)) for one in versions)
        return told, await self._store.versions.switches(workspace, app, environment)

    async def difference(
        self, workspace: str, app: str, environment: str, before: str = "", after: str = ""
    ) -> Difference:
        """What `after` changes beside `before`: ids or numbers; the last two when they are left out.  Raises NotFound."""
        versions, _ = await self.history(workspace, app, environment)
        newer = _named(versions, after) if after else versions[-1]
        earlier = [one for one in versions if one.number < newer.number]
        older = _named(versions, before) if before else earlier[-1] if earlier else None
        manifests = [
            (await self._catalog.version(workspace, one.id, app, environment)).manifest if one else None
            for one in (older, newer)
        ]
        return Difference(before=older.id if older else "", after=newer.id, changes=tuple(changes(*manifests)))

    async def rollback(
        self, workspace: str, app: str, environment: str, to: str = "", made_by: str = ""
    ) -> VersionView:
        """Lead a name back: to version `to` (an id or a number), else take back a canary, else to what served before.

        Raises NotFound, or Conflict when there is nothing to go back to.
        """
        route = await self._catalog.route(workspace, app, environment)
        versions, switches = await self.history(workspace, app, environment)
        if to:
            target = _named(versions, to).id
        elif route.canary is not None:
            target = route.stable.id
        else:
            before = (one.version for one in switches if one.version not in ("", route.stable.id))
            target = next(before, "")
        if not target or (target == route.stable.id and route.canary is None):
            raise Conflict(
                f"cannot roll {app!r} back: "
                + (f"it is at {to} already; name another version" if to else "no version served before this one")
                + f"; `relight versions {app}` shows what there is"
            )
        version = await self._catalog.version(workspace, target, app, environment)
        is_alone = route.strategy is Strategy.RECREATE  # whatever both are too much for, they are so on the way back
        back = Route(stable=version, strategy=Strategy.RECREATE if is_alone else Strategy.ROLLING)
        await self.lead(back, How.ROLLBACK, made_by)
        return _named((await self.history(workspace, app, environment))[0], target)

    async def shift(self, workspace: str, app: str, environment: str, percent: float, made_by: str = "") -> Led:
        """Lead so much of an app's calls to its canary, or its shadow: all of them make it the version, none ends it.

        Raises NotFound, InvalidRequest, or Conflict when it has no canary.
        """
        check_percent(percent)
        route = await self._catalog.route(workspace, app, environment)
        if route.canary is None:
            raise Conflict(
                f"cannot lead {percent:g} % of the calls of {app!r} to its canary: it has none; "
                "deploy one with `relight deploy FILE --canary PERCENT`"
            )
        if percent == 0:
            led, how = Route(stable=route.stable), How.ROLLBACK
        elif percent == 100:
            led, how = Route(stable=route.canary), How.PROMOTE
        else:
            led, how = Route(stable=route.stable, canary=route.canary, percent=percent), How.CANARY
        await self.lead(led, how, made_by)
        return Led(
            version=led.stable.id, canary=led.canary.id if led.canary is not None else "", canary_percent=led.percent
        )


def check_percent(percent: float) -> None:
    """Raises InvalidRequest when that is no part of anything."""
    if not 0 <= percent <= 100:
        raise InvalidRequest(
            f"cannot lead {percent:g} % of the calls to a canary: that is no part of them; give a number from 0 to 100"
        )


def changes(before: Manifest | None, after: Manifest | None) -> Iterator[Change]:
    """What differs, the app's code first, then function by function, field by field."""
    codes = [manifest.code.digest[:12] if manifest is not None else None for manifest in (before, after)]
    if codes[0] != codes[1]:
        yield Change(function="", field="code", before=codes[0], after=codes[1])
    functions = [
        {one.name: one for one in manifest.functions} if manifest is not None else {} for manifest in (before, after)
    ]
    for name in sorted({*functions[0], *functions[1]}):
        pair = [one.get(name) for one in functions]
        if None in pair:
            yield Change(function=name, field="", before=pair[0] is not None, after=pair[1] is not None)
        else:
            yield from _fields(name, "", *pair)


def _fields(function: str, path: str, before: object, after: object) -> Iterator[Change]:
    """What differs, as deep as both have the same fields."""
    if before == after:
        return
    if type(before) is type(after) and isinstance(before, _FIELDS):
        for field in fields(before):
            inner = f"{path}.{field.name}" if path else field.name
            yield from _fields(function, inner, getattr(before, field.name), getattr(after, field.name))
        return
    yield Change(function=function, field=path, before=_plain(before), after=_plain(after))


def _plain(value: object) -> Json:
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else to_plain(value)


def _named(versions: tuple[VersionView, ...], name: str) -> VersionView:
    """The version of that id, or number.  Raises NotFound."""
    for version in versions:
        if name in (version.id, str(version.number), f"v{version.number}"):
            return version
    raise NotFound(
        f"cannot find version {name!r}: there are {len(versions)}, 1 to {len(versions)}; name one by its number or its id"
    )
