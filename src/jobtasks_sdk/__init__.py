"""For scripts: the job and the task they run in.

A task's process finds itself in its environment; nothing is configured, nothing is installed:

    from jobtasks_sdk import current_job, current_task

    job, task = current_job(), current_task()
    if task.sequence == 0:
        task.create_many({"parameters": {"n": n}} for n in range(job.script_parameters["count"]))
        task.complete()
    else:
        task.complete(output=str(task.parameters["n"] ** 2))

Standard library only, Python 3.8 or newer, quick to import: a task pays for it at every start.
Every call is repeated while the server is away, for at most `set_patience` seconds.
"""

from __future__ import annotations

from jobtasks_sdk._connection import PATIENCE_SECONDS, set_patience
from jobtasks_sdk._errors import (
    Forbidden,
    JobTasksError,
    NotFound,
    NotInATask,
    Refused,
    ServerAway,
    StaleAttempt,
)
from jobtasks_sdk._records import CurrentTask, Job, Record, Task, current_job, current_task

__all__ = [
    "PATIENCE_SECONDS",
    "CurrentTask",
    "Forbidden",
    "Job",
    "JobTasksError",
    "NotFound",
    "NotInATask",
    "Record",
    "Refused",
    "ServerAway",
    "StaleAttempt",
    "Task",
    "current_job",
    "current_task",
    "set_patience",
]
