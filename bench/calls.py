"""How fast a call is: relight through its public SDK, beside others on the same machine in the same run.

    python bench/calls.py                      # all, 3 minutes
    python bench/calls.py --quick              # less of it, 45 seconds
    python bench/calls.py --only relight,ray

JSON lines go to the standard output as they are measured, the table to the standard error at the end.
`--check` ends with status 1 when a target does not hold.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from harness import (
    FULL,
    QUICK,
    Figures,
    Plan,
    Target,
    Tell,
    conclude,
    figures_of,
    open_drivers,
    run_rounds,
    table,
    tell_to,
)
from idle import Idle, Imports, measure_idle, measure_imports
from peers import PEERS

PACKAGES = ("relight", "ray", "celery", "redis")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the figures were taken on."""

    cpus: int
    python: str
    system: str
    load: float
    file_system: str
    versions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A peer that is not measured."""

    peer: str
    why: str


def main(words: Sequence[str] | None = None) -> int:
    """Measure what the command line says; the exit status."""
    options = _options(words)
    plan = QUICK if options.quick else FULL
    tell = tell_to()
    with tempfile.TemporaryDirectory(prefix="rb-", dir=options.folder, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        tell("machine", machine(folder))
        targets: list[Target] = []
        if "relight" in options.only and not options.no_idle:
            targets += _measure_idle(plan, folder, tell)
        figures = _measure_calls(options.only, plan, folder, tell)
    targets = [*call_targets(figures), *targets]
    for one in figures.values():
        tell("figures", one)
    return conclude(targets, [table(figures)], tell, checks=options.check)


def call_targets(figures: dict[str, Figures]) -> list[Target]:
    """What relight promises of calls, as far as this run can tell."""
    own, ray = figures.get("relight"), figures.get("ray")
    if own is None:
        return []
    targets = [Target(what="a warm .remote(), p50", seen=own.p50_us / 1000, limit=1.2, unit="ms")]
    if ray is not None:
        targets += [
            Target(what="a warm .remote() ÷ a Ray actor call, p50", seen=own.p50_us / ray.p50_us, limit=1.5, unit="x"),
            Target(
                what=".map ÷ Ray tasks, calls/s",
                seen=own.per_second / ray.per_second,
                limit=3.0,
                unit="x",
                is_most=False,
            ),
        ]
    return targets


def idle_targets(imports: Imports, idle: Idle) -> list[Target]:
    """What relight promises of doing nothing."""
    return [
        Target(what="import relight", seen=imports.relight_ms, limit=20.0, unit="ms"),
        Target(what="an idle server and agent, PSS", seen=idle.total_mib, limit=150.0, unit="MiB"),
    ]


def _measure_idle(plan: Plan, folder: Path, tell: Tell) -> list[Target]:
    """Before any peer is open: pages shared with their processes would be counted by a share only."""
    imports = measure_imports(plan.imports)
    tell("imports", imports)
    idle = measure_idle(plan.idle_seconds, folder / "idle")
    tell("idle", idle)
    return idle_targets(imports, idle)


def _measure_calls(peers: Sequence[str], plan: Plan, folder: Path, tell: Tell) -> dict[str, Figures]:
    def skip(peer: str, why: str) -> None:
        tell("skipped", Skipped(peer=peer, why=why))
        sys.stderr.write(f"{peer} is skipped: {why}\n")

    with open_drivers(peers, folder, skip) as drivers:
        return figures_of(run_rounds(drivers, plan, tell))


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--only", type=_peers, default=tuple(PEERS), metavar="A,B", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--no-idle", action="store_true", help="do not measure the import and the idle server")
    parser.add_argument("--folder", type=Path, help="where servers keep their state (the system's temporary folder)")
    parser.add_argument("--check", action="store_true", help="end with status 1 when a target does not hold")
    return parser.parse_args(words)


def _peers(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no peer {unknown[0]!r}: they are {', '.join(PEERS)}")
    return names


def machine(folder: Path) -> Machine:
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
        system=platform.platform(),
        load=os.getloadavg()[0],
        file_system=_file_system(folder),
        versions={name: _version(name) for name in PACKAGES},
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _file_system(folder: Path) -> str:
    """What the folder is on: a commit costs nothing where it is memory."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    return max(((where, kind) for where, kind in mounts if folder.resolve().is_relative_to(where)), default=("", ""))[1]


if __name__ == "__main__":
    sys.exit(main())
