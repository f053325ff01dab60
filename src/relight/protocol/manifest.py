"""What a deploy says: an app as plain data, made by the SDK from decorators, kept for ever as one version.

Everything here can be printed, compared and stored; nothing here can be run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Union

from relight.protocol.errors import InvalidRequest

Json = Union[None, bool, int, float, str, "list[Json]", "dict[str, Json]"]
"""What JSON can say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostImage:
    """The Python environment of the machine that deployed, mounted read-only at its own paths.

    `paths` are further folders that its `.pth` files and editable installs name.
    """

    python: str
    prefix: str
    base_prefix: str
    version: str
    paths: tuple[str, ...] = ()
    kind: str = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeBundle:
    """The app's own folder as a tar archive (a blob), unpacked where it was: `folder` is its absolute path."""

    digest: str
    size: int
    folder: str


LEAST_SHARE = 0.01
"""So little of a GPU can be asked for."""

_SHARE = re.compile(r"0?\.[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRequest:
    """So many GPUs of one kind, or a share of one; `kind` is upper case (`A100`), or `ANY`.

    `share` is how much of one GPU, above 0; below 1 only where `count` is 1.
    """

    kind: str
    count: int = 1
    share: float = 1.0

    def __str__(self) -> str:
        return f"{self.kind}:{self.share:g}" if self.share < 1 else f"{self.count} × {self.kind}"


def parse_gpu(text: str) -> GpuRequest:
    """`"A100"`, `"A100-80GB:2"`, `"L4:0.25"`, `"MIG-1g.10gb"`, `"any"`.

    Raises InvalidRequest when what follows the kind is neither a whole number above 0 nor a share between 0.01 and 1.
    """
    kind, _, amount = text.strip().partition(":")
    if kind and (not amount or (amount.isdecimal() and int(amount) > 0)):
        return GpuRequest(kind=kind.upper(), count=int(amount or 1))
    if kind and _SHARE.fullmatch(amount) and float(amount) >= LEAST_SHARE:
        return GpuRequest(kind=kind.upper(), share=float(amount))
    raise InvalidRequest(
        f"cannot read gpu={text!r}: it is not KIND, KIND:COUNT or KIND:SHARE, with a share from {LEAST_SHARE} to below 1; "
        "write for example gpu='A100:2' or gpu='L4:0.5'"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one worker asks for.  None means a small share, and no limit.

    `cpu` in cores, `memory_mib` in MiB (a limit when given); `gpu` in order of preference, empty for none.
    `ephemeral_disk_mib` is what /tmp, /dev/shm and the home hold together, None for 1024; it counts as memory, too.
    """

    cpu: float | None = None
    memory_mib: int | None = None
    ephemeral_disk_mib: int | None = None
    gpu: tuple[GpuRequest, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often a call is tried again when the user's code raises, and how long it waits before.

    The n-th wait is `delay_seconds * backoff ** (n - 1)`, at most `max_delay_seconds`.
    """

    count: int = 0
    delay_seconds: float = 1.0
    backoff: float = 2.0
    max_delay_seconds: float = 60.0

    def delay_before(self, retry: int) -> float:
        """Seconds to wait before the `retry`-th retry (from 1)."""
        return min(self.delay_seconds * self.backoff ** (retry - 1), self.max_delay_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """At least `workers`, on some days between two times of the day there: `Floor(workers=3, hours="08:00-18:00")`.

    `days` are `mon-fri`, `sat,sun`, or `*`; `hours` may pass midnight (`22:00-06:00`, of the day they begin on);
    `time_zone` is a name of the tz database.
    """

    workers: int
    days: str = "*"
    hours: str = "00:00-24:00"
    time_zone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricTarget:
    """A number that the function reports (`relight.report`), and how much of it one worker is to have."""

    name: str
    per_worker: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """How many workers there may be.  `max_workers` None: as many as there is room for.

    `buffer_workers` are kept ready beyond what the calls of now need, even where there are none.  `floors` are as
    `min_workers` at their times.  More load than the workers there are take is answered with others after
    `scaleup_delay_seconds`; at once where there is none, or where `panic_factor` times as many are needed.  Calls are to
    keep workers busy up to `target_utilization` (above 0, at most 1).  An idle worker leaves after
    `scaledown_window_seconds`, at most `scaledown_per_minute` of them (None: no bound).  `prewarm`: one is started
    shortly before the next call is expected.  `spreads`: on the node that has fewest of the function.
    """

    min_workers: int = 0
    max_workers: int | None = None
    scaledown_window_seconds: float = 60.0
    buffer_workers: int = 0
    floors: tuple[Floor, ...] = ()
    scaleup_delay_seconds: float = 0.0
    target_utilization: float = 1.0
    panic_factor: float = 2.0
    scaledown_per_minute: float | None = None
    prewarm: bool = False
    metrics: tuple[MetricTarget, ...] = ()
    spreads: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """Calls begin at a rate of `calls` in `seconds`, evenly; so many at once where none began for that long."""

    calls: int
    seconds: float = 1.0


def parse_rate(text: str) -> RateLimit:
    """`"100/s"`, `"10/m"`, `"1000/h"`, `"5/30s"`.  Raises InvalidRequest for any other."""
    calls, _, period = text.strip().partition("/")
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number, unit = period[:-1] or "1", period[-1:]
    if not (calls.isdecimal() and int(calls) and unit in units and number.isdecimal() and int(number)):
        raise InvalidRequest(
            f"cannot read rate_limit={text!r}: it is not CALLS/PERIOD; write for example '100/s' or '5/30s'"
        )
    return RateLimit(calls=int(calls), seconds=int(number) * units[unit])


@dataclass(frozen=True, slots=True, kw_only=True)
class Queueing:
    """How calls wait.  More than `max_waiting` are refused (None: no bound of the function's own).

    Calls of one key begin in the order they came, `key_concurrency` of them at once at most.
    """

    max_waiting: int | None = None
    rate_limit: RateLimit | None = None
    key_concurrency: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """How many calls one worker runs at once at most, and how many it is given before another is started."""

    max_inputs: int = 1
    target_inputs: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """Calls are gathered into one invocation: until there are `max_batch_size`, or the first has waited `wait_seconds`."""

    max_batch_size: int
    wait_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSpec:
    """One parameter as the user wrote it.  `annotation` is its source text; `default` is there when JSON can say it."""

    name: str
    annotation: str = ""
    required: bool = True
    default: Json = None
    is_keyword_only: bool = False


WEB_KINDS = ("endpoint", "asgi", "wsgi", "server")
"""What may answer requests: a function with typed parameters, an app of either interface, a program that listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSpec:
    """That something answers HTTP requests, and how.

    `methods` are those that an endpoint takes; `port` is where a server listens, inside its sandbox.  `max_inputs` is how
    many requests one worker takes at once.  `label` is its name in URLs ("": made of the function's and the app's).
    `cors` are the origins whose pages may ask, `("*",)` all.  `needs_token`: only with a token of this server.
    """

    kind: str
    methods: tuple[str, ...] = ()
    port: int = 0
    max_inputs: int = 1
    label: str = ""
    cors: tuple[str, ...] = ()
    needs_token: bool = False
    has_docs: bool = False
    startup_timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """Something that can be called.  A plain function is one method whose `name` is empty.

    `input_schema` is the JSON Schema of its arguments as one object, `output_schema` that of what it returns, or of each
    item it yields; None in what was deployed before there were any.  `web`: it answers HTTP requests, and is not called.
    """

    name: str = ""
    parameters: tuple[ParameterSpec, ...] = ()
    returns: str = ""
    is_async: bool = False
    is_generator: bool = False
    doc: str = ""
    input_schema: Json = None
    output_schema: Json = None
    batching: Batching | None = None
    web: WebSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassParameter:
    """A value that objects of a class are made with.  `type` is one of `binding.TYPES`, `default` as its JSON."""

    name: str
    type: str
    required: bool = True
    default: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """All that is known of a function or a class before it runs: what its workers load, need and may do.

    `module` and `qualname` say where it is; `is_class` that workers make one object of it and calls name a method.
    `serialized` is the file of the bundle that holds it by value, for what no module has ("" when one has).
    `timeout_seconds` bounds an attempt, `startup_timeout_seconds` a worker's start, `queue_timeout_seconds` the
    wait before (None: no bound); `grace_seconds` is what a cancelled attempt gets before its worker is killed.
    `tags` are names and values that what it costs is told by.
    `has_snap`: its class has `@enter(snap=True)`, so a template holds an object of it.  `uses_template` False: each
    worker is a process of its own from the start.
    """

    name: str
    module: str
    qualname: str
    image: HostImage
    methods: tuple[MethodSpec, ...] = (MethodSpec(),)
    is_class: bool = False
    resources: Resources = field(default_factory=Resources)
    scaling: Scaling = field(default_factory=Scaling)
    queue: Queueing = field(default_factory=Queueing)
    retries: Retries = field(default_factory=Retries)
    timeout_seconds: float = 600.0
    startup_timeout_seconds: float = 900.0
    queue_timeout_seconds: float | None = None
    grace_seconds: float = 5.0
    network: str = "none"
    env: tuple[tuple[str, str], ...] = ()
    parameters: tuple[ClassParameter, ...] = ()
    serialized: str = ""
    has_snap: bool = False
    uses_template: bool = True
    concurrency: Concurrency = field(default_factory=Concurrency)
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def width(self) -> int:
        """How many calls run in one worker at once at most; where they are gathered, each of its inputs is a batch."""
        return self.concurrency.max_inputs * self._largest_batch()

    @property
    def target_width(self) -> int:
        """How many calls a worker is given before another is started."""
        return self.concurrency.target_inputs * self._largest_batch()

    def _largest_batch(self) -> int:
        return max((one.batching.max_batch_size for one in self.methods if one.batching is not None), default=1)

    def method(self, name: str) -> MethodSpec | None:
        """The method of that name, None when there is none."""
        return next((method for method in self.methods if method.name == name), None)


def never_forked(function: FunctionSpec) -> str:
    """Why no worker of this function is a fork, on whatever node; "" when that depends."""
    if not function.uses_template:
        return "asked: the function has template=False"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What sets some workers of a function apart: values of the class's parameters, and options given per call.

    It travels as its text, canonical JSON ("" for neither), which also is part of the key of a queue: calls with equal
    texts share workers.  `options` are fields of the spec that replace the deployed ones.
    """

    parameters: tuple[tuple[str, Json], ...] = ()
    options: tuple[tuple[str, Json], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One version of an app."""

    app: str
    code: CodeBundle
    functions: tuple[FunctionSpec, ...]
    protocol: int = 1

    def function(self, name: str) -> FunctionSpec | None:
        """The function or class of that name, None when there is none."""
        return next((function for function in self.functions if function.name == name), None)
