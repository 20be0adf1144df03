"""P5: one task on an idle service."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from bench.floor import TRUE
from bench.goals import Outcome, at_most
from bench.service import Service, with_slots
from bench.session import Session

PAUSE_SECONDS = 0.02
"""Between two jobs: the service is idle when one comes."""
WARM_UP = 5


def milliseconds_of(work: Callable[[], Any], times: int) -> list[float]:
    """Do something so many times, with a pause before each; how long each took."""
    found = []
    for number in range(WARM_UP + times):
        time.sleep(PAUSE_SECONDS)
        begin = time.perf_counter()
        work()
        if number >= WARM_UP:
            found.append((time.perf_counter() - begin) * 1000)
    return found


def spread(times: list[float]) -> dict[str, Any]:
    """Return median, best, 90th percentile, and all."""
    ordered = sorted(times)
    return {
        "median": statistics.median(ordered),
        "min": ordered[0],
        "p90": ordered[int(len(ordered) * 0.9)],
        "all": times,
    }


def run_one(service: Service) -> None:
    """Submit a job of one ``/bin/true`` and wait until it is complete."""
    service.run({"command": list(TRUE)})


def one_task(session: Session) -> Outcome:
    """Submit to Complete as the client sees it."""
    with with_slots(2) as service:
        figures = spread(milliseconds_of(lambda: run_one(service), session.sizes.singles))
    what = f"median of {session.sizes.singles}, submit to Complete"
    return Outcome({"milliseconds": figures}, [at_most(what, figures["median"], 5.0, "ms")])
