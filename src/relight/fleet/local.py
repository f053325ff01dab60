"""The agent of this machine: started by the server, watched, started again when it dies, adopted when it outlived one.

A server that is killed leaves its agent running, with its workers and their calls; the next server on the same folder
finds the agent's pid in the lock that it holds there, and watches it instead of starting a second.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from relight.clock import Clock

STOP_SECONDS = 20.0
"""What an agent gets to let its workers end before it is killed."""

FIRST_DELAY_SECONDS, LAST_DELAY_SECONDS = 0.05, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """How the agent is started.  `run_folder` holds the link's socket; others may use `library_folder`."""

    node: str
    run_folder: Path
    data_folder: Path
    declare_gpu: str = ""
    leaves_with_server: bool = False
    library_folder: Path | None = None
    code_cache_mib: int | None = None
    template_memory_mib: int = 0
    forks_ahead: int = 1
    is_metered: bool = True


class LocalAgent:
    """Keeps one agent alive."""

    def __init__(self, options: AgentOptions, clock: Clock, on_death: Callable[[str], None]) -> None:
        self._options = options
        self._clock = clock
        self._on_death = on_death
        self._lock_file = options.data_folder / "agent.lock"
        self._process: _Process | None = None

    async def run(self) -> None:
        """Keep it alive until cancelled."""
        delay = FIRST_DELAY_SECONDS
        while True:
            began = self._clock.monotonic()
            self._process = self._adopt() or self._start()
            why = await self._process.wait()
            self._on_death(f"the agent of node {self._options.node} {why}")
            is_healthy = self._clock.monotonic() - began > LAST_DELAY_SECONDS
            delay = FIRST_DELAY_SECONDS if is_healthy else min(delay * 2, LAST_DELAY_SECONDS)
            await self._clock.sleep(delay)

    async def stop(self) -> None:
        """Let it leave, and its workers before it; kill it when it does not.  `run` must have been cancelled."""
        if self._process is None:
            return
        self._process.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.signal(signal.SIGKILL)
            await self._process.wait()

    def _adopt(self) -> _Process | None:
        """The agent that outlived a server before this one, if it lives."""
        try:
            pid = int(self._lock_file.read_text().partition("\n")[0])
            descriptor = os.pidfd_open(pid)
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        if b"relight.agent" in command and str(self._options.data_folder).encode() in command:
            return _Process(descriptor, None)
        os.close(descriptor)
        return None

    def _start(self) -> _Process:
        options = self._options
        command = [
            *(sys.executable, "-m", "relight.agent", "--socket", str(options.run_folder / "link.sock")),
            *("--data-dir", str(options.data_folder), "--node", options.node),
        ]
        if options.declare_gpu:
            command += ["--declare-gpu", options.declare_gpu]
        if options.library_folder is not None:
            command += ["--library-dir", str(options.library_folder)]
        if options.code_cache_mib is not None:
            command += ["--code-cache", str(options.code_cache_mib)]
        if options.template_memory_mib:
            command += ["--template-memory", str(options.template_memory_mib)]
        command += ["--forks-ahead", str(options.forks_ahead)]
        if not options.is_metered:
            command.append("--no-metering")
        if options.leaves_with_server:
            command.append("--leave-with-server")
        options.data_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (options.data_folder / "agent.log").open("ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        return _Process(os.pidfd_open(process.pid), process)


class _Process:
    """A process by its descriptor, child or not."""

    def __init__(self, descriptor: int, child: subprocess.Popen[bytes] | None) -> None:
        self._descriptor = descriptor
        self._child = child

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it is gone."""
        if not self._has_ended():
            signal.pidfd_send_signal(self._descriptor, number)

    async def wait(self) -> str:
        """Return once it has ended, with how."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._descriptor)
        if self._child is None:
            return "ended"
        code = self._child.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"left with code {code}"

    def _has_ended(self) -> bool:
        return bool(select.select([self._descriptor], [], [], 0)[0])
