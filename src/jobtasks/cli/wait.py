"""``jobtasks wait``: until a job has ended."""

from __future__ import annotations

import click

from jobtasks.cli.options import state_option
from jobtasks.cli.problems import OF_STATE, ExitCode
from jobtasks.cli.selectors import JOB, resolve
from jobtasks.cli.servers import RUN_PATIENCE_SECONDS, connect
from jobtasks.cli.state import StateDirectory
from jobtasks.cli.waiting import wait_for_end


@click.command(name="wait")
@click.argument("job")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer.")
@state_option
def command(job: str, timeout: float | None, state: StateDirectory) -> int:
    """Wait until JOB has ended; print its state, end with its exit code (124: not yet)."""
    with connect(state, RUN_PATIENCE_SECONDS, _say) as client:
        record = wait_for_end(client, resolve(client, JOB, job), timeout)
    click.echo(record["state"])
    return OF_STATE.get(record["state"], ExitCode.TIMEOUT)


def _say(line: str) -> None:
    click.echo(line, err=True)
