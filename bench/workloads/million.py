"""P8 and P10: very many tasks by simulated agents: rate, memory, CPU; then ``kill -9``."""

from __future__ import annotations

import time
from typing import Any

from bench.fleet import Fleet, fleet, is_over, submit
from bench.goals import Outcome, at_least, at_most
from bench.service import Service, check_complete, running
from bench.session import Session

AGENTS = 32
SLOTS = 16
"""A sync carries as many ends."""
SAMPLE_SECONDS = 1.0
MICROSECONDS = 1e6
STEADY = 0.1
"""The first part of the run, which the growth of memory is not counted from."""


def run_job(service: Service, agents: Fleet, tasks: int) -> dict[str, Any]:
    """Run one job to its end; return rates, memory and CPU times."""
    server_before, own_before = service.cpu_seconds(), agents.seen()
    job = submit(service)
    samples = []
    while not is_over(service, job):
        time.sleep(SAMPLE_SECONDS)
        seen = agents.seen()
        samples.append(
            {
                "at": seen["at"] - own_before["at"],
                "done": seen["acknowledged"] - own_before["acknowledged"],
                "memory_mb": service.memory_mb(),
            }
        )
    server, own = service.cpu_seconds(), agents.seen()
    check_complete(service, service.call("GET", f"/jobs/{job}"), tasks + 1)
    if own["troubles"]:
        raise RuntimeError(f"agents met {own['troubles']}")
    seconds = own["last_acknowledged"] - own["first_start"]
    return {
        "job": job,
        "tasks": tasks,
        "seconds": seconds,
        "per_second": tasks / seconds,
        "create_seconds": own["plant_seconds"] - own_before["plant_seconds"],
        "ends_per_sync": tasks / (own["syncs"] - own_before["syncs"]),
        "server_cpu_microseconds": (server - server_before) / tasks * MICROSECONDS,
        "generator_cpu_microseconds": (own["cpu_seconds"] - own_before["cpu_seconds"])
        / tasks
        * MICROSECONDS,
        "samples": samples,
    }


def memory_growth_mb(samples: list[dict[str, Any]]) -> float:
    """Return by how much memory grows while tasks run, after the first tenth of them."""
    most = samples[-1]["done"] if samples else 0
    steady = [one["memory_mb"] for one in samples if one["done"] > STEADY * most]
    return float(max(steady) - steady[0]) if steady else 0.0


def million(session: Session) -> Outcome:
    """P8: one job of a million tasks."""
    tasks = session.sizes.million
    with running("--no-agent") as service:
        with fleet(service, agents=AGENTS, slots=SLOTS, children=tasks) as agents:
            figures = run_job(service, agents, tasks)
        peak = service.memory_mb("VmHWM")
        service.kill()
        lost = tasks + 1 - service.count(figures["job"], ["success", "=", True])
        check_complete(service, service.call("GET", f"/jobs/{figures['job']}"), tasks + 1)
    growth = memory_growth_mb(figures["samples"])
    figures.update(lost=lost, peak_mb=peak, growth_mb=growth)
    return Outcome(
        figures,
        [
            at_least(f"{tasks:,} tasks in one job", figures["per_second"], 5000.0, "tasks/s"),
            at_most("growth of the server's memory while they run", growth, 20.0, "MB"),
            at_most("the server's peak memory", peak, None, "MB"),
            at_most("lost by kill -9", lost, 0.0, "tasks"),
            at_most("the server's CPU a task", figures["server_cpu_microseconds"], None, "µs"),
            at_most(
                "the generator's CPU a task", figures["generator_cpu_microseconds"], None, "µs"
            ),
        ],
    )


def whole_life(session: Session) -> Outcome:
    """P10: the server's CPU for a task from create to final, by how many ends a sync carries."""
    figures: dict[str, Any] = {}
    goals = []
    for slots, wanted, part in ((SLOTS, 120.0, 1), (1, 300.0, 4)):
        tasks = session.sizes.life // part
        with running("--no-agent") as service:
            with fleet(service, agents=AGENTS, slots=slots, children=tasks) as agents:
                run_job(service, agents, tasks)
                found = run_job(service, agents, tasks)
        figures[str(slots)] = found
        what = f"CPU of the server a task, {found['ends_per_sync']:.1f} ends in a sync"
        goals.append(at_most(what, found["server_cpu_microseconds"], wanted, "µs"))
        session.say(f"  {found['per_second']:,.0f} tasks/s with {slots} slots to an agent")
    return Outcome(figures, goals)
