"""P1 and P3: tasks of ``/bin/true`` through everything, against the floor."""

from __future__ import annotations

import statistics
import time
from typing import Any

from bench.conductor import OURS, Contender, Rounds, alternate
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
    """P1: with 8 in flight and with 2."""
    figures: dict[str, Any] = {}
    goals = []
    for in_flight, wanted in ((8, 0.70), (2, 0.50)):
        rounds = flat_rounds(session, in_flight)
        figures[f"{in_flight} in flight"] = rounds.figures()
        goals.append(
            at_least(f"share of the floor, {in_flight} in flight", rounds.ratio(OURS), wanted)
        )
    return Outcome(figures, goals)


def flat_rounds(session: Session, in_flight: int) -> Rounds:
    """Alternate floor and service with so many in flight."""
    count = session.sizes.commands
    with with_slots(in_flight) as service:
        run_flat(service, min(WARM_UP, count))
        return alternate(
            lambda: session.floor.per_second(count, in_flight),
            [Contender(OURS, count, lambda n: run_flat(service, n)["children"])],
            session.sizes.rounds,
            session.say,
        )


def tree(session: Session) -> Outcome:
    """P3: children of one call, then one task after all; the seed's own time is in it."""
    count = session.sizes.tree
    seen: list[dict[str, float]] = []
    with with_slots(8) as service:
        run_tree(service, min(WARM_UP, count))

        def run(tasks: int) -> float:
            seen.append(run_tree(service, tasks))
            return seen[-1]["whole"]

        rounds = alternate(
            lambda: session.floor.per_second(count, 8),
            [Contender(OURS, count, run)],
            session.sizes.rounds,
            session.say,
        )
    without_seed = [
        count / times["children"] / run.floor_per_second
        for times, run in zip(seen, rounds.runs[OURS], strict=True)
    ]
    figures = {**rounds.figures(), "seconds": seen, "ratios_without_the_seed": without_seed}
    return Outcome(
        figures,
        [
            at_least("share of the floor, from submit", rounds.ratio(OURS), 0.60),
            at_least(
                "share of the floor, from the first child's start",
                statistics.median(without_seed),
                None,
            ),
        ],
    )
