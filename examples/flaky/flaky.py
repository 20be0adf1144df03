#!/usr/bin/env python3
"""Tasks that fail in every way there is, and what becomes of them: see README.md.

jobtasks run flaky.py                    ends as failed, exit code 1
jobtasks run flaky.py -p hopeless=false  the same without the permanent failure: exit code 0
"""

from __future__ import annotations

import os
import signal
import sys

from jobtasks_sdk import CurrentTask, current_job, current_task

ATTEMPT = int(os.environ.get("TASK_ATTEMPT", "1"))


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def seed(task: CurrentTask) -> None:
    """Level 1: the unlucky ones. Level 3: the hopeless one. Level 4: one that waits for it."""
    for role in ("unlucky", "busy", "parent"):
        task.create(parameters={"role": role}, sequence=1)
    if current_job().script_parameters.get("hopeless", True):
        task.create(parameters={"role": "hopeless"}, sequence=3)
    task.create(parameters={"role": "last"}, sequence=4)
    task.complete()


def unlucky(task: CurrentTask) -> None:
    """Dies twice without a verdict: temporary failures, three attempts in all (R12, R14)."""
    if ATTEMPT < 3:
        say(f"attempt {ATTEMPT}: giving up without a verdict")
        sys.exit(1)
    task.complete(f"unlucky: done by attempt {ATTEMPT}")


def busy(task: CurrentTask) -> None:
    """Asks three times to be tried again later, by exit code 75 (R14)."""
    if ATTEMPT < 4:
        say(f"attempt {ATTEMPT}: not now, please try again")
        sys.exit(75)
    task.complete(f"busy: done by attempt {ATTEMPT}")


def parent(task: CurrentTask) -> None:
    """Creates children and is killed before its verdict; the next attempt creates others (R4)."""
    for number in range(3 if ATTEMPT == 1 else 2):
        task.create(parameters={"role": "child", "of_attempt": ATTEMPT, "number": number})
    if ATTEMPT == 1:
        say("attempt 1: three children created, and now kill -9")
        os.kill(os.getpid(), signal.SIGKILL)
    task.complete(f"parent: done by attempt {ATTEMPT}")


def child(task: CurrentTask) -> None:
    """Level 2. No child of the parent's first attempt ever runs."""
    wanted = task.parameters
    task.complete(f"child {wanted['number']} of the parent's attempt {wanted['of_attempt']}")


def hopeless(task: CurrentTask) -> None:
    """Knows that no attempt will do better: a permanent failure (R11)."""
    task.fail("the input is corrupt: no attempt will make it better")


def last(task: CurrentTask) -> None:
    """Level 4: starts when everything below is complete, so never after a permanent failure."""
    task.complete("last: everything before me is complete")


ROLES = {
    "unlucky": unlucky,
    "busy": busy,
    "parent": parent,
    "child": child,
    "hopeless": hopeless,
    "last": last,
}

if __name__ == "__main__":
    this_task = current_task()
    if this_task.sequence == 0:
        seed(this_task)
    else:
        ROLES[this_task.parameters["role"]](this_task)
