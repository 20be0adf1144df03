"""What Celery's workers run; the address of Redis is in the environment."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import redis
from celery import Celery, chord

ADDRESS = os.environ["BENCH_REDIS"]
app = Celery("bench", broker=f"{ADDRESS}/0", backend=f"{ADDRESS}/1")
app.conf.update(
    broker_connection_retry_on_startup=True,
    result_expires=600,
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
)
flags = redis.Redis.from_url(f"{ADDRESS}/2")


@app.task
def run(command: list[str]) -> None:
    """Run a command."""
    subprocess.run(command, check=True)


@app.task(ignore_result=True)
def last(results: list[Any], flag: str) -> None:
    """Run after all children."""
    flags.rpush(flag, len(results))


@app.task(ignore_result=True)
def seed(count: int, flag: str) -> None:
    """Create the children, and one task after them."""
    chord([run.s(["/bin/true"]) for _ in range(count)])(last.s(flag))
