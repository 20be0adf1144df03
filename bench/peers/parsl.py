"""Parsl: the high-throughput executor with one block on this machine."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import signal
from pathlib import Path
from typing import Any

import parsl
from parsl import join_app, python_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

from bench.peers.base import Adapter


@python_app
def run(command: list[str]) -> None:
    """Run a command; apps bring their imports along."""
    import subprocess

    subprocess.run(command, check=True)


@join_app
def seed(count: int) -> list[Any]:
    """Create the children; it is over when they are."""
    return [run(["/bin/true"]) for _ in range(count)]


@python_app
def last(children: list[Any]) -> int:
    """Run after the seed."""
    return len(children)


class Peer(Adapter):
    """A task that creates tasks runs in the submitting process."""

    setting = "HighThroughputExecutor, one block with a worker for each slot, `subprocess.run`"

    def version(self) -> str:
        return importlib.metadata.version("parsl")

    def start(self, slots: int) -> None:
        os.chdir(self.folder)
        executor = HighThroughputExecutor(
            label="htex",
            address="127.0.0.1",
            max_workers_per_node=slots,
            # Fewer cores than slots must not lower the number of workers.
            cores_per_worker=1e-6,
            provider=LocalProvider(init_blocks=1, max_blocks=1, min_blocks=1),
        )
        parsl.load(
            Config(
                executors=[executor],
                run_dir=str(self.folder),
                initialize_logging=False,
                usage_tracking=0,
            )
        )
        self.run_commands(4 * slots, ["/bin/true"])

    def run_commands(self, count: int, command: list[str]) -> None:
        for future in [run(command) for _ in range(count)]:
            future.result()

    def run_tree(self, count: int) -> None:
        assert last(seed(count)).result() == count

    def stop(self) -> None:
        """End the interchange and the workers, which are this process' children."""
        with contextlib.suppress(Exception):
            parsl.dfk().cleanup()
        listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        for child in listed:
            with contextlib.suppress(OSError):
                os.kill(int(child), signal.SIGKILL)
