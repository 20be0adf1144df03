"""The jobs that are measured: a seed in Python creates the other tasks by the SDK."""

from __future__ import annotations

import contextlib
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def script_job(
    seed: str, other: str = "pass", *, interpreter: str = sys.executable, **attributes: Any
) -> Iterator[dict[str, Any]]:
    """Write a script and yield the job that runs it; `attributes` go into the job.

    The task of sequence 0 runs the statement `seed`, any other that runs the script `other`; both
    complete.
    """
    with tempfile.TemporaryDirectory(prefix="jobtasks-bench-") as folder:
        script = Path(folder) / "measured.py"
        script.write_text(
            f"#!{interpreter}\n"
            "import jobtasks_sdk\n"
            "task = jobtasks_sdk.current_task()\n"
            "if task.sequence == 0:\n"
            f"    {seed}\n"
            "else:\n"
            f"    {other}\n"
            "task.complete()\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        yield {"script": script.name, "script_version": folder, **attributes}


def creating(count: int, item: dict[str, Any], first: str = "") -> str:
    """Return the statement that creates `count` alike tasks in one call, after `first`."""
    return f"{first}task.create_many([{item!r}] * {count})"
