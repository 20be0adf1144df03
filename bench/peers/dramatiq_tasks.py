"""What Dramatiq's workers run; the address of Redis is in the environment."""

from __future__ import annotations

import os
import subprocess

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend as Barriers
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

ADDRESS = os.environ["BENCH_REDIS"]
broker = RedisBroker(url=f"{ADDRESS}/0")
broker.add_middleware(Results(backend=RedisBackend(url=f"{ADDRESS}/1")))
broker.add_middleware(GroupCallbacks(Barriers(url=f"{ADDRESS}/2")))
for middleware in list(broker.middleware):
    if type(middleware).__name__ == "Prometheus":
        broker.middleware.remove(middleware)
dramatiq.set_broker(broker)
flags = redis.Redis.from_url(f"{ADDRESS}/3")


@dramatiq.actor(store_results=True, max_retries=0)
def run(command: list[str]) -> int:
    """Run a command."""
    return subprocess.run(command, check=True).returncode


@dramatiq.actor(max_retries=0)
def last(flag: str) -> None:
    """Run after all children."""
    flags.rpush(flag, 1)


@dramatiq.actor(max_retries=0)
def seed(count: int, flag: str) -> None:
    """Create the children, and one task after them."""
    children = dramatiq.group([run.message(["/bin/true"]) for _ in range(count)])
    children.add_completion_callback(last.message(flag))
    children.run()
