"""P6: very many tasks in one call, then ``kill -9`` of the server."""

from __future__ import annotations

import statistics
from typing import Any

from bench.goals import Outcome, at_least, at_most
from bench.scripts import script_job
from bench.service import Service, with_slots
from bench.session import Session

TOO_LARGE = {"min_ram_per_task": 10**12}
"""KiB that no node has: the tasks wait, so that the create is measured and nothing else."""
RUNS_MIN = 3


def create(service: Service, count: int) -> tuple[str, float]:
    """Let a running seed create `count` tasks in one call; return the job, the seconds it took."""
    item = f"{{'parameters': {{'i': i}}, 'runtime_constraints': {TOO_LARGE!r}}}"
    measured = (
        "import time; begin = time.perf_counter(); "
        f"uuids = task.create_many({item} for i in range({count})); "
        f"took = time.perf_counter() - begin; assert len(uuids) == {count}; "
        "task.complete(output=str(took))"
    )
    with script_job(measured) as job:
        uuid = service.submit(job)
        while service.call("GET", f"/jobs/{uuid}", params={"wait": 1})["tasks_summary"]["done"] < 1:
            pass
    seed = service.tasks(uuid, ["sequence", "=", 0])["items"][0]
    return uuid, float(seed["output"])


def bulk(session: Session) -> Outcome:
    """Seconds as the seed sees them, growth of the peak memory, tasks after the kill."""
    count = session.sizes.bulk
    seconds: list[float] = []
    growths: list[float] = []
    lost = 0
    for _ in range(max(RUNS_MIN, session.sizes.rounds)):
        with with_slots(2) as service:
            create(service, 10)
            before = service.memory_mb("VmHWM")
            job, took = create(service, count)
            growths.append(service.memory_mb("VmHWM") - before)
            seconds.append(took)
            service.kill()
            lost += count + 1 - service.count(job)
            summary = service.call("GET", f"/jobs/{job}")["tasks_summary"]
            if summary["todo"] != count or summary["done"] != 1:
                raise RuntimeError(f"after the kill the job has {summary}")
        session.say(f"  {took:.2f} s, peak memory +{growths[-1]:.0f} MB, lost {lost}")
    figures: dict[str, Any] = {"seconds": seconds, "peak_growth_mb": growths, "lost": lost}
    name = f"{count:,} tasks in one call"
    return Outcome(
        figures,
        [
            at_most(name, statistics.median(seconds), 2.0, "s"),
            at_most(f"{name}: growth of the server's peak memory", max(growths), 50.0, "MB"),
            at_most(f"{name}: lost by kill -9", lost, 0.0, "tasks"),
            at_least(f"{name}: tasks a second", count / statistics.median(seconds), None),
        ],
    )
