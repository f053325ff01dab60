"""What a user's module and the worker that loads it agree on; the SDK writes it, the runtime reads it, or the other way.

A process is a worker or it is not, once and for all, so this is the one thing here that a module holds: the runtime
sets it before the user's code is imported, and the SDK asks it where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token

RAW = "__relight_raw__"
"""The attribute under which a decorated function or method keeps the function itself."""

HOOK = "__relight_hook__"
"""The attribute that marks a method as one to run at a worker's start or end: `ENTER`, `ENTER_SNAP` or `EXIT`."""

PARAMETERS = "__relight_parameters__"
"""The attribute under which a decorated class keeps its parameters: a tuple of `manifest.ClassParameter`."""

CONCURRENT = "__relight_concurrent__"
"""The attribute under which a function or a class keeps how many of its calls run at once: a `manifest.Concurrency`."""

BATCHED = "__relight_batched__"
"""The attribute under which a function or a method keeps how its calls are gathered: a `manifest.Batching`."""

WEB = "__relight_web__"
"""The attribute that marks a function as what answers web requests: a `manifest.WebSpec`."""

LOADED = "__relight_loaded__"
"""The attribute that marks a module as one that the runtime has executed, in this process or before it was forked."""

ENTER = "enter"
ENTER_SNAP = "enter_snap"
"""As `ENTER`, and once for all the workers that are forked from one template."""
EXIT = "exit"


class Inside:
    """Where this process is: nowhere special, or inside a worker.

    There, `platform` is the path of the socket that leads to the server, and calls go to `app` in `environment`.
    `cpus` is how many CPUs Python is told of, 0 for all.  `report_tokens` takes what the call that runs here read and wrote.

    Where several calls run in one process at once (a concurrent function's, or those of `App.local`), which of them it is
    depends on the context.
    """

    __slots__ = (
        *("_call", "_call_here", "_folders", "_writer_here"),
        *("app", "cpus", "environment", "is_loading", "is_worker", "platform", "report_tokens"),
    )

    def __init__(self) -> None:
        self.is_worker = False
        self.is_loading = False
        self._call = ""
        self._call_here: ContextVar[str] = ContextVar("relight_call", default="")
        self._writer_here: ContextVar[str] = ContextVar("relight_writer", default="")
        self._folders: dict[str, str] = {}
        self.app = ""
        self.cpus = 0
        self.environment = ""
        self.platform = ""
        self.report_tokens: Callable[[int, int], None] | None = None

    @property
    def call(self) -> str:
        """The call that runs here, "" for none."""
        return self._call or self._call_here.get()

    @call.setter
    def call(self, call: str) -> None:
        self._call = call

    @property
    def writer(self) -> str:
        """The call whose the lines are that are written here, "" for none."""
        return self._writer_here.get() or self.call

    @property
    def folder(self) -> str:
        """Where the files of the call that runs here lie, "" while it has none; it goes when the call has ended."""
        return self._folders.get(self.call, "") if self._folders else ""

    @folder.setter
    def folder(self, folder: str) -> None:
        if folder:
            self._folders[self.call] = folder
        else:
            self._folders.pop(self.call, None)

    def begin_here(self, call: str) -> Token[str]:
        """A call that runs in this context, among others in this process, begins."""
        return self._call_here.set(call)

    def end_here(self, begun: Token[str]) -> None:
        """It has ended, or pauses."""
        self._call_here.reset(begun)

    def write_here_for(self, call: str) -> None:
        """What is written in this context, which is no one call's, is told as that call's."""
        self._writer_here.set(call)


inside = Inside()
"""This process."""


class LoadingStopped(BaseException):
    """`app.run()` was reached while a worker imports the module: what stands above it is all the worker needs.

    Not an Exception, so that the module's own `except Exception` does not take it.
    """
