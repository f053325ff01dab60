"""The options of `@app.function` and `@app.cls`: said once, checked once, carried in one `FunctionSpec`."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from types import NoneType
from typing import Any, TypedDict

from relight.protocol.codec import to_plain
from relight.protocol.errors import InvalidRequest
from relight.protocol.inside import WEB, inside
from relight.protocol.manifest import (
    ClassParameter,
    Concurrency,
    Floor,
    FunctionSpec,
    GpuRequest,
    HostImage,
    Json,
    MethodSpec,
    MetricTarget,
    ParameterSpec,
    Queueing,
    Resources,
    Retries,
    Scaling,
    parse_gpu,
    parse_rate,
)
from relight.protocol.network import EGRESS, canonical
from relight.protocol.values import is_json
from relight.sdk.concurrency import batching_of
from relight.sdk.elsewhere import OPTIONS as OTHER_NAMES
from relight.sdk.elsewhere import in_our_words, plain_retries
from relight.sdk.image import Image
from relight.sdk.session import Callee


class RunOptions(TypedDict, total=False):
    """What each worker gets, and its calls; as in `FunctionOptions`."""

    cpu: float | None
    memory: int | None
    ephemeral_disk: int | None
    gpu: str | Sequence[str] | None
    timeout: float
    startup_timeout: float
    queue_timeout: float | None
    grace: float
    retries: int | Retries
    network: str | Sequence[str]
    block_network: bool
    env: Mapping[str, str]
    tags: Mapping[str, str] | None


class WorkerOptions(TypedDict, total=False):
    """How many workers there are; as in `FunctionOptions`."""

    min_workers: int
    max_workers: int | None
    buffer_workers: int
    min_containers: int | None
    max_containers: int | None
    buffer_containers: int | None
    scaledown_window: float


class ScalingOptions(WorkerOptions, total=False):
    """What may be said of a function's workers and its queue after it was deployed; as in `FunctionOptions`."""

    scaleup_delay: float
    target_utilization: float
    panic_factor: float
    scaledown_per_minute: float | None
    floors: Sequence[Floor]
    prewarm: bool
    target_metrics: Mapping[str, float]
    spread: bool
    max_waiting: int | None
    rate_limit: str | None
    key_concurrency: int


class FunctionOptions(RunOptions, ScalingOptions, total=False):
    """What may be said of a function or a class; all of it has a default.

    `cpu` in cores, `memory` in MiB; `ephemeral_disk` in MiB is what /tmp, /dev/shm and the home hold together (1024; it
    counts as memory, too); `gpu` as `"A100"`, `"A100:2"`, a share `"A100:0.5"`, a slice `"MIG-1g.10gb"`, `"any"`, or a list
    in order of preference (docs/gpu.md).  `timeout` bounds one
    attempt (600 s), `startup_timeout` a worker's start (900 s), `queue_timeout` the wait before (no bound), `grace` is
    what a cancelled call gets to clean up (5 s); all in seconds.  `retries` is how often a call is tried again when the
    function raises.  Workers: at least `min_workers`, at most `max_workers`, each kept for `scaledown_window` seconds
    when idle; and `buffer_workers` ready beyond what calls need.  `min_containers`, `max_containers` and
    `buffer_containers` are other words for these.
    `network` is `"egress"` (outward only; what is so when nothing is said), `"none"`, `"host"` (this machine's), or a list
    of what may be reached: `["example.net", "*.example.com", "10.0.0.0/8"]`; `block_network=True` is another word for `"none"`.  `env` are environment variables.  `name` instead of the function's own.
    More of workers and of what waits is in docs/scaling.md: `scaleup_delay`, `target_utilization`, `panic_factor`,
    `scaledown_per_minute`, `floors`, `prewarm`, `target_metrics` and `spread` for workers; for calls that wait
    `max_waiting`, `rate_limit` (`"100/s"`) and `key_concurrency`.
    `serialized` sends the function itself along rather than its name: for one that is made inside another.
    `tags` are names and values that costs are told by (docs/costs.md).
    `template=False` starts each worker as a process of its own, rather than as a fork of one that has the imports.
    """

    image: Image
    name: str
    serialized: bool
    template: bool


