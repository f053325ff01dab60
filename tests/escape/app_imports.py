"""Templates that take all there is, or lie to their agent, as they import this module: each in an app of its own."""

from __future__ import annotations

import os

import app_hogs

import relight
from relight.protocol.channel import CHANNEL_FD, Exited
from relight.protocol.codec import pack

WHAT = os.environ.get("HOG", "")
FOUND: dict[str, str] = {}

if WHAT == "memory":
    held = [b"x" * (16 << 20) for _ in range(200)]
elif WHAT == "disk":
    FOUND = app_hogs.disk_filler.local()
elif WHAT == "garbage":
    os.write(CHANNEL_FD, b"\xff" * 100)
elif WHAT == "anothers_worker":
    os.write(CHANNEL_FD, pack(Exited(worker="somebody", code=0)))

APPS = {
    what: relight.App(f"import-{what.replace('_', '-')}") for what in ("memory", "disk", "garbage", "anothers_worker")
}
memory, disk, garbage, anothers_worker = APPS.values()


@memory.function(memory=128, env={"HOG": "memory"}, startup_timeout=60)
def memory_at_import() -> dict[str, str]:
    """Its template takes more than it may."""
    return FOUND


@disk.function(env={"HOG": "disk"}, ephemeral_disk=64, startup_timeout=60)
def disk_at_import() -> dict[str, str]:
    """Its template fills what it may fill."""
    return FOUND


@garbage.function(env={"HOG": "garbage"}, startup_timeout=60)
def garbage_at_import() -> dict[str, str]:
    """Its template speaks nonsense."""
    return FOUND


@anothers_worker.function(env={"HOG": "anothers_worker"}, startup_timeout=60)
def anothers_worker_at_import() -> dict[str, str]:
    """Its template tells of a process that it has not forked."""
    return FOUND
