#!/usr/bin/env -S python3 -S
"""A task that does what its parameters say, step by step, and notes it with the witness.

``parameters.attempts`` is a list of plays, one per attempt, of which the last is repeated; the
seed finds its own in ``script_parameters.seed``. A play is a list of steps ``[name, argument…]``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from note import ATTEMPT, TASK, note  # type: ignore[import-not-found]
from witnessed import WitnessedTask  # type: ignore[import-not-found]

from jobtasks_sdk import Refused

LIMIT_SECONDS = 60.0

MEMORY: list[bytes] = []

task = WitnessedTask(TASK, {}, False)


def play() -> list[list[Any]]:
    """The steps of this attempt."""
    plays = os.environ.get("TASK_PARAMETER_ATTEMPTS") or os.environ["JOB_PARAMETER_SEED"]
    attempts: list[list[list[Any]]] = json.loads(plays)
    return attempts[min(ATTEMPT, len(attempts)) - 1]


def create(*tasks: dict[str, Any]) -> None:
    """Create children in one call."""
    task.create_many(tasks)


def create_times(count: int, new: dict[str, Any]) -> None:
    """Create so many equal children in one call."""
    task.create_many([new] * count)


def create_slowly(count: int, new: dict[str, Any]) -> None:
    """Create so many equal children one by one."""
    for _ in range(count):
        task.create(**new)


def create_large(letters: int, new: dict[str, Any]) -> None:
    """Create a child with a parameter of that length."""
    new["parameters"]["large"] = "x" * letters
    task.create(**new)


def complete(output: str | None = f"{TASK} {ATTEMPT}") -> None:
    """Say that the task succeeded; the output names the attempt unless another is given."""
    task.complete(output)


def complete_large(letters: int) -> None:
    """Succeed with a long output."""
    task.complete("x" * letters)


def fail(reason: str) -> None:
    """Say that the task failed for good."""
    task.fail(reason)


def report(changes: dict[str, Any]) -> None:
    """Write to the task's own record; a refusal is noted."""
    try:
        task._report(changes)
    except Refused as refused:
        note("refused", refused.status)
    else:
        note("reported")


def say(text: str, times: int = 1) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"{text}\n" * times)
    sys.stderr.flush()


def await_file(path: str, seconds: float = LIMIT_SECONDS) -> None:
    """Go on when the file exists; fail when it does not for so long."""
    deadline = time.monotonic() + seconds
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            note("waited-in-vain")
            sys.exit(1)
        time.sleep(0.01)


def run_if(path: str) -> None:
    """End without a verdict unless the file exists."""
    if not os.path.exists(path):
        end(1)


def end(exit_code: int) -> None:
    """End at once with this exit code."""
    note("end")
    os._exit(exit_code)


def kill(number: int) -> None:
    """Be killed by a signal."""
    os.kill(os.getpid(), number)
    signal.pause()


def die_in(microseconds: int) -> None:
    """Go on, and be killed by a signal so soon, whatever is under way then."""
    signal.setitimer(signal.ITIMER_REAL, max(microseconds, 1) / 1e6)


def kill_agent() -> None:
    """kill -9 of the process that started this one."""
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


def use_memory(kib: int) -> None:
    """Have so much memory in use from now on."""
    MEMORY.append(b"x" * (kib * 1024))


def wait_for_the_end() -> None:
    """Stay until ended by somebody."""
    while True:
        signal.pause()


def ignore_term() -> None:
    """Note TERM, and go on."""
    signal.signal(signal.SIGTERM, lambda number, frame: note("term"))


def orphan(path: str) -> None:
    """Leave a grandchild in a session of its own that ignores TERM; write its pid."""
    if os.fork():
        os.wait()
        await_file(path)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    new = Path(f"{path}.new")
    new.write_text(str(os.getpid()))
    new.rename(path)
    while True:
        signal.pause()


def leave_file(path: str, variable: str = "") -> None:
    """Make a file, with the value of a variable in it."""
    new = Path(f"{path}.new")
    new.write_text(os.environ.get(variable, ""))
    new.rename(path)


def environment() -> None:
    """Succeed with the environment as output, its secret backwards."""
    environ = {**os.environ, "ARVADOS_API_TOKEN": os.environ["ARVADOS_API_TOKEN"][::-1]}
    found = {"environ": environ, "cwd": os.getcwd(), "files": os.listdir(".")}
    task.complete(json.dumps(found))


def disable_script() -> None:
    """Take the right to be executed from the job's script."""
    os.chmod(__file__, 0o600)


STEPS: dict[str, Callable[..., None]] = {
    name: value for name, value in globals().items() if getattr(value, "__module__", "") == __name__
}
STEPS["note"] = note

if __name__ == "__main__":
    note("start")
    for name, *arguments in play():
        STEPS[name](*arguments)
    note("end")
