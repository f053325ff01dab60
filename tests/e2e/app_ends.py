"""What the tests of ends call: functions that end their workers, each in a way of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import relight

app = relight.App("ends")
STEP = 8 << 20


def eat() -> None:
    """Use memory until there is none, saying when it was about to take more."""
    kept = []
    while True:
        print(f"{time.time():.6f}", flush=True)
        kept.append(bytearray(STEP))


@app.function(memory=256)
def hog() -> None:
    """Run out of memory."""
    eat()


@app.function(memory=96)
def hog_by_child() -> None:
    """Have a child run out of memory, and wait for something else."""
    multiprocessing.get_context("fork").Process(target=eat).start()
    threading.Event().wait()


@app.function(memory=64, retries=relight.Retries(count=4, delay_seconds=0.2, backoff=1.0))
def hog_with_retries() -> None:
    """Run out of memory, and be tried again as its retries say."""
    eat()


@app.function(memory=64, retries=relight.Retries(count=19, delay_seconds=0.0))
def hog_often() -> None:
    """Run out of memory twenty times."""
    eat()


@app.function()
def end(how: str = "well") -> None:
    """End the process, or, as nothing else lifts the brake, do not."""
    if how == "well":
        return
    print("about to end", flush=True)
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, how))


@app.function(timeout=0.2, grace=0.2)
def overrun() -> None:
    """Take no notice of being told to stop."""
    while True:
        try:
            while True:
                pass
        except BaseException:  # noqa: BLE001 - that is what this function is for
            print("no", flush=True)


@app.cls()
class Full:
    """Cannot be started: the disk it writes to is full."""

    @relight.enter()
    def write(self) -> None:
        """Write where there is no room."""
        with open("/dev/full", "w") as file:
            file.write("x")

    @relight.method()
    def ask(self) -> int:
        """Never called."""
        return 1


@app.cls(startup_timeout=0.3)
class Slow:
    """Cannot be started in time."""

    @relight.enter()
    def wait(self) -> None:
        """Take longer than that."""
        threading.Event().wait()

    @relight.method()
    def ask(self) -> int:
        """Never called."""
        return 1


@app.function()
def whoami() -> str:
    """The worker that answers: a neighbour that is to stay."""
    return os.environ["RELIGHT_WORKER"]


@app.function()
def wait_forever() -> None:
    """Be with a node when it is lost."""
    print("here", flush=True)
    threading.Event().wait()
