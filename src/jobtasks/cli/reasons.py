"""Reasons why a task or a job does not run, for people and for programs (R31)."""

from __future__ import annotations

import time
from typing import Any

import click

from jobtasks.cli.client import Client
from jobtasks.cli.output import print_list, print_record, printable

KEEPS_QUEUED = frozenset(
    ("no_node", "too_large", "min_nodes", "nodes_held", "nodes_draining", "engine_queue")
)
"""Codes of what keeps a job from starting for want of a node; it may have started meanwhile."""

JOINING_SECONDS = 10.0
"""How long a server that was just started may be without a node, and that is no news."""


def print_reasons(answer: dict[str, Any], form: str) -> None:
    """A line per reason and below it what would lift it; for programs the answer as it came."""
    if form == "json":
        print_record(answer, form)
        return
    if form == "jsonl":
        print_list(answer["reasons"], (), form)
        return
    for reason in answer["reasons"]:
        click.echo(printable(reason["text"]))
        if reason["lift"]:
            click.echo(click.style("  lift: ", dim=True) + printable(reason["lift"]))


def joining_until(is_ours: bool) -> float:
    """Until when (`time.monotonic`) the node of a server may be about to join.

    `is_ours` is true of a server that this command has just started.
    """
    return time.monotonic() + JOINING_SECONDS if is_ours else 0.0


def why_queued(client: Client, job: str, joining_until: float = 0.0) -> str | None:
    """Why a queued job has not started, in one line; None when it has, or is about to."""
    reasons = client.get(f"/jobs/{job}/explain")["reasons"]
    return None if _has_started(reasons) else _keeping(reasons, joining_until)


def why_idle(client: Client, job: str, joining_until: float = 0.0) -> str | None:
    """What no passing of time will change, in one line, why no task of a job runs; or None."""
    return _keeping(client.get(f"/jobs/{job}/explain")["reasons"], joining_until)


def _keeping(reasons: list[dict[str, Any]], joining_until: float) -> str | None:
    codes = KEEPS_QUEUED - ({"no_node"} if time.monotonic() < joining_until else set())
    return next((printable(row["text"]) for row in reasons if row["code"] in codes), None)


def _has_started(reasons: list[dict[str, Any]]) -> bool:
    """Only what is said of a running job counts tasks."""
    return any("tasks" in reason["details"] for reason in reasons)
