"""``jobtasks run``: a job here and now."""

from __future__ import annotations

import sys
from typing import Any

import click

from jobtasks.cli.client import Client
from jobtasks.cli.description import CommandAfterDashes, describes_a_job, job_body
from jobtasks.cli.hosting import leaving_on_ctrl_c, some_server
from jobtasks.cli.options import color_option, state_option
from jobtasks.cli.problems import ExitCode, Problem
from jobtasks.cli.progress import meter
from jobtasks.cli.reasons import joining_until
from jobtasks.cli.selectors import JOB, resolve
from jobtasks.cli.state import StateDirectory
from jobtasks.cli.watching import tell_end, watch


@click.command(name="run", cls=CommandAfterDashes)
@describes_a_job
@click.option("--resume", is_flag=True, help="Take up the job that an earlier run left (or JOB).")
@state_option
@color_option
def command(
    script: str | None,
    parameters: tuple[tuple[str, Any], ...],
    constraints: tuple[tuple[str, Any], ...],
    input_path: str | None,
    resume: bool,
    state: StateDirectory,
) -> int:
    """Run SCRIPT, an executable file, or the command after -- as a job, here and now.

    Shows how far it is on stderr, prints its output on stdout, ends with its exit code. It needs
    no server: without one it starts its own for as long as the job takes. Ctrl-C leaves the job;
    `jobtasks run --resume` goes on with it.
    """
    body = None
    if not resume:
        body = job_body(script, parameters, (("output", "last"), *constraints), input_path)
    elif parameters or constraints or input_path:
        raise click.UsageError("--resume takes up a job as it is: without -p, -c, --input.")
    shown = meter(sys.stderr)
    with some_server(state, shown.say) as (client, is_ours):
        job_uuid = _create(client, body) if body else _unfinished(client, script, state)
        state.remember_run(job_uuid)
        with leaving_on_ctrl_c(f"jobtasks run --resume{state.option}", is_ours):
            job = watch(client, job_uuid, shown, joining_until=joining_until(is_ours))
            exit_code = _report(client, job, state)
    state.forget_run()
    return exit_code


def _create(client: Client, body: dict[str, Any]) -> str:
    return str(client.post("/jobs", {"job": body})["uuid"])


def _unfinished(client: Client, named: str | None, state: StateDirectory) -> str:
    """The job to resume: the named one, the one that the last run left, or the newest."""
    if named or state.last_run:
        return resolve(client, JOB, named or state.last_run)
    jobs = client.get(
        "/jobs",
        filters=[["state", "in", ["Queued", "Running"]]],
        order=["created_at desc"],
        limit=1,
    )["items"]
    if not jobs:
        raise Problem(
            "no job is left to resume", "`jobtasks job list` shows all", ExitCode.NOT_FOUND
        )
    return str(jobs[0]["uuid"])


def _report(client: Client, job: dict[str, Any], state: StateDirectory) -> ExitCode:
    if job["state"] == "Complete":
        client.copy(f"/jobs/{job['uuid']}/output", sys.stdout.buffer)
    return tell_end(client, job, state.option)
