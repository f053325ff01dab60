"""What a worker gives up once it has entered its sandbox, before a line of the user's runs in it.

Prepared by the process that forks it, where it can be: a caller waits.  The walls that hold a template, too, are not
these (`sandbox/plan.py`): this is what only forking needed.
"""

from __future__ import annotations

import os

from relight.sandbox import filters, landlock, syscalls


class Lock:
    """Open until `close`.  Made in the root that the worker sees, or in another of the same folders."""

    def __init__(self) -> None:
        self._program = filters.WORKER.get(os.uname().machine, b"") if syscalls.are_calls_filtered() else b""
        version = syscalls.landlock_version()
        self._rules = landlock.rules_inside(version) if version else -1

    def close(self) -> None:
        """Give up the capabilities that `drop_capabilities` kept, what Landlock forbids, and at last the calls."""
        syscalls.clear_capabilities()
        if self._rules >= 0:
            syscalls.restrict_self(self._rules)
            os.close(self._rules)
        if self._program:
            syscalls.filter_calls(self._program)
