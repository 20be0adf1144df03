"""A real server and agent of the bench's own, in a state directory that is removed afterwards."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 30.0
JOB_SECONDS = 600.0


class Service:
    """The API as a client sees it."""

    def __init__(self, url: str, token: str) -> None:
        self.http = httpx.Client(
            base_url=f"{url}/arvados/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=JOB_SECONDS,
        )

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Return the JSON of one call, which must succeed."""
        answer = self.http.request(method, path, **options)
        answer.raise_for_status()
        return answer.json()

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Create a job, wait until it is complete, return its record."""
        record: dict[str, Any] = self.call("POST", "/jobs", json=job)
        until = time.monotonic() + JOB_SECONDS
        while record["state"] in ("Queued", "Running"):
            if time.monotonic() > until:
                raise TimeoutError(f"job {record['uuid']} is {record['state']}")
            record = self.call("GET", f"/jobs/{record['uuid']}", params={"wait": 30})
        if record["state"] != "Complete":
            raise RuntimeError(f"job {record['uuid']} is {record['state']}: {record['log']}")
        return record


@contextlib.contextmanager
def running(slots: int, *options: str) -> Iterator[Service]:
    """Start a server with one node of so many slots; end it in good order afterwards."""
    with tempfile.TemporaryDirectory(prefix="jobtasks-bench-") as folder:
        state = Path(folder) / "state"
        log = Path(folder) / "server.log"
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        command = [
            *(sys.executable, "-m", "jobtasks.cli.main", "serve", "--state", str(state)),
            *("--listen", "127.0.0.1:0", "--slots", str(slots), *options),
        ]
        with log.open("w") as errors:
            server = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            )
        try:
            assert server.stdout is not None
            words = server.stdout.readline().split()
            if words[:1] != ["ready"]:
                raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")
            yield Service(words[1], (state / "admin.token").read_text().strip())
        finally:
            server.terminate()
            server.wait(START_SECONDS)
