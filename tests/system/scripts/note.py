"""What test tasks say to the witness: one line a time, on disk before they go on.

The witness is a file outside the system. It shows what processes did, whatever the records say.
"""

from __future__ import annotations

import os
import time

TASK = os.environ.get("TASK_UUID", "")
ATTEMPT = int(os.environ.get("TASK_ATTEMPT", "0"))


def note(what: str, *more: object) -> None:
    """Append ``what task attempt pid monotonic-ns wall-us sequence more…``.

    One write to a file opened for appending: the order of lines is the order of events.
    """
    words = [what, TASK, ATTEMPT, os.getpid(), time.monotonic_ns(), time.time_ns() // 1000]
    line = " ".join(map(str, [*words, os.environ.get("TASK_SEQUENCE"), *more])) + "\n"
    file = os.open(os.environ["JOB_PARAMETER_WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
        os.fsync(file)
    finally:
        os.close(file)
