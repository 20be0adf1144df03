"""A seed for jobs whose tasks are a list: ``python3 -m jobtasks_sdk.attached_tasks [WORDS]``.

The job's attachment is the list: a line of JSON per task, with the arguments of
`CurrentTask.create`. The words mean nothing here: they say to people what the job is. It comes
right after the job was created, so it is waited for, but not for ever: whoever was to send it may
have died.
"""

from __future__ import annotations

import json
import time

from jobtasks_sdk import CurrentTask, Job, NotFound, current_job, current_task

TYPE_CHECKING = False  # as in typing, which takes longer to import than this package
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

WAIT_SECONDS = 120.0
"""How long the attachment is waited for."""

LOOK_SECONDS = 0.1
"""Between two looks."""


def main(job: Job, task: CurrentTask) -> None:
    """Create the tasks that the attachment lists; fail for good when it does not come."""
    attachment = arrived(job)
    if attachment is None:
        task.fail(f"the list of tasks did not arrive within {WAIT_SECONDS:g} s")
        return
    task.create_many(listed(attachment))
    task.complete()


def arrived(job: Job) -> bytes | None:
    """The attachment; None when it does not come."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return job.attachment()
        except NotFound:
            if time.monotonic() >= deadline:
                return None
        time.sleep(LOOK_SECONDS)


def listed(attachment: bytes) -> Iterator[dict[str, Any]]:
    """The arguments of one `CurrentTask.create` after the other; ValueError for what is no JSON."""
    start = 0
    while start < len(attachment):
        end = attachment.find(b"\n", start)
        end = len(attachment) if end < 0 else end
        yield json.loads(attachment[start:end])
        start = end + 1


if __name__ == "__main__":
    main(current_job(), current_task())
