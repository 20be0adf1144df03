"""What Huey's workers run; the address of Redis is in the environment."""

from __future__ import annotations

import os
import subprocess

from huey import RedisHuey

queue = RedisHuey("bench", url=os.environ["BENCH_REDIS"] + "/0", results=True)


@queue.task()
def run(command: list[str]) -> int:
    """Run a command; a result other than None is kept."""
    return subprocess.run(command, check=True).returncode + 1
