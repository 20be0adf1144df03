"""``jobtasks wait``: until a job has ended."""

from __future__ import annotations

import sys

import click

from jobtasks.cli.options import color_option, state_option
from jobtasks.cli.output import say
from jobtasks.cli.problems import OF_STATE, ExitCode
from jobtasks.cli.progress import meter
from jobtasks.cli.selectors import JOB, resolve
from jobtasks.cli.servers import RUN_PATIENCE_SECONDS, connect
from jobtasks.cli.state import StateDirectory
from jobtasks.cli.waiting import wait_for_end
from jobtasks.cli.watching import tell_end, watch, watch_option


@click.command(name="wait")
@click.argument("job")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer.")
@watch_option
@state_option
@color_option
def command(job: str, timeout: float | None, watches: bool, state: StateDirectory) -> int:
    """Wait until JOB has ended; print its state, end with its exit code (124: not yet)."""
    with connect(state, RUN_PATIENCE_SECONDS, say) as client:
        uuid = resolve(client, JOB, job)
        if watches:
            record = watch(client, uuid, meter(sys.stderr), timeout)
            tell_end(client, record, state.option)
        else:
            record = wait_for_end(client, uuid, timeout)
    click.echo(record["state"])
    return OF_STATE.get(record["state"], ExitCode.TIMEOUT)
