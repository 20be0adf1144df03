"""``jobtasks admin``: what administrators do for a server."""

from __future__ import annotations

from typing import Any

import click

from jobtasks.cli.client import Client
from jobtasks.cli.durations import Duration, readable_bytes
from jobtasks.cli.moving import export, import_
from jobtasks.cli.options import format_option, state_option
from jobtasks.cli.output import print_record
from jobtasks.cli.safekeeping import backup, check, restore
from jobtasks.cli.servers import look
from jobtasks.cli.state import StateDirectory

SIZES = {
    "database": "database_bytes",
    "of these unused": "database_free_bytes",
    "logs": "log_bytes",
    "scripts for nodes": "pack_bytes",
    "free on the disk": "free_bytes",
}
"""What is shown of the sizes, and how it is called."""


@click.group(name="admin")
def command() -> None:
    """Look after a server; for administrators."""


for each in (backup, restore, check, export, import_):
    command.add_command(each)


@command.command(name="gc")
@click.option("--dry-run", is_flag=True, help="Say what would be removed; remove nothing.")
@click.option(
    "--jobs-older-than", "jobs", type=Duration(), help="Jobs that were over so long ago: 30d, 12h."
)
@click.option(
    "--logs-older-than", "logs", type=Duration(), help="Logs of jobs that were over so long ago."
)
@click.option(
    "--shrink",
    is_flag=True,
    help="Then give unused space of the database back to the disk; nothing is written meanwhile.",
)
@state_option
@format_option
def gc(
    dry_run: bool,
    jobs: float | None,
    logs: float | None,
    shrink: bool,
    state: StateDirectory,
    form: str,
) -> None:
    """Remove what need not be kept, at once.

    That is old jobs and logs, left-over files, dead tokens. Without a time, what the server was
    told to keep (`jobtasks serve --retain-jobs`) holds: by default every job and log stays.
    Nothing that is queued or runs is ever removed.
    """
    body = {
        "dry_run": dry_run,
        "jobs_older_than_seconds": jobs,
        "logs_older_than_seconds": logs,
        "shrink": shrink,
    }
    with look(state) as client:
        answer = collected(client, body)
    if form == "json":
        print_record(answer, form)
    else:
        _print(answer)


def collected(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """Ask until nothing is left to remove; the answers as one. A look is asked for once."""
    total: dict[str, Any] = client.post("/sys/gc", body)
    while total["more"] and not total["dry_run"]:
        answer = client.post("/sys/gc", body)
        removed = {
            name: count + answer["removed"][name] for name, count in total["removed"].items()
        }
        total = {**answer, "removed": removed, "before": total["before"]}
    return total


def _print(answer: dict[str, Any]) -> None:
    removed = answer["removed"]
    did = "would remove" if answer["dry_run"] else "removed"
    did += " at least" if answer["more"] else ""
    click.echo(
        f"{did} {removed['jobs']} jobs, the logs of {removed['logs']} more,"
        f" {removed['log_files']} log files with {readable_bytes(removed['log_bytes'])},"
        f" {removed['packs']} directories of scripts, {removed['tokens']} dead tokens"
    )
    for name, key in SIZES.items():
        before, after = (readable_bytes(answer[when][key]) for when in ("before", "after"))
        click.echo(f"{name}: {before}" + ("" if answer["dry_run"] else f" before, {after} after"))
