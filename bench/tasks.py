"""The Celery app of the measurement: Redis brings tasks and results, and a task is acknowledged when it is done."""

from __future__ import annotations

import os

from celery import Celery

_SOCKET = os.environ["BENCH_REDIS_SOCKET"]

app = Celery("tasks", broker=f"redis+socket://{_SOCKET}", backend=f"redis+socket://{_SOCKET}?virtual_host=1")
app.conf.update(task_acks_late=True, broker_connection_retry_on_startup=True)


@app.task
def noop(x: int) -> int:
    """Give back what came."""
    return x
