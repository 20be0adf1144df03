#!/usr/bin/env -S python3 -S
"""A seed with children, each of which says where it ran.

Script parameters: `children`, how many; `seconds`, how long each takes; `until`, a file for which
each waits; `wait`, whether the seed itself waits for it, too; `starts`, a file to which every
attempt adds a line.
"""

from __future__ import annotations

import os
import socket
import time

from jobtasks_sdk import current_job, current_task


def wait_for(path: str) -> None:
    """Return when the file is there."""
    while path and not os.path.exists(path):
        time.sleep(0.02)


job, task = current_job(), current_task()
wanted = job.script_parameters
with open(wanted["starts"], "a") as file:
    file.write(f"{os.environ['TASK_UUID']} {os.environ['TASK_ATTEMPT']} {socket.gethostname()}\n")
if task.sequence == 0:
    task.create_many([{} for _ in range(wanted.get("children", 0))])
    if wanted.get("wait"):
        wait_for(wanted.get("until", ""))
else:
    time.sleep(wanted.get("seconds", 0))
    wait_for(wanted.get("until", ""))
task.complete(socket.gethostname())