class CallOptions(RunOptions, WorkerOptions, total=False):
    """What may be said of some calls only, with `with_options`; the rest stays as it was decorated, or deployed.

    As in `FunctionOptions`; `env` and `tags` are added to those that are there.  `session` names what calls belong together: the
    worker that served it serves the next call, if it has room (`affinity="soft"`), or no other does (`"strict"`).
    """

    session: str
    affinity: str


@dataclass(frozen=True, slots=True)
class SessionWish:
    """What options say of a session; None where they do not."""

    name: str | None = None
    is_strict: bool | None = None

    def on(self, callee: Callee) -> Callee:
        """The same callee, in it."""
        if self.name is None and self.is_strict is None:
            return callee
        return replace(
            callee,
            session=callee.session if self.name is None else self.name,
            is_strict=callee.is_strict if self.is_strict is None else self.is_strict,
        )

    def over(self, before: SessionWish) -> SessionWish:
        """What holds where options were given twice."""
        return SessionWish(
            before.name if self.name is None else self.name,
            before.is_strict if self.is_strict is None else self.is_strict,
        )


NAMES = frozenset(FunctionOptions.__annotations__) - frozenset(OTHER_NAMES)
CALL_NAMES = frozenset(CallOptions.__annotations__) - frozenset(OTHER_NAMES)
SCALING_NAMES = frozenset(ScalingOptions.__annotations__) - frozenset(OTHER_NAMES)
SESSION_LETTERS = 255
_FIELDS: Mapping[str, tuple[str, str]] = {
    "cpu": ("resources", "cpu"),
    "memory": ("resources", "memory_mib"),
    "ephemeral_disk": ("resources", "ephemeral_disk_mib"),
    "gpu": ("resources", "gpu"),
    "min_workers": ("scaling", "min_workers"),
    "max_workers": ("scaling", "max_workers"),
    "buffer_workers": ("scaling", "buffer_workers"),
    "scaledown_window": ("scaling", "scaledown_window_seconds"),
    "scaleup_delay": ("scaling", "scaleup_delay_seconds"),
    "target_utilization": ("scaling", "target_utilization"),
    "panic_factor": ("scaling", "panic_factor"),
    "scaledown_per_minute": ("scaling", "scaledown_per_minute"),
    "floors": ("scaling", "floors"),
    "prewarm": ("scaling", "prewarm"),
    "target_metrics": ("scaling", "metrics"),
    "spread": ("scaling", "spreads"),
    "max_waiting": ("queue", "max_waiting"),
    "rate_limit": ("queue", "rate_limit"),
    "key_concurrency": ("queue", "key_concurrency"),
    "timeout": ("", "timeout_seconds"),
    "startup_timeout": ("", "startup_timeout_seconds"),
    "queue_timeout": ("", "queue_timeout_seconds"),
    "grace": ("", "grace_seconds"),
    "retries": ("", "retries"),
    "network": ("", "network"),
    "env": ("", "env"),
    "tags": ("", "tags"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a function or class is."""

    name: str
    module: str
    qualname: str
    is_class: bool
    methods: tuple[MethodSpec, ...]
    parameters: tuple[ClassParameter, ...] = ()
    serialized: str = ""
    has_snap: bool = False
    concurrency: Concurrency = field(default_factory=Concurrency)


_NOWHERE = Place(name="", module="", qualname="", is_class=False, methods=())
_NO_IMAGE = HostImage(python="", prefix="", base_prefix="", version="")


def check_options(
    name: str,
    options: FunctionOptions | CallOptions | ScalingOptions,
    known: frozenset[str] = NAMES,
    doing: str = "decorate",
) -> None:
    """Raises InvalidRequest naming the option that cannot be."""
    cannot = f"cannot {doing} {name}"
    given = in_our_words(cannot, options)
    for option in given:
        if option not in known:
            from difflib import get_close_matches

            near = get_close_matches(option, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
            raise InvalidRequest(f"{cannot}: {option!r} is not an option; {hint}")
    _check_numbers(cannot, given)
    parse_gpus(given)
    _check_rest(cannot, given)


def spec_of(place: Place, given: FunctionOptions | CallOptions | ScalingOptions, image: HostImage) -> FunctionSpec:
    """The spec, on this image."""
    options = in_our_words(f"cannot decorate {place.name}", given)
    spec = FunctionSpec(
        name=place.name,
        module=place.module,
        qualname=place.qualname,
        is_class=place.is_class,
        methods=tuple(_with_concurrency(method, place.concurrency) for method in place.methods),
        image=image,
        parameters=place.parameters,
        serialized=place.serialized,
        has_snap=place.has_snap,
        concurrency=Concurrency() if any(method.web for method in place.methods) else place.concurrency,
        resources=Resources(
            cpu=_float_or_none(options.get("cpu")),
            memory_mib=options.get("memory"),
            ephemeral_disk_mib=options.get("ephemeral_disk"),
            gpu=parse_gpus(options),
        ),
        scaling=_scaling(options),
        queue=_queueing(options),
        retries=plain_retries(options.get("retries", 0)),
        env=tuple(sorted(options.get("env", {}).items())),
        tags=tuple(sorted(options.get("tags", {}).items())),
    )
    return replace(
        spec,
        timeout_seconds=float(options.get("timeout", spec.timeout_seconds)),
        startup_timeout_seconds=float(options.get("startup_timeout", spec.startup_timeout_seconds)),
        queue_timeout_seconds=_float_or_none(options.get("queue_timeout")),
        grace_seconds=float(options.get("grace", spec.grace_seconds)),
        network=canonical(options.get("network", EGRESS)),
        uses_template=options.get("template", spec.uses_template),
    )


def _scaling(options: Mapping[str, Any]) -> Scaling:
    rate = options.get("scaledown_per_minute")
    return Scaling(
        min_workers=options.get("min_workers", 0),
        max_workers=options.get("max_workers"),
        buffer_workers=options.get("buffer_workers", 0),
        scaledown_window_seconds=float(options.get("scaledown_window", 60.0)),
        scaleup_delay_seconds=float(options.get("scaleup_delay", 0.0)),
        target_utilization=float(options.get("target_utilization", 1.0)),
        panic_factor=float(options.get("panic_factor", 2.0)),
        scaledown_per_minute=_float_or_none(rate),
        floors=tuple(options.get("floors", ())),
        prewarm=options.get("prewarm", False),
        metrics=tuple(
            MetricTarget(name=metric, per_worker=float(target))
            for metric, target in sorted(options.get("target_metrics", {}).items())
        ),
        spreads=options.get("spread", False),
    )


def _queueing(options: Mapping[str, Any]) -> Queueing:
    rate = options.get("rate_limit")
    return Queueing(
        max_waiting=options.get("max_waiting"),
        rate_limit=None if rate is None else parse_rate(rate),
        key_concurrency=options.get("key_concurrency", 1),
    )


def scaling_fields(name: str, given: ScalingOptions) -> dict[str, Json]:
    """What is said of a function's workers and its queue, as fields of a spec.  Raises InvalidRequest as `check_options`."""
    check_options(name, given, SCALING_NAMES, "scale")
    spec = spec_of(_NOWHERE, given, _NO_IMAGE)
    places = [_FIELDS[option] for option in in_our_words(f"cannot scale {name}", given)]
    return {field: _plain(getattr(getattr(spec, section), field)) for section, field in places}


def split_session(name: str, given: CallOptions) -> tuple[CallOptions, SessionWish]:
    """Options that make workers of their own, and what is said of a session, which does not.  Raises InvalidRequest."""
    rest = given.copy()
    session, affinity = rest.pop("session", None), rest.pop("affinity", None)
    if session is not None and not (isinstance(session, str) and 0 < len(session) <= SESSION_LETTERS):
        raise InvalidRequest(
            f"cannot change the options of {name}: session={session!r} is no name; write a text of 1 to {SESSION_LETTERS} characters"
        )
    if affinity not in (None, "soft", "strict"):
        raise InvalidRequest(
            f"cannot change the options of {name}: affinity={affinity!r} is not known; use 'soft' or 'strict'"
        )
    return rest, SessionWish(session, None if affinity is None else affinity == "strict")


def _with_concurrency(method: MethodSpec, concurrency: Concurrency) -> MethodSpec:
    """What answers the web takes as many requests at once as `@relight.concurrent` says: they are no calls of a worker."""
    if method.web is None or concurrency.max_inputs == 1:
        return method
    return replace(method, web=replace(method.web, max_inputs=concurrency.max_inputs))


def call_options(name: str, given: CallOptions) -> tuple[tuple[str, Json], ...]:
    """Options of some calls, as fields of the spec.  Raises InvalidRequest naming the one that cannot be."""
    check_options(name, given, CALL_NAMES, "change the options of")
    spec = spec_of(_NOWHERE, given, _NO_IMAGE)
    said: list[tuple[str, Json]] = []
    for option in in_our_words(f"cannot change the options of {name}", given):
        section, field = _FIELDS[option]
        value = getattr(getattr(spec, section) if section else spec, field)
        said.append((field, _plain(value)))
    return tuple(said)


def _plain(value: object) -> Json:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return to_plain(value) if is_dataclass(value) else json.loads(json.dumps(value))


def parse_gpus(options: Mapping[str, Any]) -> tuple[GpuRequest, ...]:
    """The GPUs asked for, in order of preference.  Raises InvalidRequest when one cannot be read."""
    gpu = options.get("gpu") or ()
    return tuple(parse_gpu(text) for text in ((gpu,) if isinstance(gpu, str) else gpu))


def method_of(function: Callable[..., Any], name: str = "", *, is_bound: bool = False) -> MethodSpec:
    """What is known of one thing to call.  `is_bound`: its first parameter is `self`, which nobody passes.

    A worker never says what it has, so there no schemas are made.  Raises InvalidRequest for an Input that fits nothing.
    """
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[1 if is_bound else 0 :]
    returns = signature.return_annotation
    is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    takes, gives = (None, None) if inside.is_worker else _schemas(function, parameters, is_generator=is_generator)
    return MethodSpec(
        name=name,
        parameters=tuple(_parameter(parameter) for parameter in parameters),
        returns="" if returns is inspect.Signature.empty else _source(returns),
        is_async=inspect.iscoroutinefunction(function),
        is_generator=is_generator,
        doc=inspect.getdoc(function) or "",
        input_schema=takes,
        output_schema=gives,
        batching=batching_of(function),
        web=getattr(function, WEB, None),
    )


def _schemas(
    function: Callable[..., Any], parameters: Sequence[inspect.Parameter], *, is_generator: bool
) -> tuple[Json, Json]:
    from relight.sdk.schemas import input_schema, output_schema  # what it needs is more than a worker should import

    return input_schema(function, parameters), output_schema(function, is_generator=is_generator)


def _parameter(parameter: inspect.Parameter) -> ParameterSpec:
    kinds = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    stars = next((stars for kind, stars in kinds.items() if kind is parameter.kind), "")
    has_default = parameter.default is not inspect.Parameter.empty
    default: Json = None
    if has_default and is_json(parameter.default, 1000):
        default = json.loads(json.dumps(parameter.default))
    return ParameterSpec(
        name=stars + parameter.name,
        annotation="" if parameter.annotation is inspect.Parameter.empty else _source(parameter.annotation),
        required=not has_default and not stars,
        default=default,
        is_keyword_only=parameter.kind is inspect.Parameter.KEYWORD_ONLY,
    )


def _source(annotation: object) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _float_or_none(value: float | None) -> float | None:
    return None if value is None else float(value)


def _check_numbers(cannot: str, given: Mapping[str, Any]) -> None:
    above_zero = (
        *("cpu", "memory", "ephemeral_disk", "timeout", "startup_timeout", "queue_timeout", "max_workers"),
        *("target_utilization", "panic_factor", "scaledown_per_minute", "max_waiting", "key_concurrency"),
    )
    others = ("grace", "min_workers", "buffer_workers", "scaledown_window", "scaleup_delay")
    for option in (*above_zero, *others):
        value = given.get(option)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InvalidRequest(f"{cannot}: {option}={value!r} is not a number; write one")
        if not math.isfinite(value) or value < 0 or (value == 0 and option in above_zero):
            bound = "above 0" if option in above_zero else "0 or more"
            raise InvalidRequest(f"{cannot}: {option}={value!r} is out of range; make it {bound}")
    whole = (
        "memory",
        "ephemeral_disk",
        "min_workers",
        "max_workers",
        "buffer_workers",
        "max_waiting",
        "key_concurrency",
    )
    for option in whole:
        if isinstance(given.get(option), float):
            raise InvalidRequest(f"{cannot}: {option}={given[option]!r} is not a whole number; round it")


def _check_rest(cannot: str, given: Mapping[str, Any]) -> None:
    most, least = given.get("max_workers"), given.get("min_workers", 0)
    if most is not None and most < least:
        raise InvalidRequest(f"{cannot}: max_workers={most} is below min_workers={least}; raise it")
    retries = given.get("retries", 0)
    if not isinstance(retries, Retries) and (isinstance(retries, bool) or not isinstance(retries, int) or retries < 0):
        raise InvalidRequest(f"{cannot}: retries={retries!r} is no number of retries; use 0, 1, … or Retries(…)")
    try:
        canonical(given.get("network", EGRESS))
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"{cannot}: network={given['network']!r}: {error}; choose another") from None
    env = given.get("env", {})
    if not isinstance(env, Mapping) or not all(isinstance(part, str) for pair in env.items() for part in pair):
        raise InvalidRequest(f"{cannot}: env={env!r} is not a mapping of texts to texts; write it so")
    check_tags(cannot, given.get("tags"))
    for option in ("template", "prewarm", "spread"):
        if not isinstance(given.get(option, True), bool):
            raise InvalidRequest(f"{cannot}: {option}={given[option]!r} is neither True nor False; write one of them")
    _check_scaling(cannot, given)
    if not isinstance(given.get("image"), (Image, NoneType)):
        raise InvalidRequest(f"{cannot}: image={given['image']!r} is no image; use relight.Image.host()")


def check_tags(cannot: str, tags: object) -> None:
    """Raises InvalidRequest, beginning with `cannot`, for what are no tags; None is none."""
    if tags is not None and not (
        isinstance(tags, Mapping) and all(isinstance(part, str) for pair in tags.items() for part in pair)
    ):
        raise InvalidRequest(f"{cannot}: tags={tags!r} is not a mapping of texts to texts; write {{'team': 'search'}}")


def _check_scaling(cannot: str, given: Mapping[str, Any]) -> None:
    rate = given.get("rate_limit")
    if rate is not None and not isinstance(rate, str):
        raise InvalidRequest(f"{cannot}: rate_limit={rate!r} is no text; write for example rate_limit='100/s'")
    if rate is not None:
        parse_rate(rate)
    floors = given.get("floors", ())
    if not isinstance(floors, (list, tuple)) or not all(isinstance(floor, Floor) for floor in floors):
        raise InvalidRequest(f"{cannot}: floors={floors!r} is no list of floors; write [relight.Floor(workers=2, …)]")
    targets = given.get("target_metrics", {})
    if not isinstance(targets, Mapping) or not all(
        isinstance(name, str) and isinstance(target, (int, float)) and target > 0 for name, target in targets.items()
    ):
        raise InvalidRequest(
            f"{cannot}: target_metrics={targets!r} is no mapping of names to numbers above 0; "
            "write for example {'tokens_waiting': 1000}"
        )
