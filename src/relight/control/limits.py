"""What may be asked for at all: the ranges of a function's resources, times and workers."""

from __future__ import annotations

import math

from relight.protocol.errors import InvalidRequest
from relight.protocol.manifest import FunctionSpec

MAX_WIDTH = 1000
"""So many calls one worker has at once at most."""

_NETWORKS = ("none", "host")


def check_limits(function: FunctionSpec, doing: str) -> None:
    """Raise InvalidRequest, beginning with what cannot be done, when a function asks for what nobody gives."""
    resources, scaling = function.resources, function.scaling
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
        ("retries", function.retries.count, 0, 100),
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
    if function.network not in _NETWORKS:
        raise InvalidRequest(
            f"{doing}: network={function.network!r} is not known; use one of {', '.join(map(repr, _NETWORKS))}"
        )
