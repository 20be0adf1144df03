"""Servers whose nodes an engine gives."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.system.conftest import Api, Served, no_secret_is_told, wait_until
from tests.system.witness import Record

from .cluster import Cluster, missing_programs

SCRIPTS = Path(__file__).with_name("scripts")
QUICK = {
    "lease_seconds": 6.0,
    "renew_seconds": 0.5,
    "grace_seconds": 0.5,
    "tick_seconds": 0.2,
    "clock_gap_seconds": 2.0,
    "delay_seconds": 0.02,
    "delay_seconds_max": 0.1,
    "engine_poll_seconds": 0.5,
    "engine_idle_seconds": 2.0,
    "engine_retry_seconds": 0.5,
    "engine_settle_seconds": 3.0,
    "engine_asks_per_minute": 1000.0,
}
NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Slurm with four nodes of eight cores and 4,000 MB."""
    if os.getuid():
        pytest.skip("Slurm's daemons with nodes of their own need root")
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)} (tests/debian-packages.txt)")
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


class Farm:
    """A server with its engine, and jobs on it."""

    def __init__(self, served: Served, api: Api, folder: Path) -> None:
        self.served = served
        self.api = api
        self.folder = folder
        self.scripts = SCRIPTS

    def start(self, constraints: Record | None = None, **parameters: Any) -> Job:
        """Start a job of scripts/spread.py."""
        return Job(self, constraints or {}, parameters)

    def nodes(self) -> list[Record]:
        """Return the nodes that there are, and those lost lately."""
        found: list[Record] = self.api.get("/nodes", limit=1000)["items"]
        return found

    def cancel_all(self) -> None:
        """Cancel what a test that failed has left."""
        running = json.dumps([["state", "in", ["Queued", "Running"]]])
        for job in self.api.get("/jobs", filters=running)["items"]:
            self.api.stop(job["uuid"])


class Job:
    """A job of scripts/spread.py."""

    def __init__(self, farm: Farm, constraints: Record, parameters: Record) -> None:
        number = next(NUMBERS)
        self.farm = farm
        self.flag = farm.folder / f"flag-{number}"
        self.starts = farm.folder / f"starts-{number}"
        given = {"until": str(self.flag), "starts": str(self.starts), **parameters}
        body = {
            "script": "spread.py",
            "script_version": str(farm.scripts),
            "script_parameters": given,
            "runtime_constraints": constraints,
        }
        self.uuid: str = farm.api.post("/jobs", body)["uuid"]

    def release(self) -> None:
        """Let its tasks end."""
        self.flag.touch()

    def state(self) -> str:
        state: str = self.farm.api.get(f"/jobs/{self.uuid}")["state"]
        return state

    def running_on(self) -> list[str]:
        """Return the hosts on which it runs tasks now, one for each."""
        tasks = self.farm.api.tasks(self.uuid, state="running")
        found = [self.farm.api.attempts(task["uuid"])[-1]["node"] for task in tasks]
        return sorted(found)

    def until_runs(self, tasks: int, seconds: float = 60.0) -> list[str]:
        """Wait until so many of its tasks run; return where."""
        wait_until(f"{tasks} run", lambda: len(self.running_on()) == tasks, seconds)
        return self.running_on()

    def lines(self) -> list[str]:
        """Return what the attempts that were started have noted."""
        return self.starts.read_text().splitlines() if self.starts.exists() else []

    def complete(self, seconds: float = 90.0) -> Record:
        """Let it end; return it."""
        self.release()
        found = self.farm.api.final(self.uuid, seconds)
        assert found["state"] == "Complete", self.told()
        return found

    def told(self) -> object:
        """What there is to say when something went wrong."""
        api = self.farm.api
        return (
            api.get(f"/jobs/{self.uuid}"),
            api.get(f"/jobs/{self.uuid}/explain"),
            [api.attempts(task["uuid"]) for task in api.tasks(self.uuid)],
            self.farm.served.errors()[-3000:],
        )


MakeFarm = Callable[..., contextlib.AbstractContextManager[Farm]]


@contextlib.contextmanager
def farm_on(
    folder: Path,
    *options: str,
    settings: Mapping[str, float] = QUICK,
    environ: Mapping[str, str] | None = None,
    **more: Any,
) -> Iterator[Farm]:
    """A server with these options; what it ran is over at the end."""
    folder.mkdir(exist_ok=True)
    served = Served(
        folder / "state",
        *options,
        stderr=folder / "stderr",
        settings=settings,
        environ=environ,
        **more,
    )
    try:
        with served.api() as api:
            yield Farm(served, api, folder)
    finally:
        code, _, err = served.end()
        no_secret_is_told(served.state, served.stderr)
        assert code == 0, err
        assert "Traceback" not in err, err


def as_slurm_sees(cluster: Cluster) -> dict[str, str]:
    """Return what a server of this cluster has in its environment."""
    folder = cluster.folder
    return {"SLURM_CONF": str(folder / "slurm.conf"), "TMPDIR": str(folder / "tmp")}


def output_of(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
