"""The same of the web where its bytes go another way: over streams of the link, and in workers of the oldest Python."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.app_web import app

# each is run here against the servers below
from e2e.test_web import (  # noqa: F401
    ask,
    test_a_body_in_json_gives_arguments_and_a_token_is_asked_for,
    test_a_body_is_streamed_in_and_out,
    test_a_caller_that_hangs_up_is_told_to_the_app_and_its_task_is_cancelled,
    test_a_generator_answers_by_events_and_only_to_pages_it_knows,
    test_a_method_of_a_class_keeps_its_object,
    test_a_program_that_listens_is_passed_requests,
    test_a_request_that_takes_too_long_is_a_504,
    test_an_app_sees_where_it_is_mounted_and_paths_carry_no_cookies,
    test_an_app_that_cannot_be_made_says_why,
    test_an_argument_that_does_not_fit_is_refused_with_its_name,
    test_an_endpoint_takes_its_arguments_from_the_query,
    test_events_come_one_by_one,
    test_requests_are_recorded_once_they_are_over,
    test_websockets_echo,
    test_what_an_app_raises_is_a_500_and_ends_nothing_else,
    test_what_nobody_waits_for_any_more_is_stopped_within_half_a_second,
    test_wsgi_apps_answer_in_threads,
)
from servers import Server, serving
from test_pythons import ROOT, pythons

pytestmark = pytest.mark.slow

DEPLOY = "import sys; sys.path[:0] = sys.argv[1:]; from e2e.app_web import app; app.deploy()"


@pytest.fixture(scope="module", params=["over streams", "on the oldest Python"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("elsewhere") / "data", app) as started:
        if request.param == "over streams":
            (started.folder / "run" / "web.sock").unlink()  # as for an agent on another machine: nothing to dial here
        else:
            _deploy_from(_oldest(), started)
            assert ask(started, "/w/web/python").json.startswith("3.10.")
        yield started


def _oldest() -> str:
    found = pythons()
    if (3, 10) not in found:
        pytest.skip("this machine has no Python 3.10")
    return found[3, 10]


def _deploy_from(python: str, server: Server) -> None:
    """Deploy the app anew, by another Python: workers run on the one that deployed them."""
    environment = {**os.environ, "RELIGHT_DATA_DIR": str(server.folder)}
    words = [python, "-I", "-S", "-c", DEPLOY, str(ROOT / "src"), str(Path(__file__).parents[1])]
    subprocess.run(words, check=True, timeout=60, env=environment)
