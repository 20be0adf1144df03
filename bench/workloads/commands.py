"""P1 and P3: tasks of ``/bin/true`` through everything, against the floor."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from bench.conductor import OURS, Contender, alternate
from bench.floor import TRUE
from bench.goals import Outcome, at_least
from bench.scripts import creating, script_job
from bench.service import Service, check_complete, seconds_between, with_slots
from bench.session import Session

CHILD = {"command": list(TRUE)}
WARM_UP = 300
"""Tasks that are run before anything is measured."""


def run_flat(service: Service, count: int) -> dict[str, float]:
    """Run `count` tasks of ``/bin/true`` below a seed that creates them in one call.

    Return the seconds from the first child's start to the job's end, and from submit to Complete
    as the client sees it: the latter has the seed in it.
    """
    begin = time.perf_counter()
    with script_job(creating(count, CHILD)) as job:
        record = service.run(job)
    whole = time.perf_counter() - begin
    check_complete(service, record, count + 1)
    return {"children": children_seconds(service, record), "whole": whole}


def run_tree(service: Service, count: int) -> dict[str, float]:
    """Do the same, with one task more after all of them, by a higher sequence."""
    begin = time.perf_counter()
    last = f"task.create(sequence=2, command={list(TRUE)!r}); "
    with script_job(creating(count, CHILD, last)) as job:
        record = service.run(job)
    whole = time.perf_counter() - begin
    check_complete(service, record, count + 2)
    return {"children": children_seconds(service, record), "whole": whole}


def children_seconds(service: Service, job: dict[str, Any]) -> float:
    """Return the seconds from the start of the first child to the job's end."""
    first = service.tasks(job["uuid"], ["sequence", "=", 1], order="qsequence", limit=1)
    return seconds_between(first["items"][0]["started_at"], job["finished_at"])


def flat(session: Session) -> Outcome:
    """P1: with 8 in flight and with 2, from the first child's start."""
    figures: dict[str, Any] = {}
    goals = []
    for in_flight, wanted in ((8, 0.70), (2, 0.50)):
        found = against_floor(session, in_flight, session.sizes.commands, run_flat, "children")
        key = f"{in_flight} in flight"
        figures[key] = found
        goals.append(at_least(f"share of the floor, {key}", found["ratio"], wanted))
        goals.append(at_least(f"the same from submit, {key}", found["ratio_other"], None))
    return Outcome(figures, goals)


def tree(session: Session) -> Outcome:
    """P3: children of one call, then one task after all, from submit: the seed's time is in it."""
    found = against_floor(session, 8, session.sizes.tree, run_tree, "whole")
    return Outcome(
        found,
        [
            at_least("share of the floor, from submit", found["ratio"], 0.60),
            at_least("the same from the first child's start", found["ratio_other"], None),
        ],
    )


def against_floor(
    session: Session,
    in_flight: int,
    count: int,
    run: Callable[[Service, int], dict[str, float]],
    timed: str,
) -> dict[str, Any]:
    """Alternate floor and service; `timed` says which of the two times of a run is compared.

    The ratio by the other one is told, too.
    """
    (other,) = {"children", "whole"} - {timed}
    seen: list[dict[str, float]] = []
    session.say(f"  {count:,} tasks, {in_flight} in flight")
    with with_slots(in_flight) as service:
        run(service, min(WARM_UP, count))

        def measured(tasks: int) -> float:
            seen.append(run(service, tasks))
            return seen[-1][timed]

        rounds = alternate(
            lambda: session.floor.per_second(count, in_flight),
            [Contender(OURS, count, measured)],
            session.sizes.rounds,
            session.say,
        )
    if rounds.failures:
        raise RuntimeError(rounds.failures[OURS])
    others = [
        one.ratio * times[timed] / times[other]
        for times, one in zip(seen, rounds.runs[OURS], strict=True)
    ]
    figures: dict[str, Any] = rounds.figures()[OURS]
    return {**figures, "seconds": seen, "ratio_other": statistics.median(others)}
