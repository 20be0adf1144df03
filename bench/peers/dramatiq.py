"""Dramatiq with Redis for queue and results."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from typing import Any

from bench.peers import redis_server
from bench.peers.base import RESULT_SECONDS, Adapter, beside_python

MILLISECONDS = 1000


class Peer(Adapter):
    """A process of one thread for each slot."""

    setting = "Redis without persistence, a process of one thread for each slot, results kept"
    share = 1 / 3

    def version(self) -> str:
        return importlib.metadata.version("dramatiq")

    def start(self, slots: int) -> None:
        address = os.environ["BENCH_REDIS"] = redis_server.start(self)
        worker = [beside_python("dramatiq"), "bench.peers.dramatiq_tasks"]
        sizes = ["--processes", str(slots), "--threads", "1"]
        self.spawn("dramatiq", [*worker, *sizes], BENCH_REDIS=address)
        self._tasks: Any = importlib.import_module("bench.peers.dramatiq_tasks")
        self._trees = 0
        self.run_commands(slots, ["/bin/true"])

    def run_commands(self, count: int, command: list[str]) -> None:
        for message in [self._tasks.run.send(command) for _ in range(count)]:
            message.get_result(block=True, timeout=RESULT_SECONDS * MILLISECONDS)

    def run_tree(self, count: int) -> None:
        self._trees += 1
        flag = f"tree{self._trees}"
        self._tasks.seed.send(count, flag)
        assert self._tasks.flags.blpop(flag, int(RESULT_SECONDS)) is not None
