"""What an operator may set on a server, and the server side's only reader of the environment.

A value comes from the first of: an option of the command, `RELIGHT_<NAME>`, `config.toml` in the data folder, the
default.  A name that nothing has is an error, so that a typing mistake is never silently a default.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_type_hints

from relight.protocol.errors import InvalidRequest

Value = str | int | float | bool | Path | tuple[str, ...]

PREFIX = "RELIGHT_"
CONFIG_FILE = "config.toml"
MIB = 1024 * 1024

CLIENT_VARIABLES = frozenset({"RELIGHT_URL", "RELIGHT_TOKEN", "RELIGHT_PROFILE", "RELIGHT_DEBUG"})
"""Variables that are the client's, not settings of a server."""

OTHER_PREFIXES = ("RELIGHT_CI_", "RELIGHT_TEST_")
"""Variables of the project's own tests, which a server started by them must not refuse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a setting may be: between two numbers, or one of some words; `says` is its line in the docs."""

    says: str
    between: tuple[float, float] | None = None
    one_of: tuple[str, ...] = ()

    @property
    def range(self) -> str:
        """The range as people read it."""
        if self.between is not None:
            return f"{self.between[0]:g} to {self.between[1]:g}"
        return ", ".join(self.one_of)


def _rule(says: str, *, between: tuple[float, float] | None = None, one_of: tuple[str, ...] = ()) -> dict[str, Rule]:
    return {"rule": Rule(says=says, between=between, one_of=one_of)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a server can be told.  The rule beside each field is checked, and is what docs/settings.md shows."""

    data_dir: Path = field(
        default=Path("~/.relight"), metadata=_rule("where everything that must outlive the server is kept")
    )
    host: str = field(
        default="127.0.0.1",
        metadata=_rule("the address to listen on; another one makes the API reachable from outside"),
    )
    port: int = field(default=8700, metadata=_rule("the TCP port; 0 takes a free one", between=(0, 65535)))
    allowed_hosts: tuple[str, ...] = field(
        default=(), metadata=_rule("further names that a Host header may hold, besides this machine's own")
    )
    trusted_proxies: tuple[str, ...] = field(
        default=(),
        metadata=_rule("addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed"),
    )
    with_agent: bool = field(default=True, metadata=_rule("whether the server starts an agent on its own machine"))
    node: str = field(default="", metadata=_rule("the name of that agent's node; empty takes the machine's name"))
    declare_gpu: str = field(default="", metadata=_rule("GPUs to declare as simulated, such as A100:4,H100:2"))
    lease_seconds: float = field(
        default=30.0, metadata=_rule("a call whose node is silent for so long is given to another", between=(1, 3600))
    )
    sweep_seconds: float = field(
        default=0.25, metadata=_rule("how often lost leases and late calls are looked for", between=(0.05, 5))
    )
    crash_backoff_seconds: float = field(
        default=30.0,
        metadata=_rule(
            "the longest pause before another start of a function whose workers crash again and again",
            between=(0.1, 3600),
        ),
    )
    run_grace_seconds: float = field(
        default=30.0, metadata=_rule("a run whose client is gone for so long is cancelled", between=(1, 3600))
    )
    stop_seconds: float = field(
        default=10.0, metadata=_rule("what open requests get to end when the server stops", between=(0, 600))
    )
    result_days: float = field(
        default=7.0,
        metadata=_rule(
            "how long ended calls, their results, and the records of web requests and starts are kept",
            between=(0.01, 3650),
        ),
    )
    rate_card: str = field(
        default="machine",
        metadata=_rule(
            "the rate card that what is used here is priced by; cards of one's own are rates/*.toml in data_dir"
        ),
    )
    metering: bool = field(
        default=True,
        metadata=_rule(
            "whether what workers use is metered and priced; false is for measuring what that takes, and nothing costs then"
        ),
    )
    log_days: float = field(
        default=30.0, metadata=_rule("how long the lines that workers wrote are kept", between=(0.01, 3650))
    )
    max_frame_mib: int = field(default=64, metadata=_rule("the largest message of the SDK", between=(1, 1024)))
    max_json_mib: int = field(default=16, metadata=_rule("the largest JSON body", between=(1, 256)))
    max_blob_mib: int = field(default=16 * 1024, metadata=_rule("the largest blob", between=(1, 1024 * 1024)))
    code_cache_mib: int = field(
        default=4096,
        metadata=_rule(
            "how much unpacked code of apps an agent keeps; what its workers use stays in any case",
            between=(1, 1024 * 1024),
        ),
    )
    template_memory_mib: int = field(
        default=0,
        metadata=_rule(
            "how much memory the templates of the server's own agent may use; 0 is a quarter of the machine's",
            between=(0, 1024 * 1024),
        ),
    )
    forks_ahead: int = field(
        default=1,
        metadata=_rule(
            "how many processes of each template wait for the next worker, forked ahead of time (some 3 MiB each)",
            between=(0, 16),
        ),
    )
    max_waiting: int = field(
        default=0,
        metadata=_rule(
            "how many calls may wait in all; more are refused with 429 and Retry-After; 0 is no bound",
            between=(0, 1_000_000_000),
        ),
    )
    quota_workers: int = field(
        default=0,
        metadata=_rule("how many workers a workspace may have at once; 0 is no bound", between=(0, 1_000_000)),
    )
    quota_cpu: float = field(
        default=0.0, metadata=_rule("how many cores its workers may ask for; 0 is no bound", between=(0, 1_000_000))
    )
    quota_memory_mib: int = field(
        default=0, metadata=_rule("how much memory they may ask for; 0 is no bound", between=(0, 1_000_000_000))
    )
    quota_gpus: int = field(
        default=0, metadata=_rule("how many GPUs they may have; 0 is no bound", between=(0, 1_000_000))
    )
    max_connections: int = field(
        default=4096, metadata=_rule("how many connections are open at once", between=(16, 100_000))
    )
    log_level: str = field(
        default="info", metadata=_rule("what is logged", one_of=("debug", "info", "warning", "error"))
    )
    log_format: str = field(
        default="auto",
        metadata=_rule("how: auto is text on a terminal, json elsewhere", one_of=("auto", "text", "json")),
    )
    log_to: str = field(
        default="stderr",
        metadata=_rule("where to: file is server.log in the data folder", one_of=("stderr", "file", "both")),
    )
    fault_points: str = field(
        default="", metadata=_rule("for tests: where the server kills itself, such as end.before_commit:3")
    )


def read_settings(options: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process.  `options` are those of the command; None means not given.

    Raises InvalidRequest that names the setting, where it came from, and what it may be.
    """
    given = {name: value for name, value in (options or {}).items() if value is not None}
    variables = _from_environment(os.environ if environ is None else environ)
    data_dir = Path(str(given.get("data_dir") or variables.get("data_dir") or "~/.relight")).expanduser().absolute()
    layers = (
        (str(data_dir / CONFIG_FILE), _from_file(data_dir / CONFIG_FILE)),
        ("the environment", variables),
        ("the command", given),
    )
    values: dict[str, Value] = {}
    for source, layer in layers:
        for name, raw in layer.items():
            values[name] = _read(name, raw, source)
    values["data_dir"] = data_dir
    return dataclasses.replace(Settings(), **values)  # type: ignore[arg-type]  # each was converted by its field's type


def rules() -> dict[str, Rule]:
    """Each setting's rule, in the order of the fields."""
    return {one.name: one.metadata["rule"] for one in dataclasses.fields(Settings)}


def wants_traceback() -> bool:
    """Whether an error of a command shall show where it came from (`RELIGHT_DEBUG=1`)."""
    return os.environ.get("RELIGHT_DEBUG", "") not in ("", "0")


def choose_profile(name: str) -> None:
    """Let this process, and those it starts, use a profile, whatever server the environment names."""
    for variable in ("RELIGHT_URL", "RELIGHT_TOKEN"):
        os.environ.pop(variable, None)
    os.environ["RELIGHT_PROFILE"] = name


def set_for_children(name: str, value: str) -> None:
    """Give a setting to the servers that this process starts."""
    _check_name(name, "the command")
    os.environ[PREFIX + name.upper()] = value


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable in CLIENT_VARIABLES or variable.startswith(OTHER_PREFIXES):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if variable != PREFIX + name.upper():
            continue
        _check_name(name, f"the environment ({variable})")
        found[name] = value
    return found


def _from_file(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    import tomllib  # here: Python 3.11 has it, and the client side of the command line runs on 3.10

    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidRequest(f"cannot read {path}: {error}; write lines such as `port = 8700`") from error
    if "data_dir" in found:
        raise InvalidRequest(f"cannot take data_dir from {path}: the file lies in the data folder; use --data-dir")
    return found


def _check_name(name: str, source: str) -> None:
    known = [one.name for one in dataclasses.fields(Settings)]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"settings are {', '.join(known)}"
        raise InvalidRequest(f"cannot set {name!r} from {source}: there is no such setting; {hint}")


def _read(name: str, raw: object, source: str) -> Value:
    _check_name(name, source)
    kind = get_type_hints(Settings)[name]
    try:
        value = _READERS[kind](raw)
    except ValueError as error:
        raise InvalidRequest(f"cannot set {name}={raw!r} from {source}: {error}; correct it") from error
    _check_range(name, value, source)
    return value


def _check_range(name: str, value: Value, source: str) -> None:
    rule = rules()[name]
    if rule.between is not None and not rule.between[0] <= float(str(value)) <= rule.between[1]:
        raise InvalidRequest(f"cannot set {name}={value} from {source}: it must be {rule.range}; choose such a value")
    if rule.one_of and value not in rule.one_of:
        raise InvalidRequest(f"cannot set {name}={value!r} from {source}: it must be one of {rule.range}; choose one")


def _text(raw: object) -> str:
    if isinstance(raw, (str, Path)):
        return str(raw)
    raise ValueError("it must be text")


def _whole(raw: object) -> int:
    if isinstance(raw, bool) or not isinstance(raw, (int, str)):
        raise ValueError("it must be a whole number")
    try:
        return int(raw)
    except ValueError:
        raise ValueError("it must be a whole number") from None


def _number(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        raise ValueError("it must be a number")
    try:
        return float(raw)
    except ValueError:
        raise ValueError("it must be a number") from None


def _truth(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if isinstance(raw, str) and raw.lower() in words:
        return words[raw.lower()]
    raise ValueError("it must be true or false")


def _names(raw: object) -> tuple[str, ...]:
    if isinstance(raw, str):
        return tuple(part.strip() for part in raw.split(",") if part.strip())
    if isinstance(raw, (list, tuple)) and all(isinstance(part, str) for part in raw):
        return tuple(raw)
    raise ValueError("it must be a list of names")


_READERS: dict[object, Callable[[object], Value]] = {
    str: _text,
    int: _whole,
    float: _number,
    bool: _truth,
    tuple[str, ...]: _names,
    Path: lambda raw: Path(_text(raw)),
}
