"""A deployed class, known by its name only: what its methods are is the server's to say."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from relight.protocol.binding import TYPES, Value, to_json
from relight.protocol.manifest import Json
from relight.sdk.bindings import Pairs, binding_text, merged
from relight.sdk.elsewhere import FindWords, pass_over
from relight.sdk.function import Deployed, DeployedApp, HasSession
from relight.sdk.options import CallOptions, SessionWish, call_options, split_session
from relight.sdk.session import Callee

if TYPE_CHECKING:
    from typing import Unpack


class Cls:
    """A class that is deployed.  Called with values of its parameters it gives an object: `Cls.from_name(…)(size="7b")`."""

    def __init__(
        self, name: str, sessions: HasSession, options: Pairs = (), session: SessionWish | None = None
    ) -> None:
        self._name = name
        self._sessions = sessions
        self._options = options
        self._session = session or SessionWish()

    @staticmethod
    def from_name(
        app: str, name: str, environment: str = "", *, environment_name: str | None = None, **others: Unpack[FindWords]
    ) -> Cls:
        """A class by its name, on the server found from here; nothing is asked before the first call.

        The environment is `main`; in a worker, the worker's own.  `environment_name` is another word for it.
        """
        pass_over(f"cannot find class {name!r}", others, FindWords, "app, name and environment")
        return Cls(name, DeployedApp(app, environment or environment_name or ""))

    def with_options(self, **given: Unpack[CallOptions]) -> Cls:
        """The same with other options for the calls of its objects, which get workers of their own."""
        rest, session = split_session(self._name, given)
        options = merged(self._options, call_options(self._name, rest))
        return Cls(self._name, self._sessions, options, session.over(self._session))

    def __call__(self, **parameters: Value) -> Obj:
        """An object of it.  Whether it has these parameters, and methods, the server says with the first call."""
        said = tuple((name, self._said(name, value)) for name, value in parameters.items())
        callee = Callee(function=self._name, binding=binding_text(said, self._options))
        return Obj(self._session.on(callee), self._sessions)

    def _said(self, name: str, value: Value) -> Json:
        kind = type(value).__name__
        if kind not in TYPES:
            raise TypeError(
                f"cannot make a {self._name}: its parameter {name!r} is a {kind}, and only {', '.join(TYPES)} can be"
            )
        try:
            return to_json(kind, value)
        except ValueError as error:
            raise TypeError(f"cannot make a {self._name}: its parameter {name!r} cannot be sent: {error}") from None

    def __repr__(self) -> str:
        return f"<relight class {self._name}>"


class Obj:
    """An object of a deployed class; its attributes are methods, `obj.generate.remote(…)`."""

    def __init__(self, callee: Callee, sessions: HasSession) -> None:
        self._callee = callee
        self._sessions = sessions

    def __getattr__(self, name: str) -> Deployed:
        if name.startswith("_"):
            raise AttributeError(f"an object of {self._callee} has no method {name!r}")
        return Deployed(replace(self._callee, method=name), self._sessions)

    def __repr__(self) -> str:
        return f"<relight object of {self._callee}>"
