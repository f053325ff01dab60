"""`relight doctor`: whether this machine is fit to run workers, line by line, and what to do where it is not."""

from __future__ import annotations

import asyncio
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from relight.cli.main import NOT_DONE
from relight.cli.options import json_option
from relight.cli.tables import number, show_json
from relight.cli.up import OLDEST_PYTHON, check_linux
from relight.clock import SystemClock
from relight.protocol.errors import RelightError, Unavailable
from relight.protocol.fitness import Check, Verdict, is_fit
from relight.protocol.manifest import Json
from relight.sdk.connection import connect
from relight.sdk.environment import data_folder
from relight.settings import choose_profile

MARKS = {Verdict.OK: "ok", Verdict.WEAK: "WEAK", Verdict.BROKEN: "BROKEN"}
WORKERS_PYTHONS = tuple(f"python3.{minor}" for minor in range(10, 16))
_VERSION_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is looked at together.  One that is not `is_quick` takes seconds."""

    look: Callable[[], Iterator[Check]]
    is_quick: bool = True


@click.command()
@click.option("--quick", is_flag=True, help="Leave out what takes seconds: other Pythons, and a trial.")
@json_option
def doctor(*, quick: bool, as_json: bool) -> int:
    """Look at this machine, and say what works and what to do about what does not.

    At the end an app is run on a server of its own, to see how quickly workers start here; nothing of it is left.

    Exit code 0 when the machine is fit, though with less than there could be; 3 when something is broken.

    \b
    Example:
      relight doctor
    """
    check_linux("look at what this machine permits")
    checks: list[Check] = []
    for part in PARTS:
        if part.is_quick or not quick:
            for check in part.look():
                checks.append(check)
                if not as_json:
                    _show(check)
    fit = is_fit(checks)
    if as_json:
        show_json({"is_fit": fit, "checks": [_plain(check) for check in checks]})
    else:
        weak = sum(check.verdict is Verdict.WEAK for check in checks)
        click.echo(f"\nthis machine is {_summary(weak) if fit else 'NOT FIT: see what is broken'}")
    return 0 if fit else NOT_DONE


def _show(check: Check) -> None:
    click.echo(f"{MARKS[check.verdict]:7} {check.name:15} {check.sentence}")
    if check.advice and check.verdict is not Verdict.OK:
        click.echo(f"{'':23} → {check.advice}")


def _summary(weak: int) -> str:
    return f"fit, with {weak} weak point{'s' * (weak != 1)}" if weak else "fit"


def _plain(check: Check) -> Json:
    return {**asdict(check), "verdict": check.verdict.value}


# -- the parts


def _node() -> Iterator[Check]:
    from relight.agent.fitness import Ground, look  # here, as all of these: only Linux has what they ask for
    from relight.agent.sandboxes import Sandboxes
    from relight.sandbox.facts import Facts

    async def facts(state: Path) -> Facts:
        """What a launcher finds, as an agent's would: it alone tries whether limits can be handed down."""
        sandboxes = Sandboxes(state)
        await sandboxes.open()
        try:
            return sandboxes.facts
        finally:
            await sandboxes.close()

    with tempfile.TemporaryDirectory(prefix="rl-") as folder:
        permitted = asyncio.run(facts(Path(folder)))
    yield from look(Ground(facts=permitted, folder=data_folder(), clock=SystemClock()))


def _python() -> Iterator[Check]:
    least = ".".join(map(str, OLDEST_PYTHON))
    version = platform.python_version()
    if sys.version_info >= OLDEST_PYTHON:
        yield Check(name="python", sentence=f"Python {version} can run a server")
        return
    sentence = f"Python {version} runs apps and workers, but a server needs {least}"
    yield Check(name="python", verdict=Verdict.WEAK, sentence=sentence, advice=f"python{least} -m pip install relight")


def _pythons() -> Iterator[Check]:
    there = [version for name in WORKERS_PYTHONS if (version := _version_of(name))]
    yield Check(name="pythons", sentence=f"workers can run on {', '.join(there) or 'no other Python'}")


def _version_of(name: str) -> str:
    """The version of a Python by its name, "" where there is none that starts."""
    path = shutil.which(name)
    if path is None:
        return ""
    command = [path, "-I", "-S", "-c", "import platform; print(platform.python_version())"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def _server() -> Iterator[Check]:
    from relight.agent.fitness import judge_drift

    clock = SystemClock()
    try:
        connection = connect()
    except Unavailable:
        yield Check(name="server", sentence="none is up: `relight up` starts one, and `relight run` needs none")
        return
    try:
        asked_at = clock.now()
        answer = connection.json("GET", "/v1/nodes")
    except RelightError as error:
        advice = "start it, or look at RELIGHT_URL and `relight profile list`"
        yield Check(name="server", verdict=Verdict.WEAK, sentence=str(error), advice=advice)
        return
    yield Check(name="server", sentence=f"a server answers at {connection.address}")
    if isinstance(answer, dict) and answer.get("now"):
        yield judge_drift((asked_at + clock.now()) / 2 - number(answer["now"]))


def _gpus() -> Iterator[Check]:
    from relight.agent.gputest import gpu_checks

    yield from gpu_checks()


def _trial() -> Iterator[Check]:
    from relight.cli.trial import trial

    choose_profile("local")  # whatever server the environment names, this one is its own
    yield from trial()


PARTS = (
    Part(look=_node),
    Part(look=_python),
    Part(look=_pythons, is_quick=False),
    Part(look=_server),
    Part(look=_gpus, is_quick=False),
    Part(look=_trial, is_quick=False),
)
"""What is looked at, in this order; the rows of a node are in `agent/fitness.py`."""
