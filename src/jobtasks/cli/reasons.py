"""Reasons why a task or a job does not run, for people and for programs (R31)."""

from __future__ import annotations

from typing import Any

import click

from jobtasks.cli.client import Client
from jobtasks.cli.output import print_record, printable

NO_NEWS = "ready"
"""The code of the reason that only says: in a moment."""


def print_reasons(answer: dict[str, Any], form: str) -> None:
    """A line per reason and below it what would lift it, or the answer as it came."""
    if form == "json":
        print_record(answer, form)
        return
    for reason in answer["reasons"]:
        click.echo(printable(reason["text"]))
        if reason["lift"]:
            click.echo(click.style("  lift: ", dim=True) + printable(reason["lift"]))


def why_queued(client: Client, job: str) -> str | None:
    """Why a queued job has not started, in one line; None when it is about to."""
    reasons = client.get(f"/jobs/{job}/explain")["reasons"]
    if not reasons or reasons[0]["code"] == NO_NEWS:
        return None
    return printable(reasons[0]["text"])
