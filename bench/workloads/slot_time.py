"""P9: what share of the slots' time is spent at work, with very many agents."""

from __future__ import annotations

import math
import time
from typing import Any

from bench.fleet import fleet, submit
from bench.goals import Outcome, at_least
from bench.service import running
from bench.session import Session

SLOTS = 4
FILL_SECONDS = 120.0
"""Within which every slot must have got its first task."""
SETTLE = 2.0
"""Rounds of tasks that pass before the slots are watched."""
TASKS = ((1.0, 0.95), (10.0, 0.97))
"""Seconds of a task, and the share of slot time at work that is wanted."""


def watch(agents: int, task_seconds: float, window: float) -> dict[str, Any]:
    """Let agents work on one job; return what share of the window the slots were at work."""
    rounds = SETTLE + 1 + math.ceil(window / task_seconds)
    tasks = round(agents * SLOTS * (rounds + 1))
    with running("--no-agent") as service:
        with fleet(
            service, agents=agents, slots=SLOTS, children=tasks, task=task_seconds
        ) as players:
            job = submit(service)
            until = time.monotonic() + FILL_SECONDS
            while players.seen()["started"] < players.slots:
                if time.monotonic() > until:
                    raise TimeoutError("not every slot has got a task")
                time.sleep(0.2)
            time.sleep(SETTLE * task_seconds)
            server, before = service.cpu_seconds(), players.seen()
            time.sleep(window)
            server, after = service.cpu_seconds() - server, players.seen()
            service.call("POST", f"/jobs/{job}/cancel", json={})
    seconds = after["at"] - before["at"]
    if after["troubles"]:
        raise RuntimeError(f"agents met {after['troubles']}")
    return {
        "agents": agents,
        "slots": players.slots,
        "task_seconds": task_seconds,
        "seconds": seconds,
        "share": (after["busy_seconds"] - before["busy_seconds"]) / players.slots / seconds,
        "tasks_per_second": (after["acknowledged"] - before["acknowledged"]) / seconds,
        "server_cpu_share": server / seconds,
        "generator_cpu_share": (after["cpu_seconds"] - before["cpu_seconds"]) / seconds,
    }


def slot_time(session: Session) -> Outcome:
    """With tasks of a second and with tasks of ten."""
    figures = {}
    goals = []
    for agents, (task_seconds, wanted) in zip(session.sizes.agents, TASKS, strict=True):
        window = max(session.sizes.window, 2 * task_seconds)
        found = watch(agents, task_seconds, window)
        figures[f"{task_seconds:g} s"] = found
        session.say(
            f"  {found['tasks_per_second']:,.0f} tasks/s, of a core: the server"
            f" {found['server_cpu_share']:.2f}, the generator {found['generator_cpu_share']:.2f}"
        )
        what = f"slot time at work, {agents:,} agents × {SLOTS} slots, tasks of {task_seconds:g} s"
        goals.append(at_least(what, found["share"], wanted))
    return Outcome(figures, goals)
