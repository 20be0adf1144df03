"""Celery with Redis for queue and results, prefork."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from typing import Any

from bench.peers import redis_server
from bench.peers.base import RESULT_SECONDS, Adapter, beside_python


class Peer(Adapter):
    """One worker with a process for each slot."""

    setting = "Redis without persistence, prefork with a process for each slot, no gossip"
    share = 1 / 3

    def version(self) -> str:
        return importlib.metadata.version("celery")

    def start(self, slots: int) -> None:
        address = os.environ["BENCH_REDIS"] = redis_server.start(self)
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "WARNING"]
        worker = [beside_python("celery"), "-A", "bench.peers.celery_tasks", "worker"]
        self.spawn("celery", [*worker, "-c", str(slots), *quiet], BENCH_REDIS=address)
        self._tasks: Any = importlib.import_module("bench.peers.celery_tasks")
        self._trees = 0
        self.run_commands(slots, ["/bin/true"])

    def run_commands(self, count: int, command: list[str]) -> None:
        from celery import group

        work = group(self._tasks.run.s(command) for _ in range(count))
        work.apply_async().get(timeout=RESULT_SECONDS)

    def run_tree(self, count: int) -> None:
        self._trees += 1
        flag = f"tree{self._trees}"
        self._tasks.seed.delay(count, flag)
        found = self._tasks.flags.blpop(flag, int(RESULT_SECONDS))
        assert found is not None and int(found[1]) == count

    def run_one(self, command: list[str]) -> None:
        self._tasks.run.delay(command).get(timeout=RESULT_SECONDS, interval=0.001)
