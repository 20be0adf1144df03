"""``jobtasks submit``: give a job to a server."""

from __future__ import annotations

import sys
from typing import Any

import click

from jobtasks.cli.description import CommandAfterDashes, describes_a_job, job_body
from jobtasks.cli.hosting import leaving_on_ctrl_c
from jobtasks.cli.options import format_option, state_option
from jobtasks.cli.output import print_record, say
from jobtasks.cli.problems import ExitCode
from jobtasks.cli.progress import meter
from jobtasks.cli.servers import RUN_PATIENCE_SECONDS, connect
from jobtasks.cli.state import StateDirectory
from jobtasks.cli.watching import tell_end, watch, watch_option


@click.command(name="submit", cls=CommandAfterDashes)
@describes_a_job
@click.option("--priority", type=int, help="Higher goes first.")
@click.option("--description", help="A line for people.")
@watch_option
@state_option
@format_option
def command(
    script: str | None,
    parameters: tuple[tuple[str, Any], ...],
    constraints: tuple[tuple[str, Any], ...],
    input_path: str | None,
    priority: int | None,
    description: str | None,
    watches: bool,
    state: StateDirectory,
    form: str,
) -> int:
    """Give SCRIPT, or the command after --, to a server as a job; print the job's uuid.

    With --watch it stays until the job has ended, and ends with its exit code; Ctrl-C leaves the
    job to its server.
    """
    body = job_body(script, parameters, constraints, input_path)
    extras = {"priority": priority, "description": description}
    body |= {name: value for name, value in extras.items() if value is not None}
    with connect(state, RUN_PATIENCE_SECONDS if watches else 0.0, say) as client:
        job = client.post("/jobs", {"job": body})
        print_record(job, "id" if form == "table" else form)
        if not watches:
            return ExitCode.OK
        sys.stdout.flush()
        with leaving_on_ctrl_c(f"jobtasks wait --watch {job['uuid']}{state.option}", False):
            return tell_end(client, watch(client, job["uuid"], meter(sys.stderr)), state.option)
