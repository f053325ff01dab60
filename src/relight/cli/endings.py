"""How a worker ended, as one line: the reason, the status or signal of its process, and the most memory that it held."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from relight.protocol.manifest import Json

_MIB = 1 << 20


def show_ending(ending: Json) -> str:
    """`out_of_memory, SIGKILL, held 256 MiB`; "" where no worker ended."""
    if not isinstance(ending, dict):
        return ""
    reason, number, code, peak = (ending.get(name) for name in ("reason", "signal", "code", "peak_memory_bytes"))
    status = _signal_name(number) if isinstance(number, int) else f"status {code}" if isinstance(code, int) else ""
    said = [str(reason), "" if status and str(reason).endswith((f":{status}", f":{code}")) else status]
    if isinstance(peak, int) and peak >= _MIB:
        said.append(f"held {peak // _MIB} MiB")
    return ", ".join(filter(None, said))


def last_lines(ending: Json) -> Sequence[str]:
    """What it wrote last."""
    lines = ending.get("last_lines") if isinstance(ending, dict) else None
    return [str(line) for line in lines] if isinstance(lines, list) else []


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
