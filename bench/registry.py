"""The list of what is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.goals import Outcome
from bench.session import Session
from bench.workloads import (
    beside,
    bulk,
    claims,
    commands,
    million,
    one_task,
    python_tasks,
    reading,
    slot_time,
    slurm,
)


@dataclass(frozen=True)
class Workload:
    """Something that is measured; `title` says what as a row of a table does."""

    name: str
    title: str
    run: Callable[[Session], Outcome]


WORKLOADS = [
    Workload("P1", "`/bin/true` below a seed, against the C loop", commands.flat),
    Workload("P2", "the same beside other systems", beside.beside),
    Workload("P3", "a seed, its children, one task after all", commands.tree),
    Workload("P4", "Python tasks that report over HTTP, started warm", python_tasks.python_tasks),
    Workload("P5", "one `/bin/true` on an idle system", one_task.one_task),
    Workload("P6", "very many tasks in one call", bulk.bulk),
    Workload("P7", "claim, publish and delete among very many tasks", claims.claims),
    Workload("P8", "a million tasks in one job, simulated agents", million.million),
    Workload("P9", "slot time at work with very many agents", slot_time.slot_time),
    Workload("P10", "the server's CPU for a task's whole life", million.whole_life),
    Workload("slurm", "`/bin/true` on four virtual nodes of a Slurm", slurm.slurm),
    Workload("pages", "pages of a very large job", reading.pages),
    Workload("arvados", "calls through the Python client of Arvados", reading.arvados_client),
]


def chosen(names: str) -> list[Workload]:
    """Return the workloads of a list such as ``P1,P5``, in their own order; for none all but P2."""
    known = {workload.name.lower(): workload for workload in WORKLOADS}
    wanted = [name.strip().lower() for name in names.split(",") if name.strip()]
    if unknown := set(wanted) - known.keys():
        raise LookupError(f"no such workload: {', '.join(sorted(unknown))}")
    return [
        workload for name, workload in known.items() if name in (wanted or known.keys() - {"p2"})
    ]
