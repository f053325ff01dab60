"""What those who come from Modal write, in relight's words; and what they write that is not here, with what to do instead.

Nothing here is imported before such a word is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypedDict

from relight.protocol import manifest
from relight.protocol.errors import InvalidRequest

if TYPE_CHECKING:
    from typing import Unpack

OPTIONS: Mapping[str, str] = {
    "min_containers": "min_workers",
    "max_containers": "max_workers",
    "buffer_containers": "buffer_workers",
    "block_network": "network",
}
"""Options of functions and classes by Modal's names, and what they are here."""

SO_ANYWAY = frozenset({"enable_memory_snapshot", "include_source", "is_generator", "nonpreemptible"})
"""Options that say what is so without them: workers are forks of a template, the folder's files are sent,
what yields is a generator.
"""

_SO_ANYWAY_EXPERIMENTS = frozenset({"enable_gpu_snapshot"})

_UNSAID = frozenset({*OPTIONS, "retries", "timeout", "startup_timeout", "scaledown_window", "env", "tags", "name"})
"""Options for which None means what it means to say nothing."""

_DELAYS: Mapping[str, str] = {
    "max_retries": "count",
    "initial_delay": "delay_seconds",
    "backoff_coefficient": "backoff",
    "max_delay": "max_delay_seconds",
}

_WEB = "deploy it: `POST /v1/apps/APP/functions/NAME/call` calls any function over HTTP"
_ONE_AT_A_TIME = "leave it away: a worker runs one call at a time, and there are as many workers as calls need"
_FILES = "pass files as relight.File, or send them along with relight.App(include=[…])"
_OWN_NODES = "leave it away: everything runs on the machines that you gave it"
_SCHEDULE = "let cron run `relight call APP/FUNCTION`"
_STATE = "return what is to be shared, or use a database, which a function reaches"
_SANDBOX = "decorate a function: it runs in a sandbox of its own"
_ADMIN = "use the command line: `relight --help`"

ABSENT_OPTIONS: Mapping[str, tuple[str, str]] = {
    "cloud": ("clouds to choose from", _OWN_NODES),
    "experimental_options": ("experiments", "leave it away"),
    "i6pn": ("addresses for workers", "call functions from functions"),
    "max_inputs": ("workers that leave after some calls", "leave it away"),
    "network_file_systems": ("file systems to mount", _FILES),
    "proxy": ("proxies", "leave it away: a function reaches what its node does"),
    "region": ("regions", _OWN_NODES),
    "restrict_modal_access": (
        "workers that may call nothing",
        "leave it away: they may call functions of their environment",
    ),
    "routing_region": ("regions", _OWN_NODES),
    "schedule": ("schedules", _SCHEDULE),
    "secrets": ("secrets", "give variables with env={…}"),
    "single_use_containers": ("workers for one call only", "leave it away"),
    "volumes": ("volumes", _FILES),
}
"""Options that are not here: what there is none of, and what to do."""

_CLIENTS = ("clients to make", "set RELIGHT_URL and RELIGHT_TOKEN, or use `relight login`")

ABSENT_WORDS: Mapping[str, tuple[str, str]] = {
    "client": _CLIENTS,
    "detach": ("runs that outlive their program", "deploy it: app.deploy()"),
    "environment_name": (
        "runs in an environment that others have",
        "leave it away, or deploy there: app.deploy('staging')",
    ),
    "index": ("several results of one call", "leave it away"),
    "interactive": ("terminals in workers", "use `relight run --local`, where a breakpoint() stops"),
    "secrets": ABSENT_OPTIONS["secrets"],
    "tag": ("words for a deploy", "leave it away: each deploy has the id of its version"),
    "version": ("calls of an old version", "leave it away: what was deployed last is called"),
    "volumes": ABSENT_OPTIONS["volumes"],
    "wrap_returned_exceptions": ("wrappers for what calls raise", "leave it away: exceptions come as what they are"),
}
"""Arguments of everything else that are not here: what there is none of, and what to do."""

