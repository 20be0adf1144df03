"""``jobtasks job``: look at jobs; cancel or retry them."""

from __future__ import annotations

import sys
from typing import Any

import click

from jobtasks.cli.options import Assignment, format_option, state_option
from jobtasks.cli.output import Column, Row, key, moment, print_list, print_record
from jobtasks.cli.reasons import print_reasons, why_queued
from jobtasks.cli.servers import look
from jobtasks.cli.state import StateDirectory


@click.group(name="job")
def command() -> None:
    """Look at jobs; cancel or retry them."""


def _counts(job: Row) -> str:
    summary = job.get("tasks_summary") or {}
    return f"{summary.get('done', 0)}/{sum(summary.values())}"


def _program(job: Row) -> str:
    return str(job.get("script") or " ".join(job.get("command") or []))


JOB_COLUMNS: list[Column] = [
    ("job", key("uuid")),
    ("state", key("state")),
    ("done", _counts),
    ("program", _program),
    ("created", moment("created_at")),
    ("finished", moment("finished_at")),
]

TASK_COLUMNS: list[Column] = [
    ("task", key("uuid")),
    ("level", key("sequence")),
    ("number", key("qsequence")),
    ("state", key("state")),
    ("progress", key("progress")),
    ("attempts", key("attempts")),
    ("failed", key("failed_count")),
    ("parameters", key("parameters")),
]


@command.command(name="show")
@click.argument("job")
@state_option
@format_option
def show(job: str, state: StateDirectory, form: str) -> None:
    """Show the record of JOB; in text also why it has not started."""
    with look(state) as client:
        record = client.get(f"/jobs/{job}")
        waits = form != "json" and record["state"] == "Queued"
        why = why_queued(client, job) if waits else None
    print_record({**record, "why": why} if why else record, form)


@command.command(name="explain")
@click.argument("job")
@state_option
@format_option
def explain(job: str, state: StateDirectory, form: str) -> None:
    """Say what keeps JOB from starting, going on or ending, and what would change it."""
    with look(state) as client:
        print_reasons(client.get(f"/jobs/{job}/explain"), form)


@command.command(name="list")
@click.option("--only", metavar="STATE", help="Only jobs in this state (Queued, Running, …).")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@state_option
@format_option
def list_jobs(only: str | None, limit: int, state: StateDirectory, form: str) -> None:
    """List jobs, the newest first."""
    filters = [["state", "=", only.capitalize()]] if only else None
    with look(state) as client:
        answer = client.get("/jobs", filters=filters, order=["created_at desc"], limit=limit)
    print_list(answer["items"], JOB_COLUMNS, form)


@command.command(name="tasks")
@click.argument("job")
@click.option("--failed", is_flag=True, help="Only those that failed for good.")
@click.option("--level", type=int, help="Only those of this sequence.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--offset", type=click.IntRange(min=0), default=0, show_default=True)
@state_option
@format_option
def tasks(
    job: str,
    failed: bool,
    level: int | None,
    limit: int,
    offset: int,
    state: StateDirectory,
    form: str,
) -> None:
    """List the tasks of JOB in order of sequence and arrival."""
    filters: list[list[Any]] = [["job_uuid", "=", job]]
    filters += [["success", "=", False]] if failed else []
    filters += [["sequence", "=", level]] if level is not None else []
    with look(state) as client:
        client.get(f"/jobs/{job}", select=["uuid"])
        answer = client.get(
            "/job_tasks",
            filters=filters,
            order=["sequence", "qsequence"],
            limit=limit,
            offset=offset,
        )
    print_list(answer["items"], TASK_COLUMNS, form)
    more = answer.get("items_available", 0) - offset - len(answer["items"])
    if more > 0 and form == "table":
        click.echo(f"({more} more: --offset {offset + len(answer['items'])})", err=True)


@command.command(name="cancel")
@click.argument("job")
@state_option
@format_option
def cancel(job: str, state: StateDirectory, form: str) -> None:
    """Cancel JOB: nothing more starts, what runs is ended."""
    with look(state) as client:
        record = client.post(f"/jobs/{job}/cancel")
    _print_state(record, form)


@command.command(name="retry")
@click.argument("job")
@click.argument("task", nargs=-1)
@click.option(
    "-c",
    "constraints",
    multiple=True,
    type=Assignment(),
    metavar="CONSTRAINT=VALUE",
    help="A runtime constraint.",
)
@state_option
@format_option
def retry(
    job: str,
    task: tuple[str, ...],
    constraints: tuple[tuple[str, Any], ...],
    state: StateDirectory,
    form: str,
) -> None:
    """Queue a failed or cancelled JOB again; what is complete stays. With TASKs, only these."""
    body: dict[str, Any] = {}
    if task:
        body["job_tasks"] = list(task)
    if constraints:
        body["runtime_constraints"] = dict(constraints)
    with look(state) as client:
        record = client.post(f"/jobs/{job}/retry", body)
    _print_state(record, form)
    click.echo(f"`jobtasks run --resume {job}` runs it here, if no server does", err=True)


@command.command(name="output")
@click.argument("job")
@state_option
def output(job: str, state: StateDirectory) -> None:
    """Print the output of JOB as it is."""
    with look(state) as client:
        client.copy(f"/jobs/{job}/output", sys.stdout.buffer)


def _print_state(job: Row, form: str) -> None:
    if form == "json":
        print_record(job, form)
    else:
        click.echo(f"{job['uuid']} {job['state']}")
