"""pytest with workers: the apps of a test run in sandboxes on one server for the whole session, or in the test's process.

    def test_squares(run_app):
        run_app(shop.app)
        assert shop.square.remote(3) == 9

pytest finds this module by itself.  It costs those nothing who do not use it: what it needs of relight is imported, and
the server started, when the first test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    import pluggy

    from relight.protocol.manifest import Json
    from relight.protocol.views import LogRecord
    from relight.sdk.app import App
    from relight.sdk.connection import Connection

RunApp = Callable[["App"], "App"]
"""What the fixtures `run_app` and `local_app` are: give them an app, and it runs until the test ends."""

LOG_LINES = 500
"""A failing test shows so many lines of its workers, the newest, for each of its apps."""


class RelightServer:
    """Where the apps of tests run: `connection` leads to the server, and is None where they run in this process."""

    def __init__(self, connection: Connection | None = None, show: Callable[[LogRecord], None] | None = None) -> None:
        self.connection = connection
        self._show = show
        self._open: dict[str, App] = {}  # by the environment of its run

    @property
    def folder(self) -> Path | None:
        """The data folder of a server of our own; None where there is none.  RELIGHT_DATA_DIR leads others to it."""
        embedded = self.connection.embedded if self.connection is not None else None
        return embedded.folder if embedded is not None else None

    @contextmanager
    def run(self, app: App) -> Iterator[App]:
        """The time in which an app runs.  Leaving it waits for calls that were spawned; an exception cancels them."""
        if self.connection is None:
            with app.local():
                yield app
            return
        with app.run_on(self.connection, self._show):
            run = app.session(app.name).environment
            self._open[run] = app
            try:
                yield app
            finally:
                del self._open[run]

    def logs(self, since: float = 0.0) -> str:
        """What the workers of all that runs have written since then (seconds since 1970), as people read it."""
        return "\n".join(line for run, app in self._open.items() for line in self._lines(run, app, since))

    def _lines(self, run: str, app: App, since: float) -> Iterator[str]:
        from relight.protocol.errors import RelightError
        from relight.sdk.requests import query

        assert self.connection is not None, "only a server has something open"
        asked: dict[str, str | int] = {"environment": run, "since": f"{since:.3f}", "tail": LOG_LINES}
        try:
            records = list(self.connection.lines(f"/v1/logs{query(asked)}"))
        except RelightError as error:
            yield f"cannot show what the workers of {app.name} wrote: {error}"
            return
        yield from map(_line, records)
        if len(records) == LOG_LINES:
            where = f" --run {self.folder.name}" if self.folder is not None else ""
            yield f"(the newest {LOG_LINES} lines; all of them: relight logs {run}{where})"


def _line(record: Json) -> str:
    if not isinstance(record, dict):
        return ""
    source = "" if record["source"] == "stdout" else f" {record['source']}"
    return f"[{record['function']}{source}] {record['text']}"


# -- what tests ask for


@pytest.fixture(scope="session")
def relight_server(pytestconfig: pytest.Config) -> Iterator[RelightServer]:
    """Where apps run, for fixtures that keep one running over several tests: `with relight_server.run(app): yield app`."""
    if pytestconfig.getoption("relight_local"):
        yield RelightServer()
        return
    connection = _found() if pytestconfig.getoption("relight_connect") else _our_own()
    show = None if pytestconfig.getoption("capture") == "no" else _keep_quiet
    pytestconfig.stash[_SERVER] = server = RelightServer(connection, show)
    try:
        yield server
    finally:
        del pytestconfig.stash[_SERVER]
        connection.close()


@pytest.fixture
def run_app(relight_server: RelightServer, request: pytest.FixtureRequest) -> Iterator[RunApp]:
    """Runs an app until the test ends: `run_app(shop.app)`.  When the test fails, its unfinished calls are cancelled."""
    with _until_the_test_ends(request, relight_server.run) as run:
        yield run


@pytest.fixture
def local_app(request: pytest.FixtureRequest) -> Iterator[RunApp]:
    """Runs an app in this process until the test ends: no server, no sandbox."""
    with _until_the_test_ends(request, RelightServer().run) as run:
        yield run


@contextmanager
def _until_the_test_ends(
    request: pytest.FixtureRequest, run: Callable[[App], AbstractContextManager[App]]
) -> Iterator[RunApp]:
    with suppress(_TestFailed), ExitStack() as apps:
        yield lambda app: apps.enter_context(run(app))
        if request.node.stash.get(_HAS_FAILED, False):
            raise _TestFailed  # within the runs: they cancel what is unfinished, where they would wait for it


class _TestFailed(Exception):
    """A test has failed, and what it left shall not be waited for."""


def _our_own() -> Connection:
    from relight.sdk.connection import Connection
    from relight.sdk.embedded import start
    from relight.sdk.environment import data_folder
    from relight.sdk.http import Address

    server = start(data_folder() / "runs")
    return Connection(Address(path=server.socket), server)


def _found() -> Connection:
    from relight.sdk.connection import connect

    return connect()


def _keep_quiet(_record: LogRecord) -> None:
    """Lines are shown where a test fails, not as they come: pytest captures."""


# -- what pytest calls


_SERVER = pytest.StashKey[RelightServer]()
_BEGAN = pytest.StashKey[float]()
_HAS_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the plugin."""
    group = parser.getgroup("relight", "apps of relight")
    group.addoption(
        "--relight-local",
        action="store_true",
        help="run_app runs apps in the process of the tests: no server, no sandboxes, breakpoints work",
    )
    group.addoption(
        "--relight-connect",
        action="store_true",
        help="run_app runs apps on the server found from here (RELIGHT_URL, the profile in use, or the one that is up)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse options that contradict one another."""
    if config.getoption("relight_local") and config.getoption("relight_connect"):
        raise pytest.UsageError(
            "cannot run apps both in this process and on a server: leave out --relight-local or --relight-connect"
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note when the test begins: only what workers write from then on is shown where it fails."""
    if _SERVER in item.config.stash:
        from relight.clock import SystemClock

        item.stash[_BEGAN] = SystemClock().now()


@pytest.hookimpl(hookwrapper=True)  # wrapper=True would break pytest 7
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pluggy.Result[pytest.TestReport], None]:
    """Show what the workers of a failing test wrote."""
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    item.stash[_HAS_FAILED] = True
    server = item.config.stash.get(_SERVER, None)
    text = server.logs(item.stash.get(_BEGAN, 0.0)) if server is not None else ""
    if text:
        report.sections.append(("relight logs", text))
