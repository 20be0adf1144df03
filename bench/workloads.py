"""What is measured; each returns the figures of one run."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.service import Service

HERE = Path(__file__).parent
TRUE = "/bin/true"
BULK = 100_000
"""Tasks that one call creates."""


def build_floor(folder: Path) -> Path:
    """Compile the floor and return the program."""
    program = folder / "floor"
    subprocess.run(["cc", "-O2", "-o", str(program), str(HERE / "floor.c")], check=True)
    return program


def floor_seconds(program: Path, count: int, in_flight: int) -> float:
    """Return the seconds that `count` bare processes take."""
    command = [str(program), str(count), str(in_flight), TRUE]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def write_seed(folder: Path, calls: str) -> dict[str, Any]:
    """Write a seed script in Python and return the job that runs it."""
    script = folder / "seed.py"
    script.write_text(
        f"#!{sys.executable}\n"
        "import jobtasks_sdk\n"
        "task = jobtasks_sdk.current_task()\n"
        "if task.sequence == 0:\n"
        f"    {calls}\n"
        "task.complete()\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {"script": script.name, "script_version": str(folder)}


def commands(service: Service, count: int) -> dict[str, float]:
    """Run `count` tasks of ``/bin/true`` below a seed that creates them in one call."""
    with tempfile.TemporaryDirectory() as folder:
        made = f"[{{'command': ['{TRUE}']}}] * {count}"
        job = service.run(write_seed(Path(folder), f"task.create_many({made})"))
    started_at = first_start(service, job["uuid"])
    seconds = (parse(job["finished_at"]) - started_at).total_seconds()
    summary = job["tasks_summary"]
    if summary != {"todo": 0, "running": 0, "done": count + 1, "failed": 0}:
        raise RuntimeError(f"not all tasks are on record: {summary}")
    return {"seconds": seconds, "tasks_per_second": count / seconds}


def first_start(service: Service, job_uuid: str) -> datetime:
    """Return when the first child of a job started."""
    filters = f'[["job_uuid","=","{job_uuid}"],["sequence","=",1]]'
    found = service.call(
        "GET", "/job_tasks", params={"filters": filters, "order": "qsequence", "limit": 1}
    )
    return parse(found["items"][0]["started_at"])


def parse(text: str) -> datetime:
    """Return a time of the API, to the microsecond."""
    return datetime.fromisoformat(text[:26])


def one_task(service: Service) -> dict[str, float]:
    """Submit a job of one ``/bin/true`` to an idle service and wait for its end."""
    begin = time.perf_counter()
    service.run({"command": [TRUE]})
    return {"milliseconds": (time.perf_counter() - begin) * 1000}


def bulk_create(service: Service, count: int) -> dict[str, float]:
    """Create `count` tasks in one call from a seed that measures it, then fails: none is run."""
    with tempfile.TemporaryDirectory() as folder:
        calls = (
            "import time; begin = time.perf_counter(); "
            f"task.create_many([{{'parameters': {{'i': i}}}} for i in range({count})]); "
            "print(time.perf_counter() - begin); task.fail('measured'); raise SystemExit"
        )
        job = write_seed(Path(folder), calls)
        record: dict[str, Any] = service.call("POST", "/jobs", json=job)
        while record["state"] in ("Queued", "Running"):
            record = service.call("GET", f"/jobs/{record['uuid']}", params={"wait": 30})
    filters = f'[["job_uuid","=","{record["uuid"]}"]]'
    seed = service.call("GET", "/job_tasks", params={"filters": filters})["items"][0]
    log = service.http.get(f"/job_tasks/{seed['uuid']}/log", params={"stream": "stdout"})
    return {"seconds": float(log.text)}


def pages(service: Service, count: int, rounds: int) -> dict[str, list[float]]:
    """Read pages of 100 from a job of `count` tasks; milliseconds of each kind of page."""
    item = "{'runtime_constraints': {'min_ram_per_task': 10**12}}"
    with tempfile.TemporaryDirectory() as folder:
        calls = f"[task.create_many([{item}] * {BULK}) for _ in range({count // BULK})]"
        job: dict[str, Any] = service.call("POST", "/jobs", json=write_seed(Path(folder), calls))
        path = f"/jobs/{job['uuid']}"
        while service.call("GET", path)["tasks_summary"]["done"] < 1:
            time.sleep(0.2)
    mine: list[Any] = [["job_uuid", "=", job["uuid"]], ["success", "=", None]]
    kinds: dict[str, dict[str, Any]] = {
        "first": {},
        "first, counted": {"count": "exact"},
        "last, by keyset": {"filters": [*mine, ["qsequence", ">", count - 100]]},
        "by level": {"order": ["sequence", "qsequence"]},
        "in no order": {"order": []},
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
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
    service.call("POST", path + "/cancel", json={})
    return times


def round_trips(service: Service, count: int) -> dict[str, list[float]]:
    """Create, report and read through the Python client of Arvados, over https, in a task.

    Return the milliseconds of each call in each round.
    """
    command = [sys.executable, str(Path(__file__).with_name("arvados_task.py")), str(count)]
    job = service.run({"command": command})
    filters = f'[["job_uuid","=","{job["uuid"]}"]]'
    task = service.call("GET", "/job_tasks", params={"filters": filters})["items"][0]
    log = service.http.get(f"/job_tasks/{task['uuid']}/log", params={"stream": "stdout"})
    times: dict[str, list[float]] = json.loads(log.text)
    return times
