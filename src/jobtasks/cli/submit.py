"""``jobtasks submit``: give a job to a server."""

from __future__ import annotations

from typing import Any

import click

from jobtasks.cli.description import CommandAfterDashes, describes_a_job, job_body
from jobtasks.cli.options import format_option, state_option
from jobtasks.cli.output import print_record
from jobtasks.cli.servers import connect
from jobtasks.cli.state import StateDirectory


@click.command(name="submit", cls=CommandAfterDashes)
@describes_a_job
@click.option("--priority", type=int, help="Higher goes first.")
@click.option("--description", help="A line for people.")
@state_option
@format_option
def command(
    script: str | None,
    parameters: tuple[tuple[str, Any], ...],
    constraints: tuple[tuple[str, Any], ...],
    input_path: str | None,
    priority: int | None,
    description: str | None,
    state: StateDirectory,
    form: str,
) -> None:
    """Give SCRIPT, or the command after --, to a server as a job; print the job's uuid."""
    body = job_body(script, parameters, constraints, input_path)
    extras = {"priority": priority, "description": description}
    body |= {name: value for name, value in extras.items() if value is not None}
    with connect(state) as client:
        job = client.post("/jobs", {"job": body})
    print_record(job, "id" if form == "table" else form)
