"""``jobtasks job``: look at jobs; change, cancel, retry or delete them."""

from __future__ import annotations

import sys
from typing import Any

import click

from jobtasks.cli.client import Client
from jobtasks.cli.durations import readable_bytes
from jobtasks.cli.logs import follow_option, show_job_log, stream_options
from jobtasks.cli.options import (
    Assignment,
    color_option,
    format_option,
    format_option_without_id,
    list_options,
    state_option,
)
from jobtasks.cli.output import Column, Row, age, key, print_list, print_record, say, took
from jobtasks.cli.problems import OF_STATE
from jobtasks.cli.progress import meter
from jobtasks.cli.reasons import print_reasons, why_queued
from jobtasks.cli.report import report
from jobtasks.cli.selectors import JOB, TASK, noun_of, resolve, resolve_all
from jobtasks.cli.servers import attend, look
from jobtasks.cli.several import change_each, dry_run_option, print_changed, rehearsed
from jobtasks.cli.state import StateDirectory
from jobtasks.cli.watching import watch, watch_list, watch_option
from jobtasks.core.errors import NotFound


@click.group(name="job")
def command() -> None:
    """Look at jobs; change, cancel, retry or delete them.

    JOB is a uuid, @last (your newest job), or a beginning or an end of a uuid that no other job
    has.
    """


def _counts(job: Row) -> str:
    summary = job.get("tasks_summary") or {}
    return f"{summary.get('done', 0)}/{sum(summary.values())}"


def _program(job: Row) -> str:
    # A command may be the means of another one, as for `map`: who made the job knows what it is.
    about = job.get("script") or job.get("description")
    return str(about or " ".join(job.get("command") or []))


def _percent(task: Row) -> str | None:
    progress = task.get("progress")
    return None if progress is None else f"{progress:.0%}"


JOB_COLUMNS: list[Column] = [
    ("job", key("uuid")),
    ("state", key("state")),
    ("done", _counts),
    ("age", age("created_at")),
    ("took", took),
    ("program", _program),
]

TASK_COLUMNS: list[Column] = [
    ("task", key("uuid")),
    ("number", key("qsequence")),
    ("level", key("sequence")),
    ("state", key("state")),
    ("done", _percent),
    ("failed", key("failed_count")),
    ("parameters", key("parameters")),
]


@command.command(name="show")
@click.argument("job")
@watch_option
@state_option
@format_option
def show(job: str, watches: bool, state: StateDirectory, form: str) -> None:
    """Show the record of JOB.

    In text also its size, and why it has not started; what is empty is left out. With --watch
    the record comes when the job has ended.
    """
    with attend(state, watches, say) as (client, watches):
        uuid = resolve(client, JOB, job)
        if watches:
            watch(client, uuid, meter(sys.stderr))
        record = client.get(f"/jobs/{uuid}")
        waits = form == "table" and record["state"] == "Queued"
        why = why_queued(client, uuid) if waits else None
        size = size_of(client, uuid) if form == "table" else {}
    print_record({**record, **({"why": why} if why else {}), **size}, form)


def size_of(client: Client, job: str) -> Row:
    """How much room a job takes, in words; nothing where the server does not say."""
    try:
        size = client.get(f"/jobs/{job}/sizes")
    except NotFound:
        return {}
    records = size["record_bytes"]
    measured = "" if records is None else f", {readable_bytes(records)} of records"
    return {"size": f"{size['tasks']} tasks, {readable_bytes(size['log_bytes'])} of logs{measured}"}


@command.command(name="explain")
@click.argument("job")
@state_option
@format_option_without_id
def explain(job: str, state: StateDirectory, form: str) -> None:
    """Say what keeps JOB from starting or going on.

    Each reason comes with what would change it.
    """
    with look(state) as client:
        uuid = resolve(client, JOB, job)
        print_reasons(client.get(f"/jobs/{uuid}/explain"), form)


@command.command(name="list")
@click.option("--only", metavar="STATE", help="The same as --filter state=STATE.")
@click.option("--watch", "watches", is_flag=True, help="Keep it up to date until all are over.")
@list_options("jobs", limit=20)
@state_option
@format_option
def list_jobs(
    only: str | None,
    watches: bool,
    conditions: tuple[list[Any], ...],
    orders: tuple[str, ...],
    limit: int,
    offset: int,
    state: StateDirectory,
    form: str,
) -> None:
    """List jobs, the newest first.

    With --watch, where there is no terminal, a line comes for each job that is new or has changed;
    with -o jsonl its record.
    """
    if watches and form == "json":
        raise click.UsageError("--watch has no end that JSON could wait for: use -o jsonl.")
    filters = [*conditions, *([["state", "=", only]] if only else [])]
    filters = [_as_spelled(each, str.capitalize) for each in filters]
    order = list(orders) or ["created_at desc"]
    with attend(state, watches, say) as (client, watches):

        def read() -> dict[str, Any]:
            return client.pages("/jobs", limit, offset, filters=filters or None, order=order)

        if watches:
            watch_list(lambda: read()["items"], JOB_COLUMNS, form, _goes_on)
            return
        answer = read()
    print_list(answer["items"], JOB_COLUMNS, form)
    _say_more(answer, offset, form)


