"""Looking at what changes: a job until its end, a list until nothing in it goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click
from rich.live import Live
from rich.text import Text

from jobtasks.cli.client import Client
from jobtasks.cli.failures import explain_failure
from jobtasks.cli.options import Command
from jobtasks.cli.output import Column, Row, print_list, table_lines
from jobtasks.cli.problems import OF_STATE, ExitCode
from jobtasks.cli.progress import Meter, console_on
from jobtasks.cli.reasons import why_queued
from jobtasks.cli.waiting import wait_for_end

LOOK_SECONDS = 0.5
"""How often the bars are brought up to date."""

LIST_SECONDS = 1.0
"""How often a list is read anew."""


def watch_option(command: Command) -> Command:
    """``--watch``."""
    return click.option(
        "--watch", "watches", is_flag=True, help="Show how it goes on, on stderr, until its end."
    )(command)


def watch(
    client: Client,
    job_uuid: str,
    shown: Meter,
    timeout_seconds: float | None = None,
    joining_until: float = 0.0,
) -> dict[str, Any]:
    """Show how far a job is until it has ended, or the time is over; while it does not start, why.

    Until `joining_until` (`time.monotonic`) it is not said that no node is there. Returns the job's
    record as it is at the end.
    """
    shown.say(f"job {job_uuid}")
    empty_looks = 0

    def look() -> None:
        nonlocal empty_looks
        levels = client.get(f"/jobs/{job_uuid}/levels")["items"]
        shown.show(levels)
        empty_looks = 0 if levels else empty_looks + 1
        if empty_looks > 1 and (why := why_queued(client, job_uuid, joining_until)):
            shown.say(why)

    with shown:
        return wait_for_end(client, job_uuid, timeout_seconds, LOOK_SECONDS, look)


def tell_end(client: Client, job: dict[str, Any], state_option: str) -> ExitCode:
    """Say on stderr what there is to say of a job's end; the exit code of its state.

    `state_option` belongs to the commands that are named.
    """
    exit_code = OF_STATE.get(job["state"], ExitCode.TIMEOUT)
    if exit_code is ExitCode.JOB_FAILED:
        for line in explain_failure(client, job, state_option):
            click.echo(line, err=True)
    elif exit_code is ExitCode.CANCELLED:
        click.echo(f"job {job['uuid']} was cancelled", err=True)
    return exit_code


def watch_list(
    read: Callable[[], Sequence[Row]],
    columns: Sequence[Column],
    form: str,
    goes_on: Callable[[Row], bool],
) -> None:
    """Print a list again and again until `goes_on` is true of none of its records.

    On a terminal the table stays in its place; elsewhere, and for programs, each record comes when
    it is new and when something of it that a column shows, or that a program would see, changed.
    """
    if form == "table" and sys.stdout.isatty():
        _redraw(read, columns, goes_on)
        return
    seen: dict[str, Any] = {}
    while True:
        records = read()
        news = [each for each in records if seen.get(each["uuid"], ()) != _seen(each, form)]
        seen.update({each["uuid"]: _seen(each, form) for each in news})
        if form == "table":
            _print_rows(news, columns)
        else:
            print_list(news, columns, form)
        sys.stdout.flush()
        if not any(map(goes_on, records)):
            return
        time.sleep(LIST_SECONDS)


def _seen(record: Row, form: str) -> Any:
    """What of a record is news when it changes: to people not its age."""
    if form == "table":
        return [record.get(name) for name in ("state", "tasks_summary", "priority")]
    return None if form == "id" else record


def _print_rows(records: Sequence[Row], columns: Sequence[Column]) -> None:
    for line in table_lines(records, columns, None)[1:]:
        click.echo(line)


def _redraw(
    read: Callable[[], Sequence[Row]], columns: Sequence[Column], goes_on: Callable[[Row], bool]
) -> None:
    console = console_on(sys.stdout)
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        while True:
            records = read()
            heading, *rows = table_lines(records, columns, console.width)
            table = Text(no_wrap=True).append(heading, "bold").append("\n" + "\n".join(rows))
            live.update(table, refresh=True)
            if not any(map(goes_on, records)):
                return
            time.sleep(LIST_SECONDS)
