"""A real server of the bench's own, in a state directory that is removed afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from bench import procfs

START_SECONDS = 60.0
JOB_SECONDS = 3600.0
FINAL = ("Complete", "Failed", "Cancelled")


class Service:
    """One server process with default settings, and its API as a client sees it."""

    def __init__(self, folder: Path, options: tuple[str, ...]) -> None:
        self.state = folder / "state"
        self._log = folder / "server.log"
        self._options = options
        self._start("127.0.0.1:0")

    def _start(self, listen: str) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        command = [
            *(sys.executable, "-m", "jobtasks.cli.main", "serve", "--state", str(self.state)),
            *("--listen", listen, *self._options),
        ]
        with self._log.open("a") as errors:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PATH": path},
            )
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        if words[:1] != ["ready"]:
            raise RuntimeError(f"the server did not start: {self._log.read_text()[-2000:]}")
        self.url = words[1]
        self.http = httpx.Client(
            base_url=f"{self.url}/arvados/v1",
            headers={"Authorization": f"Bearer {self.token('admin')}"},
            timeout=JOB_SECONDS,
        )

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    def token(self, whose: str) -> str:
        """Return the token of ``admin`` or ``agent``."""
        return (self.state / f"{whose}.token").read_text().strip()

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Return the JSON of one call, which must succeed."""
        answer = self.http.request(method, path, **options)
        answer.raise_for_status()
        return answer.json()

    def submit(self, job: dict[str, Any]) -> str:
        """Create a job; return its UUID."""
        record: dict[str, Any] = self.call("POST", "/jobs", json=job)
        return str(record["uuid"])

    def finish(self, uuid: str) -> dict[str, Any]:
        """Wait until a job is final; return its record."""
        until = time.monotonic() + JOB_SECONDS
        record: dict[str, Any] = {"state": "Queued"}
        while record["state"] not in FINAL:
            if time.monotonic() > until:
                raise TimeoutError(f"job {uuid} is {record['state']}")
            record = self.call("GET", f"/jobs/{uuid}", params={"wait": 30})
        return record

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Create a job, wait until it is complete, return its record."""
        record = self.finish(self.submit(job))
        if record["state"] != "Complete":
            raise RuntimeError(f"job {record['uuid']} is {record['state']}: {record['log']}")
        return record

    def tasks(self, job: str, *filters: list[Any], **options: Any) -> dict[str, Any]:
        """Return a page of a job's tasks."""
        asked = json.dumps([["job_uuid", "=", job], *filters])
        found: dict[str, Any] = self.call("GET", "/job_tasks", params={"filters": asked, **options})
        return found

    def count(self, job: str, *filters: list[Any]) -> int:
        """Return how many of a job's tasks are on record."""
        return int(self.tasks(job, *filters, limit=0, count="exact")["items_available"])

    def cpu_seconds(self) -> float:
        """Return the server's CPU time so far."""
        return procfs.cpu_seconds(self.pid)

    def memory_mb(self, name: str = "VmRSS") -> float:
        """Return the server's memory; see `procfs.memory_mb`."""
        return procfs.memory_mb(self.pid, name)

    def kill(self) -> None:
        """``kill -9`` of the server, and another one on the same state directory."""
        self._process.send_signal(signal.SIGKILL)
        self._end()
        self._start(self.url.rpartition("/")[2])

    def stop(self) -> None:
        """End the server in good order."""
        self._process.terminate()
        self._end()

    def _end(self) -> None:
        self._process.wait(START_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self.http.close()


@contextlib.contextmanager
def running(*options: str) -> Iterator[Service]:
    """Start a server with these options; end it in good order afterwards."""
    with tempfile.TemporaryDirectory(
        prefix="jobtasks-bench-", ignore_cleanup_errors=True
    ) as folder:
        service = Service(Path(folder), options)
        try:
            yield service
        finally:
            service.stop()


def with_slots(slots: int, *options: str) -> contextlib.AbstractContextManager[Service]:
    """A server with this machine as its one node of so many slots."""
    return running("--slots", str(slots), *options)


def parse_time(text: str) -> datetime:
    """Return a time of the API, to the microsecond."""
    return datetime.fromisoformat(text[:26])


def seconds_between(begin: str, end: str) -> float:
    """Return the seconds from one time of the API to another."""
    return (parse_time(end) - parse_time(begin)).total_seconds()


def check_complete(service: Service, job: dict[str, Any], tasks: int) -> None:
    """Raise unless all tasks are on record, readable, and done."""
    summary = job["tasks_summary"]
    if summary != {"todo": 0, "running": 0, "done": tasks, "failed": 0}:
        raise RuntimeError(f"not all of {tasks} tasks are done: {summary}")
    done = service.count(job["uuid"], ["success", "=", True])
    if done != tasks:
        raise RuntimeError(f"{done} of {tasks} tasks are on record as done")
