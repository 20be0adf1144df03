"""Ray: one local node, no dashboard."""

from __future__ import annotations

import os
import subprocess

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray

from bench.peers.base import Adapter

TRUE = ["/bin/true"]


@ray.remote(num_cpus=1, max_retries=0)
def run(command: list[str]) -> None:
    subprocess.run(command, check=True)


@ray.remote(num_cpus=1, max_retries=0)
def seed(count: int) -> int:
    return len(ray.get([run.remote(TRUE) for _ in range(count)]))


@ray.remote(num_cpus=1, max_retries=0)
def last(count: int) -> int:
    return count


class Peer(Adapter):
    """A task that waits for others gives its CPU free meanwhile."""

    setting = "one CPU a slot, `subprocess.run` in the task"

    def version(self) -> str:
        return str(ray.__version__)

    def start(self, slots: int) -> None:
        ray.init(
            num_cpus=slots,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            logging_level="ERROR",
            log_to_driver=False,
            object_store_memory=200_000_000,
            configure_logging=False,
            _temp_dir=str(self.folder),
        )
        self.run_commands(4 * slots, TRUE)

    def run_commands(self, count: int, command: list[str]) -> None:
        ray.get([run.remote(command) for _ in range(count)])

    def run_tree(self, count: int) -> None:
        assert ray.get(last.remote(seed.remote(count))) == count

    def run_one(self, command: list[str]) -> None:
        ray.get(run.remote(command))

    def stop(self) -> None:
        ray.shutdown()