ABSENT_NAMES: Mapping[str, tuple[str, str]] = {
    "Client": _CLIENTS,
    "CloudBucketMount": ("volumes", _FILES),
    "Cluster": ("clusters", "call functions from functions"),
    "Cron": ("schedules", _SCHEDULE),
    "Dict": ("dictionaries to share", _STATE),
    "Environment": ("environments as objects", "name one: app.deploy('staging'), Function.from_name(…, 'staging')"),
    "FilePatternMatcher": ("pattern objects", "write patterns as texts: relight.App(include=['data/*.json'])"),
    "NetworkFileSystem": ("file systems to mount", _FILES),
    "Period": ("schedules", _SCHEDULE),
    "Probe": ("probes of sandboxes", _SANDBOX),
    "Proxy": ("proxies", "leave it away: a function reaches what its node does"),
    "Queue": ("queues to share", _STATE),
    "Sandbox": ("sandboxes to make by hand", _SANDBOX),
    "SandboxSnapshot": ("sandboxes to make by hand", _SANDBOX),
    "SchedulerPlacement": ("regions", _OWN_NODES),
    "Secret": ("secrets", "give variables with env={…}"),
    "Server": ("web endpoints", _WEB),
    "Tunnel": ("tunnels", _WEB),
    "Volume": ("volumes", _FILES),
    "Workspace": ("workspaces as objects", _ADMIN),
    "billing": ("bills", _ADMIN),
    "clustered": ("clusters", "call functions from functions"),
    "experimental": ("experiments", "leave it away"),
    "forward": ("tunnels", _WEB),
    "interact": ("terminals in workers", "use `relight run --local`, where a breakpoint() stops"),
    "sessioned": ("sessions", "keep what a session needs in a class with @app.cls()"),
    "types": ("a module of types", "take its names from relight itself: relight.FunctionStats"),
}
"""Names that are not here: what there is none of, and what to do."""

ABSENT_IMAGES = frozenset(
    {
        *("debian_slim", "from_aws_ecr", "from_dockerfile", "from_gcp_artifact_registry", "from_id", "from_name"),
        *("from_registry", "from_scratch", "micromamba", "add_local_dir", "add_local_file", "add_local_python_source"),
        *(
            "apt_install",
            "build",
            "cmd",
            "dockerfile_commands",
            "entrypoint",
            "env",
            "micromamba_install",
            "pip_install",
        ),
        *("pip_install_from_pyproject", "pip_install_from_requirements", "pip_install_private_repos", "pipe"),
        *("poetry_install_from_file", "run_commands", "run_function", "shell", "uv_pip_install", "uv_sync", "workdir"),
    }
)
"""Ways to make an image that are not here."""

ABSENT_ERRORS: Mapping[str, str] = {
    "ExecutionError": "RemoteError, for what a function raised, or WorkerLost",
    "InputCancellation": "nothing: a call that is cancelled runs its `finally` blocks",
    "InternalError": "Error",
    "UserCodeException": "what the function raised: it comes as its own type, never wrapped",
}
"""Errors that nothing here is the same as, and what to catch."""