@command.command(name="tasks")
@click.argument("job")
@click.option("--failed", is_flag=True, help="Only those that failed for good.")
@click.option("--level", type=int, help="Only those of this sequence.")
@list_options("job_tasks", limit=100)
@state_option
@format_option
def tasks(
    job: str,
    failed: bool,
    level: int | None,
    conditions: tuple[list[Any], ...],
    orders: tuple[str, ...],
    limit: int,
    offset: int,
    state: StateDirectory,
    form: str,
) -> None:
    """List the tasks of JOB, level by level."""
    filters = [_as_spelled(each, str.lower) for each in conditions]
    filters += [["success", "=", False]] if failed else []
    filters += [["sequence", "=", level]] if level is not None else []
    order = list(orders) or ["sequence", "qsequence"]
    with look(state) as client:
        uuid = resolve(client, JOB, job)
        client.get(f"/jobs/{uuid}", select=["uuid"])
        filters.insert(0, ["job_uuid", "=", uuid])
        answer = client.pages("/job_tasks", limit, offset, filters=filters, order=order)
    print_list(answer["items"], TASK_COLUMNS, form)
    _say_more(answer, offset, form)


def _goes_on(job: Row) -> bool:
    return job["state"] not in OF_STATE


def _as_spelled(condition: list[Any], spell: Any) -> list[Any]:
    """A filter on states with their letters as the records have them; several go by commas."""
    name, operator, operand = condition
    if name != "state" or operator not in ("=", "!=") or operand is None:
        return condition
    states = [spell(word.strip()) for word in operand.split(",")]
    if len(states) == 1:
        return [name, operator, states[0]]
    return [name, "in" if operator == "=" else "not in", states]


def _say_more(answer: dict[str, Any], offset: int, form: str) -> None:
    listed = offset + len(answer["items"])
    more = answer.get("items_available", 0) - listed
    if more > 0 and form == "table":
        click.echo(f"({more} more: --offset {listed})", err=True)


def _ending(family: Row) -> str:
    """How the attempts of a family ended, in words."""
    if family["exit_code"] is not None:
        return f"exit code {family['exit_code']}"
    if family["signal"] is not None:
        return f"signal {family['signal']}"
    return str(family["cause"] or "several").replace("_", " ")


def _sample(family: Row) -> str | None:
    sample = family["sample"]
    return f"{sample['qsequence']}.{sample['number']}" if sample else None


FAMILY_COLUMNS: list[Column] = [
    ("family", key("family")),
    ("attempts", key("attempts")),
    ("tasks", key("tasks")),
    ("ended", _ending),
    ("last", age("last_at")),
    ("sample", _sample),
    ("message", key("message")),
]


@command.command(name="failures")
@click.argument("job")
@state_option
@format_option_without_id
def failures(job: str, state: StateDirectory, form: str) -> None:
    """List how attempts of JOB failed, gathered by message.

    The most frequent failure comes first. In messages `<n>`, `<path>` and the like stand for what
    differs. `tasks` counts those that failed for good; a sample `17.2` is attempt 2 of `JOB/17`.
    """
    with look(state) as client:
        uuid = resolve(client, JOB, job)
        items = client.get(f"/jobs/{uuid}/families")["items"]
    print_list(items, FAMILY_COLUMNS, form)
    worst = next((family for family in items if family["tasks"]), None)
    if worst is not None and form == "table":
        more = " --ram-factor 2" if worst["cause"] == "out_of_memory" else ""
        say(f"again: jobtasks job retry {uuid} --family {worst['family']}{more}{state.option}")


