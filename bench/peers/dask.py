"""Dask: a scheduler, and a worker process of one thread for each slot."""

from __future__ import annotations

import subprocess
from typing import Any

import distributed
from distributed import Client, worker_client

from bench.peers.base import Adapter, beside_python, free_port, wait_for_port


def run(number: int, command: list[str]) -> None:
    """Run a command; tasks differ by their number."""
    subprocess.run(command, check=True)


def seed(count: int) -> int:
    """Run in a task: create the children and wait for them, the worker being free meanwhile."""
    with worker_client() as client:
        client.gather(client.map(run, range(count), pure=False, command=["/bin/true"]))
    return count


def last(count: int) -> int:
    """Run after the seed."""
    return count


class Peer(Adapter):
    """Scheduler and workers are processes of their own."""

    setting = "a process of one thread for each slot, `subprocess.run` in the task"

    def version(self) -> str:
        return str(distributed.__version__)

    def start(self, slots: int) -> None:
        port = free_port()
        where = ["--host", "127.0.0.1", "--no-dashboard"]
        dask = beside_python("dask")
        self.spawn("scheduler", [dask, "scheduler", *where, "--port", str(port)])
        wait_for_port(port)
        address = f"tcp://127.0.0.1:{port}"
        workers = ["--nworkers", str(slots), "--nthreads", "1", "--memory-limit", "0"]
        folder = ["--local-directory", str(self.folder)]
        self.spawn("workers", [dask, "worker", address, *where, *workers, *folder])
        self._client: Any = Client(address)
        self._client.wait_for_workers(slots)

    def run_commands(self, count: int, command: list[str]) -> None:
        self._client.gather(self._client.map(run, range(count), pure=False, command=command))

    def run_tree(self, count: int) -> None:
        made = self._client.submit(seed, count, pure=False)
        assert self._client.submit(last, made, pure=False).result() == count

    def run_one(self, command: list[str]) -> None:
        self._client.submit(run, 0, command, pure=False).result()