def in_our_words(cannot: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options by relight's names.  Raises InvalidRequest, beginning with `cannot`, for one that is not here."""
    said: dict[str, Any] = {}
    for option, value in given.items():
        if option in SO_ANYWAY or (option in ABSENT_OPTIONS and not value):
            continue  # an empty list of secrets asks for nothing
        if option == "experimental_options" and isinstance(value, Mapping) and set(value) <= _SO_ANYWAY_EXPERIMENTS:
            continue
        if option in ABSENT_OPTIONS:
            thing, instead = ABSENT_OPTIONS[option]
            raise InvalidRequest(f"{cannot}: {option}={value!r} asks for {thing}, which relight has not; {instead}")
        if option == "block_network":
            value = "none" if value else None
        if option in _UNSAID and value is None:
            continue
        ours = OPTIONS.get(option, option)
        if ours in said:
            raise InvalidRequest(f"{cannot}: {option}= and {_other(ours, given)}= are one option; say one of them")
        said[ours] = value
    return said


def _other(ours: str, given: Mapping[str, Any]) -> str:
    """The first of the words that were said for an option."""
    return next(option for option in given if OPTIONS.get(option, option) == ours)


class AppWords(TypedDict, total=False):
    """What Modal says of an app."""

    secrets: Sequence[object]
    volumes: Mapping[Any, object]
    include_source: bool


class RunWords(TypedDict, total=False):
    """What Modal says of a run.  Its name is the app's."""

    name: str | None
    client: object
    detach: bool
    interactive: bool
    environment_name: str | None


class DeployWords(TypedDict, total=False):
    """What Modal says of a deploy.  Its name is the app's."""

    name: str | None
    tag: str
    client: object


class FindWords(TypedDict, total=False):
    """What Modal says of something that it finds by its name."""

    version: int | None
    client: object


class CallWords(TypedDict, total=False):
    """What Modal says of a call that was spawned."""

    client: object
    index: int
    terminate_containers: bool


class MapWords(TypedDict, total=False):
    """What Modal says of a map."""

    wrap_returned_exceptions: bool | None


def pass_over(cannot: str, given: Mapping[str, object], words: type, own: str) -> None:
    """Nothing, where what Modal calls `words` asks for nothing.  `own` are the arguments that there are.

    Raises InvalidRequest, beginning with `cannot`, when one asks for what is not here, TypeError when nobody has it.
    """
    for word, value in given.items():
        if word not in words.__annotations__:
            raise TypeError(f"{cannot}: it got an unexpected keyword argument {word!r}; it takes {own}")
        if not value or word not in ABSENT_WORDS:
            continue
        thing, instead = ABSENT_WORDS[word]
        raise InvalidRequest(f"{cannot}: {word}={value!r} asks for {thing}, which relight has not; {instead}")


def refuse_name(name: str) -> None:
    """Raises InvalidRequest when Modal has this name and relight has not."""
    if name in ABSENT_NAMES:
        thing, instead = ABSENT_NAMES[name]
        raise InvalidRequest(f"cannot use relight.{name}: relight has no {thing} yet; {instead}")


def refuse_image(name: str) -> None:
    """Raises InvalidRequest when Modal makes images by this name."""
    if name in ABSENT_IMAGES:
        raise InvalidRequest(
            f"cannot build an image yet: relight.Image has no {name}; use relight.Image.host(), the default, and install "
            "what functions need in the Python that deploys them"
        )


def refuse_error(name: str) -> None:
    """Raises InvalidRequest when Modal has an error by this name and nothing here is the same."""
    if name in ABSENT_ERRORS:
        raise InvalidRequest(f"cannot catch relight.exception.{name}: it is never raised; catch {ABSENT_ERRORS[name]}")


class RetriesInOtherWords(TypedDict, total=False):
    """Modal's words for the fields of `Retries`, in its order."""

    max_retries: int
    backoff_coefficient: float
    initial_delay: float
    max_delay: float


class Retries(manifest.Retries):
    """How often a call is tried again when the user's code raises, and how long it waits before.

    The n-th wait is `delay_seconds * backoff ** (n - 1)`, at most `max_delay_seconds`.  `max_retries`, `initial_delay`,
    `backoff_coefficient` and `max_delay` are other words for the four.
    """

    __slots__ = ()

    def __init__(
        self,
        *,
        count: int = 0,
        delay_seconds: float = 1.0,
        backoff: float = 2.0,
        max_delay_seconds: float = 60.0,
        **others: Unpack[RetriesInOtherWords],
    ) -> None:
        said: dict[str, Any] = {
            "count": count,
            "delay_seconds": delay_seconds,
            "backoff": backoff,
            "max_delay_seconds": max_delay_seconds,
        }
        for name, value in others.items():
            if name not in _DELAYS:
                raise TypeError(f"Retries() got an unexpected keyword argument {name!r}; it has {', '.join(said)}")
            said[_DELAYS[name]] = value
        super().__init__(**said)


def plain_retries(retries: int | manifest.Retries) -> manifest.Retries:
    """Retries as a spec has them."""
    if isinstance(retries, int):
        return manifest.Retries(count=retries)
    return manifest.Retries(**{one.name: getattr(retries, one.name) for one in fields(manifest.Retries)})
