"""``jobtasks task``: a task, its attempts and their logs, why it waits."""

from __future__ import annotations

import click

from jobtasks.cli.failures import cause_of
from jobtasks.cli.logs import follow_option, show_task_log, stream_options
from jobtasks.cli.options import format_option, format_option_without_id, state_option
from jobtasks.cli.output import Column, Row, age, key, print_list, print_record, say, took
from jobtasks.cli.reasons import print_reasons
from jobtasks.cli.selectors import TASK, resolve
from jobtasks.cli.servers import attend, look
from jobtasks.cli.state import StateDirectory


def nodes_of(attempt: Row) -> str:
    """Return where an attempt ran: of a gang all its nodes, first that of its process (R25)."""
    return "+".join([attempt["node"], *attempt["other_nodes"]])


ATTEMPT_COLUMNS: list[Column] = [
    ("attempt", key("number")),
    ("state", key("state")),
    ("node", nodes_of),
    ("slot", key("slot")),
    ("age", age("started_at")),
    ("took", took),
    ("peak KiB", key("peak_memory_kib")),
    ("log bytes", key("log_bytes")),
    ("ended by", lambda attempt: cause_of(attempt) if attempt.get("finished_at") else None),
]


@click.group(name="task")
def command() -> None:
    """Look at a task, its attempts and their logs.

    TASK is a uuid, JOB/NUMBER (the task's number in its job, as in @last/3), @last (the task of
    your newest job that started last), or a beginning or an end of a uuid that no other task has.
    """


@command.command(name="show")
@click.argument("task")
@state_option
@format_option
def show(task: str, state: StateDirectory, form: str) -> None:
    """Show the record of TASK."""
    with look(state) as client:
        print_record(client.get(f"/job_tasks/{resolve(client, TASK, task)}"), form)


@command.command(name="explain")
@click.argument("task")
@state_option
@format_option_without_id
def explain(task: str, state: StateDirectory, form: str) -> None:
    """Say why TASK does not run, and what would change it."""
    with look(state) as client:
        uuid = resolve(client, TASK, task)
        print_reasons(client.get(f"/job_tasks/{uuid}/explain"), form)


@command.command(name="log")
@click.argument("task")
@follow_option
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Not the newest one.")
@stream_options
@state_option
def log(
    task: str, follows: bool, attempt: int | None, stream: str | None, state: StateDirectory
) -> None:
    """Print what the newest attempt of TASK wrote.

    Stdout and stderr come in order of arrival. With -f what is being written comes as well,
    also of later attempts, until the task is over.
    """
    with attend(state, follows, say) as (client, follows):
        uuid = resolve(client, TASK, task)
        show_task_log(client, uuid, attempt, stream, follows)


@command.command(name="attempts")
@click.argument("task")
@state_option
@format_option_without_id
def attempts(task: str, state: StateDirectory, form: str) -> None:
    """List the attempts of TASK: when, where, what ended them."""
    with look(state) as client:
        uuid = resolve(client, TASK, task)
        items = client.get(f"/job_tasks/{uuid}/attempts")["items"]
    print_list(items, ATTEMPT_COLUMNS, form)
