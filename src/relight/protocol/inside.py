"""What a user's module and the worker that loads it agree on; the SDK writes it, the runtime reads it, or the other way.

A process is a worker or it is not, once and for all, so this is the one thing here that a module holds: the runtime
sets it before the user's code is imported, and the SDK asks it where it is.
"""

from __future__ import annotations

from contextvars import ContextVar, Token

RAW = "__relight_raw__"
"""The attribute under which a decorated function or method keeps the function itself."""

HOOK = "__relight_hook__"
"""The attribute that marks a method as one to run at a worker's start or end: `ENTER`, `ENTER_SNAP` or `EXIT`."""

PARAMETERS = "__relight_parameters__"
"""The attribute under which a decorated class keeps its parameters: a tuple of `manifest.ClassParameter`."""

LOADED = "__relight_loaded__"
"""The attribute that marks a module as one that the runtime has executed, in this process or before it was forked."""

ENTER = "enter"
ENTER_SNAP = "enter_snap"
"""As `ENTER`, and once for all the workers that are forked from one template."""
EXIT = "exit"


class Inside:
    """Where this process is: nowhere special, or inside a worker.

    There, `platform` is the path of the socket that leads to the server, and calls go to `app` in `environment`.
    `folder` is where the files of the running call lie, "" while it has none; it goes when the call has ended.
    `cpus` is how many CPUs Python is told of, 0 for all.

    Where an app runs in this very process (`App.local`), calls run here too, several at once on an event loop: which of
    them it is depends on the context.
    """

    __slots__ = ("_call", "_call_here", "app", "cpus", "environment", "folder", "is_loading", "is_worker", "platform")

    def __init__(self) -> None:
        self.is_worker = False
        self.is_loading = False
        self._call = ""
        self._call_here: ContextVar[str] = ContextVar("relight_call", default="")
        self.app = ""
        self.cpus = 0
        self.environment = ""
        self.folder = ""
        self.platform = ""

    @property
    def call(self) -> str:
        """The call that runs here, "" for none."""
        return self._call or self._call_here.get()

    @call.setter
    def call(self, call: str) -> None:
        self._call = call

    def begin_here(self, call: str) -> Token[str]:
        """A call that runs in this process without being a worker's begins, in this context."""
        return self._call_here.set(call)

    def end_here(self, begun: Token[str]) -> None:
        """It has ended, or pauses."""
        self._call_here.reset(begun)


inside = Inside()
"""This process."""


class LoadingStopped(BaseException):
    """`app.run()` was reached while a worker imports the module: what stands above it is all the worker needs.

    Not an Exception, so that the module's own `except Exception` does not take it.
    """
