"""Pages of a very large job, and calls through the Python client of Arvados."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from bench.goals import Outcome, at_most
from bench.scripts import script_job
from bench.service import Service, with_slots
from bench.session import Session
from bench.workloads.bulk import TOO_LARGE
from bench.workloads.claims import CALL_MAX

ROUNDS = 30
CLIENT_TASK = Path(__file__).parents[1] / "arvados_task.py"


def large_job(service: Service, count: int) -> str:
    """Return a job of so many waiting tasks."""
    call = f"task.create_many([{{'runtime_constraints': {TOO_LARGE!r}}}] * size)"
    sizes = [min(CALL_MAX, count - made) for made in range(0, count, CALL_MAX)]
    with script_job(f"[{call} for size in {sizes}]") as job:
        uuid = service.submit(job)
        while service.call("GET", f"/jobs/{uuid}")["tasks_summary"]["done"] < 1:
            time.sleep(0.2)
    return uuid


def read_pages(service: Service, job: str, count: int) -> dict[str, list[float]]:
    """Read pages of 100 tasks; milliseconds of each kind of page."""
    mine: list[Any] = [["job_uuid", "=", job], ["success", "=", None]]
    kinds: dict[str, dict[str, Any]] = {
        "first": {},
        "first, counted": {"count": "exact"},
        "last, by keyset": {"filters": [*mine, ["qsequence", ">", count - 100]]},
        "by level": {"order": ["sequence", "qsequence"]},
        "in no order": {"order": []},
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, changes in kinds.items():
            asked = {"filters": mine, "order": ["qsequence"], "count": "none", **changes}
            begin = time.perf_counter()
            query = {
                key: value if key == "count" else json.dumps(value) for key, value in asked.items()
            }
            items = service.call("GET", "/job_tasks", params=query)["items"]
            times[name].append((time.perf_counter() - begin) * 1000)
            if len(items) != 100:
                raise RuntimeError(f"{name}: {len(items)} tasks instead of 100")
    return times


def pages(session: Session) -> Outcome:
    """Pages of 100 tasks of a large job over HTTP."""
    count = session.sizes.waiting
    with with_slots(2) as service:
        job = large_job(service, count)
        times = read_pages(service, job, count)
        service.call("POST", f"/jobs/{job}/cancel", json={})
    medians = {name: statistics.median(found) for name, found in times.items()}
    rows = [
        at_most(f"100 of {count:,}, {name}", median, None, "ms") for name, median in medians.items()
    ]
    return Outcome({"median_milliseconds": medians, "milliseconds": times}, rows)


def arvados_client(session: Session) -> Outcome:
    """Create, report and read through the Python client of Arvados, over https, in a task."""
    command = [sys.executable, str(CLIENT_TASK), str(session.sizes.singles)]
    with with_slots(2, "--listen-tls", "127.0.0.1:0") as service:
        job = service.run({"command": command})
        task = service.tasks(job["uuid"])["items"][0]
        log = service.http.get(f"/job_tasks/{task['uuid']}/log", params={"stream": "stdout"})
    times: dict[str, list[float]] = json.loads(log.text)
    medians = {name: statistics.median(found) for name, found in times.items()}
    what = "create a task, report progress, read the task"
    return Outcome(
        {"median_milliseconds": medians, "milliseconds": times},
        [at_most(what, medians["together"], None, "ms")],
    )
