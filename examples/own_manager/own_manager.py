#!/usr/bin/env python3
"""A job manager of your own: it runs a job's tasks itself, the server keeps the records.

``own_manager.py`` creates a job, ``own_manager.py UUID`` locks a queued one. The first task splits
the work, each task that it creates squares a number; one of them fails once and is tried again.
"""

import json
import os
import sys
from typing import Any
from urllib.request import Request, urlopen

BASE = os.environ["JOBTASKS_URL"] + "/arvados/v1/"
HEADERS = {
    "Authorization": "Bearer " + os.environ["JOBTASKS_TOKEN"],
    "Content-Type": "application/json",
}


def call(method: str, path: str, body: Any = None) -> Any:
    """Send one request; raise HTTPError when it is refused."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(BASE + path, data, HEADERS, method=method)) as answer:
        return json.load(answer)


def work(task: dict[str, Any]) -> None:
    """Do what a task asks for, and write what came of it."""
    patch = f"job_tasks/{task['uuid']}"
    task = call("PATCH", patch, {"state": "running"})
    number = task["parameters"].get("number")
    if number is None:
        for side in (3, 4):
            child = {"created_by_job_task_uuid": task["uuid"], "parameters": {"number": side}}
            call("POST", "job_tasks", {"job_uuid": task["job_uuid"], **child})
    elif number == 4 and not task["failed_count"]:
        call("PATCH", patch, {"state": "waiting", "failed_count": 1, "failed_log": "not today\n"})
        return
    output = None if number is None else str(number**2)
    call("PATCH", patch, {"state": "complete", "output": output})


def next_task(job: str) -> Any:
    """Return the task to run now, None when all have run: lower sequences go first."""
    filters = json.dumps([["job_uuid", "=", job], ["state", "=", "waiting"]]).replace(" ", "")
    found = call("GET", f"job_tasks?filters={filters}&order=sequence,qsequence&limit=1")["items"]
    return found[0] if found else None


def main(arguments: list[str]) -> None:
    """Run one job from its first task to its end; print its UUID."""
    if arguments:
        job = call("POST", f"jobs/{arguments[0]}/lock", {})["uuid"]
    else:
        job = call("POST", "jobs", {"state": "Running", "script": "squares"})["uuid"]
    call("POST", "job_tasks", {"job_uuid": job, "sequence": 0, "qsequence": 0})
    while task := next_task(job):
        work(task)
    call("PATCH", f"jobs/{job}", {"state": "Complete", "output": "9 and 16"})
    print(job)


if __name__ == "__main__":
    main(sys.argv[1:])
