"""``jobtasks run``: a job here and now."""

from __future__ import annotations

import sys
from typing import Any

import click

from jobtasks.cli.client import Client
from jobtasks.cli.description import CommandAfterDashes, describes_a_job, job_body
from jobtasks.cli.failures import explain_failure
from jobtasks.cli.hosting import leaving_on_ctrl_c, some_server
from jobtasks.cli.options import state_option
from jobtasks.cli.problems import OF_STATE, ExitCode, Problem
from jobtasks.cli.progress import Meter, meter
from jobtasks.cli.reasons import why_queued
from jobtasks.cli.selectors import JOB, resolve
from jobtasks.cli.state import StateDirectory
from jobtasks.cli.waiting import wait_for_end

LOOK_SECONDS = 0.5
"""How often the bars are brought up to date."""


@click.command(name="run", cls=CommandAfterDashes)
@describes_a_job
@click.option("--resume", is_flag=True, help="Take up the job that an earlier run left (or JOB).")
@state_option
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
            job = _follow(client, job_uuid, shown)
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


def _follow(client: Client, job_uuid: str, shown: Meter) -> dict[str, Any]:
    """Show how far the job is until it has ended; while it does not start, why."""
    shown.say(f"job {job_uuid}")
    empty_looks = 0

    def look() -> None:
        nonlocal empty_looks
        levels = client.get(f"/jobs/{job_uuid}/levels")["items"]
        shown.show(levels)
        empty_looks = 0 if levels else empty_looks + 1
        # A server of our own has no node at first: that is no news.
        if empty_looks > 1 and (why := why_queued(client, job_uuid)):
            shown.say(why)

    with shown:
        return wait_for_end(client, job_uuid, None, LOOK_SECONDS, look)


def _report(client: Client, job: dict[str, Any], state: StateDirectory) -> ExitCode:
    exit_code = OF_STATE[job["state"]]
    if exit_code is ExitCode.OK:
        client.copy(f"/jobs/{job['uuid']}/output", sys.stdout.buffer)
    elif exit_code is ExitCode.JOB_FAILED:
        for line in explain_failure(client, job, state.option):
            click.echo(line, err=True)
    else:
        click.echo(f"job {job['uuid']} was cancelled", err=True)
    return exit_code
