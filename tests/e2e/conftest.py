"""One server for the end-to-end tests, with the app deployed to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.app_first_light import app
from servers import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("e2e") / "data", app) as started:
        yield started
