"""One server for the end-to-end tests, with the app deployed to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.app_first_light import app
from servers import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("e2e") / "data"
    started = Server(folder)
    started.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELIGHT_DATA_DIR", str(folder))
        app.deploy()
        yield started
        assert app._session is not None
        app._session.connection.close()
    started.stop()
