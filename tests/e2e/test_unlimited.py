"""Where no control group keeps workers to their memory, their agent does."""

from __future__ import annotations

import tempfile
from pathlib import Path
from textwrap import dedent

import pytest

from surroundings import give_back, surroundings

pytestmark = pytest.mark.slow

APP = dedent(
    """
    import threading
    import relight

    app = relight.App()

    @app.function(memory=128)
    def hog():
        kept = bytearray(b"x" * (300 << 20))
        print("took it", flush=True)
        threading.Event().wait()

    @app.function(memory=128)
    def modest():
        return len(bytearray(b"x" * (64 << 20)))

    @app.local_entrypoint()
    def main():
        neighbour = modest.remote()
        try:
            hog.remote()
        except relight.WorkerLost as error:
            print(error.exit.reason, error.exit.signal)
        print(neighbour == modest.remote())
    """
)


@pytest.mark.root
@pytest.mark.parametrize("kind", ["undelegated", "no_namespaces"])
def test_a_worker_beyond_its_memory_is_ended_all_the_same_and_its_neighbour_is_not(kind: str) -> None:
    here = surroundings(kind, Path(tempfile.mkdtemp(prefix="rl-")))
    try:
        (here.folder / "home" / "app.py").write_text(APP)

        done = here.relight("run", "app.py")

        assert done.returncode == 0, done.stderr
        assert [line for line in done.stdout.splitlines() if line != "took it"] == ["out_of_memory 9", "True"]
    finally:
        give_back(here)
