"""What may be asked for at all: the ranges of a function's resources, times and workers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import FunctionSpec
from relight.protocol.network import canonical
from relight.protocol.versions import KEPT_TAGS, TAG_LENGTH
from relight.scheduler.floors import check_floor

MAX_WIDTH = 1000
"""So many calls one worker has at once at most."""


def check_limits(function: FunctionSpec, doing: str) -> None:
    """Raise InvalidRequest, beginning with what cannot be done, when a function asks for what nobody gives."""
    resources, scaling, queue = function.resources, function.scaling, function.queue
    ranges = (
        ("cpu", resources.cpu, 0.01, 1024),
        ("memory", resources.memory_mib, 16, 16 * 1024 * 1024),
        ("ephemeral_disk", resources.ephemeral_disk_mib, 1, 16 * 1024 * 1024),
        ("timeout", function.timeout_seconds, 0.001, 30 * 86400),
        ("startup_timeout", function.startup_timeout_seconds, 0.1, 86400),
        ("queue_timeout", function.queue_timeout_seconds, 0, math.inf),
        ("grace", function.grace_seconds, 0, 86400),
        ("min_workers", scaling.min_workers, 0, 10_000),
        ("max_workers", scaling.max_workers, 1, 10_000),
        ("buffer_workers", scaling.buffer_workers, 0, 10_000),
        ("scaledown_window", scaling.scaledown_window_seconds, 0, 30 * 86400),
        ("scaleup_delay", scaling.scaleup_delay_seconds, 0, 3600),
        ("target_utilization", scaling.target_utilization, 0.05, 1),
        ("panic_factor", scaling.panic_factor, 1.1, 1000),
        ("scaledown_per_minute", scaling.scaledown_per_minute, 0.01, 10_000),
        ("max_waiting", queue.max_waiting, 1, 100_000_000),
        ("key_concurrency", queue.key_concurrency, 1, 10_000),
        ("retries", function.retries.count, 0, 100),
        *((f"target_metrics[{one.name!r}]", one.per_worker, 1e-9, 1e18) for one in scaling.metrics),
        ("max_inputs", function.concurrency.max_inputs, 1, MAX_WIDTH),
        ("target_inputs", function.concurrency.target_inputs, 1, function.concurrency.max_inputs),
        ("max_inputs × max_batch_size", function.width, 1, MAX_WIDTH),
        *(
            ("wait_ms", 1000 * one.batching.wait_seconds, 0, 60_000)
            for one in function.methods
            if one.batching is not None
        ),
    )
    for name, value, least, most in ranges:
        if value is not None and not least <= value <= most:
            raise InvalidRequest(
                f"{doing}: {name}={value:.12g} is not between {least:.12g} and {most:.12g}; choose such a value"
            )
    if scaling.max_workers is not None and scaling.max_workers < scaling.min_workers:
        raise InvalidRequest(
            f"{doing}: max_workers={scaling.max_workers} is below min_workers={scaling.min_workers}; raise it"
        )
    for floor in scaling.floors:
        check_floor(floor, doing)
        if scaling.max_workers is not None and floor.workers > scaling.max_workers:
            raise InvalidRequest(
                f"{doing}: its floor of {floor.workers} is above max_workers={scaling.max_workers}; lower it"
            )
    rate = queue.rate_limit
    if rate is not None and not (1 <= rate.calls <= 1_000_000 and 0.001 <= rate.seconds <= 30 * 86400):
        raise InvalidRequest(
            f"{doing}: a rate of {rate.calls} calls in {rate.seconds:g} s is none; give 1 call or more in 1 ms to 30 days"
        )
    check_tags(function.tags, doing)
    try:
        network = canonical(function.network)
    except ValueError as error:
        raise InvalidRequest(f"{doing}: network={function.network[:200]!r}: {error}; choose another") from None
    if network != function.network:
        raise InvalidRequest(f"{doing}: network={function.network[:200]!r} is written as {network!r}; write it so")


def check_tags(tags: Sequence[tuple[str, str]], doing: str) -> None:
    """Raise InvalidRequest, beginning with what cannot be done, when there are too many tags, or one that cannot be."""
    if len(tags) > KEPT_TAGS or len(dict(tags)) < len(tags):
        raise InvalidRequest(f"{doing}: it has {len(tags)} tags; give {KEPT_TAGS} at most, each name once")
    for name, value in tags:
        if not name or "=" in name or max(len(name), len(value)) > TAG_LENGTH:
            said = f"{name}={value}"[:60]
            raise InvalidRequest(
                f"{doing}: {said!r} is no tag: a name has no '=', and it and its value have {TAG_LENGTH} characters at most; "
                "write team=search, say"
            )
