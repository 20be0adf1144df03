"""Huey with Redis for queue and results."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from typing import Any

from bench.peers import redis_server
from bench.peers.base import RESULT_SECONDS, Adapter


class Peer(Adapter):
    """It has no means to run a task after all others: no tree."""

    setting = "Redis without persistence, a process for each slot, results kept"
    has_tree = False

    def version(self) -> str:
        return importlib.metadata.version("huey")

    def start(self, slots: int) -> None:
        address = os.environ["BENCH_REDIS"] = redis_server.start(self)
        consumer = [sys.executable, "-m", "huey.bin.huey_consumer", "bench.peers.huey_tasks.queue"]
        sizes = ["-w", str(slots), "-k", "process", "-n", "-d", "0.001"]
        self.spawn("huey", [*consumer, *sizes], BENCH_REDIS=address)
        self._tasks: Any = importlib.import_module("bench.peers.huey_tasks")
        self.run_commands(slots, ["/bin/true"])

    def run_commands(self, count: int, command: list[str]) -> None:
        for result in [self._tasks.run(command) for _ in range(count)]:
            result.get(blocking=True, timeout=RESULT_SECONDS, backoff=1, max_delay=0.001)
