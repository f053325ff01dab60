"""Workers that die, and calls that do not end as they should."""

from __future__ import annotations

from wrong_use.harness import Case, app

CASES = {
    "worker-killed": Case(
        script=app("""
            import os
            import signal

            @app.function()
            def die():
                os.kill(os.getpid(), signal.SIGKILL)

            with app.run():
                die.remote()
        """)
    ),
    "worker-crashes": Case(
        script=app("""
            import ctypes

            @app.function()
            def crash():
                ctypes.string_at(0)

            with app.run():
                crash.remote()
        """)
    ),
    "worker-exits": Case(
        script=app("""
            import os

            @app.function()
            def leave():
                os._exit(3)

            with app.run():
                leave.remote()
        """)
    ),
    "timeout": Case(
        script=app("""
            import time

            @app.function(timeout=0.3)
            def slow():
                time.sleep(60)

            with app.run():
                slow.remote()
        """)
    ),
    "start-that-takes-too-long": Case(
        script=app("""
            import time

            @app.cls(startup_timeout=1)
            class Reader:
                @relight.enter()
                def load(self):
                    time.sleep(60)

                @relight.method()
                def read(self):
                    return 1

            with app.run():
                Reader().read.remote()
        """)
    ),
    "cancelled": Case(
        script=app("""
            import time

            @app.function()
            def slow():
                time.sleep(60)

            with app.run():
                call = slow.spawn()
                call.cancel()
                call.get()
        """)
    ),
    "get-that-waits-no-longer": Case(
        script=app("""
            import time

            @app.function()
            def slow():
                time.sleep(60)

            with app.run():
                slow.spawn().get(timeout=2)
        """)
    ),
    "gpu-that-is-not-there": Case(
        script=app("""
            @app.function(gpu="H100", queue_timeout=2)
            def train():
                return 1

            with app.run():
                train.remote()
        """)
    ),
    "memory-that-no-node-has": Case(
        script=app("""
            @app.function(memory=10_000_000, queue_timeout=2)
            def vast():
                return 1

            with app.run():
                vast.remote()
        """)
    ),
    "deadlock": Case(
        script=app("""
            @app.function(max_workers=1)
            def again(n: int) -> int:
                return again.remote(n - 1) if n else 0

            with app.run():
                again.remote(3)
        """)
    ),
}
NEEDS_CGROUPS = {
    "out-of-memory": Case(
        script=app("""
            @app.function(memory=128)
            def hoard():
                return len([bytearray(1_000_000) for _ in range(1000)])

            with app.run():
                hoard.remote()
        """)
    )
}