@command.command(name="cancel")
@click.argument("job", nargs=-1, required=True)
@click.option("--reason", metavar="TEXT", help="Kept in the job's log.")
@dry_run_option
@state_option
@format_option
def cancel(
    job: tuple[str, ...], reason: str | None, dry_run: bool, state: StateDirectory, form: str
) -> None:
    """Cancel each JOB: nothing more starts, what runs is ended."""
    body = {"reason": reason} if reason else None
    with look(state) as client:
        change_each(
            resolve_all(client, JOB, job),
            lambda uuid: client.post(f"/jobs/{uuid}/cancel", body, **rehearsed(dry_run)),
            lambda jobs: _print_states(jobs, form, dry_run),
        )


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
@click.option("--family", metavar="FAMILY", help="Only failed tasks of this one of `job failures`.")
@click.option(
    "--ram-factor",
    type=float,
    metavar="N",
    help="With --family: so many times the memory that they had.",
)
@dry_run_option
@state_option
@format_option
def retry(
    job: str,
    task: tuple[str, ...],
    constraints: tuple[tuple[str, Any], ...],
    family: str | None,
    ram_factor: float | None,
    dry_run: bool,
    state: StateDirectory,
    form: str,
) -> None:
    """Queue a failed or cancelled JOB again; what is complete stays.

    With TASKs, or those of a family, only these are run again. Whole uuids of more jobs in place
    of TASKs are jobs to retry, too.
    """
    if family is not None and task:
        raise click.UsageError("Give either tasks or --family.")
    if ram_factor is not None and family is None:
        raise click.UsageError("--ram-factor goes with --family.")
    chosen = {"family": family, "ram_factor": ram_factor}
    body: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    if constraints:
        body["runtime_constraints"] = dict(constraints)
    more = [word for word in task if noun_of(word) is JOB]
    if more and len(more) < len(task):
        raise click.UsageError("Give either several jobs, or one job and its tasks.")
    with look(state) as client:
        uuid = resolve(client, JOB, job)
        if task and not more:
            body["job_tasks"] = resolve_all(client, TASK, task, uuid)
        change_each(
            list(dict.fromkeys([uuid, *more])),
            lambda uuid: client.post(f"/jobs/{uuid}/retry", body, **rehearsed(dry_run)),
            lambda jobs: _print_states(jobs, form, dry_run),
        )
    if form == "table" and not dry_run:
        click.echo("`jobtasks run --resume JOB` runs it here, if no server does", err=True)


@command.command(name="priority", context_settings={"ignore_unknown_options": True})
@click.argument("job", nargs=-1, required=True)
@click.argument("priority", type=int)
@dry_run_option
@state_option
@format_option
def priority(
    job: tuple[str, ...], priority: int, dry_run: bool, state: StateDirectory, form: str
) -> None:
    """Set the PRIORITY of each JOB: higher goes first.

    A job has priority 0 unless it was given another.
    """
    body = {"job": {"priority": priority}}
    with look(state) as client:
        change_each(
            resolve_all(client, JOB, job),
            lambda uuid: client.patch(f"/jobs/{uuid}", body, **rehearsed(dry_run)),
            lambda jobs: print_changed(
                jobs,
                JOB_COLUMNS,
                form,
                lambda job: f"{'would have' if dry_run else 'has'} priority {job['priority']}",
            ),
        )


@command.command(name="delete")
@click.argument("job", nargs=-1, required=True)
@dry_run_option
@state_option
@format_option
def delete(job: tuple[str, ...], dry_run: bool, state: StateDirectory, form: str) -> None:
    """Delete each JOB for good, with its tasks and logs.

    It must be queued, or over.
    """
    deleted = "would be deleted" if dry_run else "deleted"
    with look(state) as client:
        change_each(
            resolve_all(client, JOB, job),
            lambda uuid: client.delete(f"/jobs/{uuid}", **rehearsed(dry_run)),
            lambda jobs: print_changed(
                jobs, JOB_COLUMNS, form, lambda job: f"{deleted} ({job['state']}, {_counts(job)})"
            ),
        )


@command.command(name="log")
@click.argument("job")
@follow_option
@click.option("--failed", is_flag=True, help="Only of tasks that failed for good.")
@stream_options
@state_option
@color_option
def log(job: str, follows: bool, failed: bool, stream: str | None, state: StateDirectory) -> None:
    """Print what the tasks of JOB wrote, all attempts.

    They come in order of sequence and arrival. Each line begins with the numbers of task and
    attempt, as in `17.1 | text`; `JOB/17` names that task. With -f lines come as they are
    written, until the job has ended.
    """
    with attend(state, follows, say) as (client, follows):
        uuid = resolve(client, JOB, job)
        show_job_log(client, uuid, failed, stream, follows)


@command.command(name="output")
@click.argument("job")
@state_option
def output(job: str, state: StateDirectory) -> None:
    """Print the output of JOB as it is."""
    with look(state) as client:
        uuid = resolve(client, JOB, job)
        client.copy(f"/jobs/{uuid}/output", sys.stdout.buffer)


command.add_command(report)


def _print_states(jobs: list[dict[str, Any]], form: str, dry_run: bool) -> None:
    would_be = "would be " if dry_run else ""
    print_changed(jobs, JOB_COLUMNS, form, lambda job: f"{would_be}{job['state']}")
