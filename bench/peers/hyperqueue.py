"""HyperQueue: server and worker in a process of their own, by the cluster class of its package."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import time
from pathlib import Path
from typing import Any

from hyperqueue import Client, Job
from hyperqueue.task.function import PythonEnv

from bench.peers.base import Adapter, wait_for, wait_for_file

SERVER = """
import pathlib, sys, time
from hyperqueue.cluster import LocalCluster, WorkerConfig
cluster = LocalCluster(sys.argv[1], WorkerConfig(cores=int(sys.argv[2])))
pathlib.Path(sys.argv[1], "ready").touch()
while True:
    time.sleep(3600)
"""


def job_of(count: int, command: list[str]) -> Job:
    """Return a job of so many tasks whose output is not kept."""
    job = Job(max_fails=None)
    for _ in range(count):
        job.program(command, stdout=None, stderr=None)
    return job


def seed(server: str, count: int, marker: str) -> None:
    """Run in a task: submit the children and one task after them, as a job more."""
    job = Job(max_fails=None)
    children = [job.program(["/bin/true"], stdout=None, stderr=None) for _ in range(count)]
    job.program(["/bin/touch", marker], stdout=None, stderr=None, deps=children)
    Client(server).submit(job)


class Peer(Adapter):
    """Its client learns of a job's end once a second, so single ends are seen by a file."""

    setting = "one worker with as many cores as slots, output of tasks off; one job of many tasks"

    def version(self) -> str:
        return importlib.metadata.version("hyperqueue")

    def start(self, slots: int) -> None:
        self._server = self.folder / "server"
        self._server.mkdir()
        os.chdir(self.folder)
        self.spawn("hyperqueue", [sys.executable, "-c", SERVER, str(self._server), str(slots)])
        wait_for("the server", (self._server / "ready").exists)
        environment = PythonEnv(python_bin=sys.executable)
        self._client: Any = Client(str(self._server), python_env=environment)

    def run_commands(self, count: int, command: list[str]) -> None:
        self._client.wait_for_jobs([self._client.submit(job_of(count, command))])

    def run_tree(self, count: int) -> None:
        marker = self._marker()
        job = Job()
        arguments = (str(self._server), count, str(marker))
        job.function(seed, args=arguments, stdout=None, stderr=None)
        self._client.submit(job)
        wait_for_file(marker)

    def run_one(self, command: list[str]) -> None:
        marker = self._marker()
        self._client.submit(job_of(1, ["/bin/touch", str(marker)]))
        wait_for_file(marker)

    def _marker(self) -> Path:
        return self.folder / f"marker-{time.perf_counter_ns()}"
