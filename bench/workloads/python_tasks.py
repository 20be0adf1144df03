"""P4: tasks in Python that report by the SDK, started warm, against a bare ``python3 -c pass``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.conductor import OURS, Contender, Rounds, alternate
from bench.goals import Outcome, at_least
from bench.scripts import creating, script_job
from bench.service import Service, check_complete, with_slots
from bench.session import Session
from bench.workloads.commands import children_seconds

SYSTEM_PYTHON = "/usr/bin/python3"
NOTHING = ("-c", "pass")
WARM = {"preload": ["jobtasks_sdk"]}
"""The interpreter is started once on each node with the SDK imported; tasks are its forks."""
GOALS = {8: 5.0, 2: 3.0}
"""By tasks in flight."""


def interpreters() -> dict[str, str]:
    """Return interpreters by a name that says which: the system's, if new enough, and ours."""
    found = {}
    if Path(SYSTEM_PYTHON).exists():
        asked = "import sys; print(*sys.version_info[:3], sep='.')"
        version = subprocess.check_output([SYSTEM_PYTHON, "-c", asked], text=True).strip()
        if tuple(map(int, version.split("."))) >= (3, 11):
            found[f"the system's Python {version}"] = SYSTEM_PYTHON
    ours = ".".join(map(str, sys.version_info[:3]))
    found[f"the virtual environment's Python {ours}"] = sys.executable
    return found


def run(service: Service, interpreter: str, count: int) -> float:
    """Run `count` tasks that report progress, then success; seconds from the first one's start."""
    with script_job(
        creating(count, {}),
        "task.progress(0.5)",
        interpreter=interpreter,
        runtime_constraints=WARM,
    ) as job:
        record = service.run(job)
    check_complete(service, record, count + 1)
    return children_seconds(service, record)


def rounds_of(session: Session, in_flight: int, interpreter: str) -> Rounds:
    """Alternate an interpreter that does nothing and tasks that report, with so many in flight."""
    count = session.sizes.python
    with with_slots(in_flight) as service:
        run(service, interpreter, min(50, count))
        return alternate(
            lambda: session.floor.per_second(
                max(count // 4, 50), in_flight, (interpreter, *NOTHING)
            ),
            [Contender(OURS, count, lambda n: run(service, interpreter, n))],
            session.sizes.rounds,
            session.say,
        )


def python_tasks(session: Session) -> Outcome:
    """With 8 in flight and with 2, by each interpreter, each against itself."""
    figures: dict[str, Any] = {}
    goals = []
    for in_flight, wanted in GOALS.items():
        for name, path in interpreters().items():
            key = f"{in_flight} in flight, {name}"
            session.say(f"  {key}")
            rounds = rounds_of(session, in_flight, path)
            if rounds.failures:
                raise RuntimeError(rounds.failures[OURS])
            figures[key] = rounds.figures()
            goals.append(at_least(f"times the floor, {key}", rounds.ratio(OURS), wanted, "×"))
    return Outcome(figures, goals)
