"""What is said of functions after they were deployed: kept by the names they are called by, and in force at once.

Each field that was said keeps what was deployed then.  It is in force as long as that is what is deployed: a deploy that
leaves the field as it was leaves what was said too, and one that changes it has the last word (decision 31).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from relight.clock import Clock
from relight.control.catalog import Catalog, Version
from relight.control.decisions import Decisions
from relight.control.limits import check_limits
from relight.protocol.codec import from_plain, to_plain
from relight.protocol.errors import InvalidRequest, ProtocolError
from relight.protocol.link import WorkerSpec
from relight.protocol.manifest import FunctionSpec, Json, Queueing, Scaling
from relight.protocol.scaleviews import OverrideView, ScalingView
from relight.scheduler.loop import Scheduler
from relight.scheduler.state import Function, Tuning, as_deployed
from relight.store.rows import TuningRow
from relight.store.store import Store

SECTIONS: Mapping[str, str] = {
    **{one.name: "scaling" for one in fields(Scaling)},
    **{one.name: "queue" for one in fields(Queueing)},
}
"""Every field that can be said, and the part of a spec that it is in."""

_AHEAD = frozenset({"min_workers", "buffer_workers", "floors", "prewarm"})
"""What keeps workers that no call needs: of bindings there may be as many as there are values."""

Name = tuple[str, str, str, str]
"""Workspace, app, environment and function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What was said of one function: of each field its value, and what was deployed then."""

    fields: dict[str, tuple[Json, Json]] = field(default_factory=dict)
    is_paused: bool = False


class Tunings:
    """Everything that was said."""

    def __init__(self, store: Store, catalog: Catalog, decisions: Decisions, clock: Clock) -> None:
        self._decisions = decisions
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._said: dict[Name, Said] = {}
        self._scheduler: Scheduler

    def use(self, scheduler: Scheduler) -> None:
        """Meet the scheduler."""
        self._scheduler = scheduler

    async def load(self) -> None:
        """Read what was said before this server began."""
        for row in await self._store.tunings.all():
            kept = json.loads(row.said)
            said = {name: (one["value"], one["deployed"]) for name, one in kept["fields"].items() if name in SECTIONS}
            name = (row.workspace, row.app, row.environment, row.function)
            self._said[name] = Said(fields=said, is_paused=bool(kept.get("is_paused")))

    def tuning(self, spec: WorkerSpec) -> Tuning:
        """What is asked now of the workers that have this spec."""
        said = self._said.get((spec.workspace, spec.app, spec.environment, spec.function.name))
        if said is None:
            return as_deployed(spec)
        function = _with(spec.function, _standing(spec.function, said, is_bound=bool(spec.binding)))
        return Tuning(scaling=function.scaling, queue=function.queue, is_paused=said.is_paused)

    async def update(self, name: Name, changes: Mapping[str, Json]) -> ScalingView:
        """Say so of a function; a field that is None, and not one that may be none, is as deployed again.

        `{"reset": true}` takes all back that was said before.  Raises NotFound, and InvalidRequest when it cannot be.
        """
        version, spec = await self._find(name)
        said = self._said.get(name, Said())
        values = dict(changes)
        kept = {} if values.pop("reset", False) is True else dict(said.fields)
        cannot = f"cannot scale {spec.name}"
        for one in values:
            if one not in SECTIONS:
                raise InvalidRequest(f"{cannot}: {one!r} is none of its settings, which are {', '.join(SECTIONS)}")
            if one in _AHEAD and values[one] and any(parameter.required for parameter in spec.parameters):
                raise InvalidRequest(
                    f"{cannot}: {one}= keeps workers that no call has asked for, and nobody knows the values of its "
                    f"parameters then; say it with {spec.name}.with_options({one}=…) of an object"
                )
            kept[one] = (values[one], _plain(spec, one))
        check_limits(_with(spec, {one: value for one, (value, _) in kept.items()}, cannot), cannot)
        await self._keep(name, replace(said, fields=kept))
        return self._view(name, version)

    async def pause(self, name: Name, *, is_paused: bool) -> ScalingView:
        """Let no call of a function begin, until it is resumed; those that run go on.  Raises NotFound."""
        version, _ = await self._find(name)
        await self._keep(name, replace(self._said.get(name, Said()), is_paused=is_paused))
        return self._view(name, version)

    async def show(self, name: Name) -> ScalingView:
        """What is asked of a function, and what comes of it.  Raises NotFound."""
        version, _ = await self._find(name)
        return self._view(name, version)

    async def deployed(self, version: Version) -> None:
        """A version is what its name leads to: what it changed is not said any more."""
        for spec in version.manifest.functions:
            name = (version.workspace, version.app, version.environment, spec.name)
            said = self._said.get(name)
            if said is None:
                continue
            standing = _standing(spec, said, is_bound=False)
            if len(standing) < len(said.fields):
                await self._keep(name, replace(said, fields={one: said.fields[one] for one in standing}))

    async def report(self, name: Name, worker: str, values: Mapping[str, Json]) -> None:
        """Somebody says how much there is of something: one of its workers, or "" for whoever is none.

        Raises NotFound, InvalidRequest for what is no number.
        """
        version, spec = await self._find(name)
        numbers: dict[str, float] = {}
        for metric, value in values.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e18:
                raise InvalidRequest(
                    f"cannot take the metric {metric!r} of {spec.name}: {value!r} is no number of 0 or more; report such a one"
                )
            numbers[metric[:100]] = float(value)
        functions = self._scheduler.functions_of(version.id, spec.name)
        own = [one for one in functions if worker in one.workers]
        for function in own or [one for one in functions if not one.key.binding]:
            self._scheduler.report(function.key, worker, numbers)

    # -- inside

    async def _find(self, name: Name) -> tuple[Version, FunctionSpec]:
        workspace, app, environment, function = name
        version = (await self._catalog.route(workspace, app, environment)).stable
        return version, version.function(function)

    async def _keep(self, name: Name, said: Said) -> None:
        plain = {one: {"value": value, "deployed": was} for one, (value, was) in said.fields.items()}
        is_nothing = not plain and not said.is_paused
        text = "" if is_nothing else json.dumps({"fields": plain, "is_paused": said.is_paused})
        workspace, app, environment, function = name
        row = TuningRow(workspace=workspace, app=app, environment=environment, function=function, said=text)
        await self._store.tunings.put(row)
        self._said.pop(name, None)
        if not is_nothing:
            self._said[name] = said
        self._scheduler.retune()

    def _view(self, name: Name, version: Version) -> ScalingView:
        _, app, environment, named = name
        said, spec = self._said.get(name, Said()), version.function(named)
        functions = self._scheduler.functions_of(version.id, named)
        own = next((one for one in functions if not one.key.binding), None)
        standing = _standing(spec, said, is_bound=False)
        in_force = _with(spec, standing)
        workers = [worker for function in functions for worker in function.workers.values()]
        view = ScalingView(
            app=app,
            environment=environment,
            function=named,
            version=version.id,
            scaling=in_force.scaling,
            queue=in_force.queue,
            is_paused=said.is_paused,
            overrides=tuple(
                OverrideView(field=one, value=value, deployed=said.fields[one][1]) for one, value in standing.items()
            ),
            workers=len(workers),
            busy=sum(bool(worker.calls) and not worker.is_starting for worker in workers),
            starting=sum(worker.is_starting for worker in workers),
            waiting=sum(len(function.queue) for function in functions),
        )
        return view if own is None else self._explained(view, own)

    def _explained(self, view: ScalingView, function: Function) -> ScalingView:
        """With what the autoscaler makes of calls that have no binding."""
        scaler = function.autoscaler
        seen = function.observe(self._clock.monotonic(), self._clock.now())
        decision = scaler.decide(seen)
        return replace(
            view,
            wanted=decision.workers,
            reason=scaler.explain(decision, seen),
            history=self._decisions.of(function),
            metrics=dict[str, Json](seen.metrics),
            expected=scaler.expectation.expected,
            expected_met=scaler.expectation.met,
        )


def _standing(spec: FunctionSpec, said: Said, *, is_bound: bool) -> dict[str, Json]:
    """What was said that is in force for what is deployed."""
    return {
        one: value
        for one, (value, was) in said.fields.items()
        if not (is_bound and one in _AHEAD) and _plain(spec, one) == was
    }


def _plain(spec: FunctionSpec, name: str) -> Json:
    """A field of what is deployed as JSON; None where it is as it is when nothing is said."""
    said = to_plain(getattr(spec, SECTIONS[name]))
    return said.get(name) if isinstance(said, dict) else None


def _with(spec: FunctionSpec, values: Mapping[str, Json], cannot: str = "") -> FunctionSpec:
    """The spec with these fields.  Raises InvalidRequest, beginning with `cannot`, for one of another type."""
    if not values:
        return spec
    parts: dict[str, dict[str, Json]] = {}
    for section in ("scaling", "queue"):
        plain = to_plain(getattr(spec, section))
        parts[section] = dict(plain) if isinstance(plain, dict) else {}
    for name, value in values.items():
        parts[SECTIONS[name]][name] = value
    try:
        scaling, queue = from_plain(parts["scaling"], Scaling), from_plain(parts["queue"], Queueing)
    except (ProtocolError, RecursionError) as error:
        raise InvalidRequest(f"{cannot}: {', '.join(values)} are not of their types: {error}") from None
    return replace(spec, scaling=scaling, queue=queue)
