"""``jobtasks map``: a command for each of many items, here and now."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import click

from jobtasks.cli.client import Client
from jobtasks.cli.failures import cause_of, explain_failure
from jobtasks.cli.hosting import leaving_on_ctrl_c, some_server
from jobtasks.cli.item_outputs import ITEMS_SEQUENCE, ItemOutputs
from jobtasks.cli.items import items_of
from jobtasks.cli.options import Assignment, state_option
from jobtasks.cli.output import printable
from jobtasks.cli.problems import OF_STATE, ExitCode, Problem
from jobtasks.cli.progress import Level, Lines, Meter, meter
from jobtasks.cli.reasons import joining_until, why_idle
from jobtasks.cli.selectors import JOB, resolve
from jobtasks.cli.servers import address_of_environment
from jobtasks.cli.sizes import Size
from jobtasks.cli.state import StateDirectory
from jobtasks.cli.templates import filled, quoted, readable
from jobtasks.cli.waiting import wait_for_end
from jobtasks.core.errors import JobTasksError

LOOK_SECONDS = 0.3
"""How often outputs are looked for."""

LAST_LOOK_SECONDS = 0.05
"""The same when the job is over and only logs are missing."""

IDLE_LOOKS_MAX = 3
"""When nothing has run for longer, the user is told why."""

FAILED_SHOWN_MAX = 5
"""Failed items that are named one by one."""

SEED = "jobtasks_sdk.attached_tasks"
"""The program that makes a task of each line of the attachment."""


class Quiet(Lines):
    """Says what is to be said, shows no progress: the outputs themselves show it."""

    def show(self, levels: Sequence[Level]) -> None:
        """Show nothing."""


@click.command(name="map")
@click.argument("template", required=False, metavar="COMMAND")
@click.argument("words", nargs=-1, metavar="ITEMS... | -")
@click.option("-k", "--keep-order", is_flag=True, help="Print outputs in order of the items.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="So many at a time on a node.")
@click.option(
    "--retries",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Attempts for an item whose command fails.",
)
@click.option("--ram", type=Size(), help="Memory reserved for each, such as 512M or 2G.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="For each."
)
@click.option("-0", "--null", is_flag=True, help="Items of stdin end with NUL, not with a newline.")
@click.option(
    "--workdir",
    metavar="DIR",
    help="Where the commands run; default: the current directory.",
)
@click.option("--env", "variables", multiple=True, metavar="NAME", help="A variable to pass on.")
@click.option("--shell", default="sh", show_default=True, help="What reads the commands.")
@click.option("-p", "parameters", multiple=True, type=Assignment(), help="A script parameter.")
@click.option(
    "-c",
    "constraints",
    multiple=True,
    type=Assignment(),
    metavar="CONSTRAINT=VALUE",
    help="A runtime constraint of the job.",
)
@click.option("--dry-run", is_flag=True, help="Print the commands, run none.")
@click.option("--resume", is_flag=True, help="Take up what an earlier map left (or JOB).")
@state_option
def command(
    template: str | None,
    words: tuple[str, ...],
    keep_order: bool,
    resume: bool,
    dry_run: bool,
    null: bool,
    state: StateDirectory,
    **chosen: Any,
) -> int:
    """Run COMMAND for each of the ITEMS, or for each line of stdin (-), as tasks of a job.

    \b
    COMMAND is for the shell. In it stands
      {}    for the item      {/}   without its folder   {//} for its folder
      {.}   without extension {/.}  without either       {#}  for its number

    Without any of these the item is the last word. What an item's command prints is printed when
    it has ended, whole. The job survives crashes and Ctrl-C: `jobtasks map --resume` goes on.
    """
    if resume:
        if words:
            raise click.UsageError("--resume takes up a job as it is: without items.")
        return _run(state, keep_order, chosen["jobs"], None, template)
    if template is None or not words:
        raise click.UsageError("Give a COMMAND and items, or - to read them from stdin.")
    _check_text("COMMAND", template)
    if dry_run:
        _print_commands(template, items_of(words, null, sys.stdin.buffer))
        return ExitCode.OK
    with tempfile.TemporaryFile() as tasks:
        recipe = _recipe(template, chosen)
        count = write_tasks(tasks, recipe, items_of(words, null, sys.stdin.buffer))
        if not count:
            click.echo("no items: nothing to do", err=True)
            return ExitCode.OK
        body = _job_body(template, count, state, chosen)
        return _run(state, keep_order, chosen["jobs"], (body, tasks), None)


def _check_text(what: str, text: str) -> None:
    if readable(text) != text:
        raise click.UsageError(f"{what} is not UTF-8; items may be.")


def _print_commands(template: str, items: Iterable[str]) -> None:
    for number, item in enumerate(items, start=1):
        sys.stdout.buffer.write(os.fsencode(filled(template, item, number)) + b"\n")


@dataclass(frozen=True)
class Recipe:
    """How an item becomes a task."""

    template: str
    shell: str = "sh"
    setup: str = ""
    """Lines of shell before the command."""
    constraints: dict[str, Any] = field(default_factory=dict)

    def task(self, item: str, number: int) -> dict[str, Any]:
        """The task of one item, as the seed wants it."""
        return {
            "command": [self.shell, "-c", self.setup + filled(self.template, item, number)],
            "parameters": {"item": readable(item)},
            "runtime_constraints": self.constraints,
        }


def _recipe(template: str, chosen: dict[str, Any]) -> Recipe:
    limits = {
        "max_attempts": chosen["retries"],
        "min_ram_per_task": chosen["ram"],
        "max_run_seconds": chosen["timeout"],
    }
    constraints = {name: value for name, value in limits.items() if value is not None}
    setup = _setup(chosen["workdir"], chosen["variables"])
    return Recipe(template, chosen["shell"], setup, constraints)


def write_tasks(target: BinaryIO, recipe: Recipe, items: Iterable[str]) -> int:
    """Write a line of JSON for each item; return how many there are."""
    count = 0
    for count, item in enumerate(items, start=1):
        target.write(json.dumps(recipe.task(item, count)).encode("ascii") + b"\n")
    return count


def _setup(workdir: str | None, variables: tuple[str, ...]) -> str:
    """What the shell does before each command: go where it runs, take the variables."""
    if workdir is not None and not Path(workdir).is_dir():
        raise click.UsageError(f"There is no directory {workdir}.")
    lines = [f"cd {quoted(str(Path(workdir or '.').absolute()))} || exit"]
    for name in variables:
        if name not in os.environ or not name.isidentifier():
            raise click.UsageError(f"There is no variable {name} that a shell could be given.")
        lines.append(f"export {name}={quoted(os.environ[name])}")
    return "\n".join(lines) + "\n"


def _job_body(
    template: str, count: int, state: StateDirectory, chosen: dict[str, Any]
) -> dict[str, Any]:
    # A server elsewhere has nodes of its own, whose Python is called as everywhere.
    python = "python3" if address_of_environment(state) else sys.executable
    constraints = {"on_failure": "continue", **dict(chosen["constraints"])}
    if chosen["jobs"]:
        constraints["max_tasks_per_node"] = chosen["jobs"]
    return {
        "command": [python, "-m", SEED, f"jobtasks map {shlex.quote(template)}"],
        "description": f"map {shlex.quote(template)}: {_items(count)}",
        "script_parameters": dict(chosen["parameters"]),
        "runtime_constraints": constraints,
    }


def _run(
    state: StateDirectory,
    keep_order: bool,
    slots: int | None,
    new: tuple[dict[str, Any], BinaryIO] | None,
    named: str | None,
) -> ExitCode:
    """Run a new job, or go on with the one `named`; print its outputs, report how it ended."""
    # Bars and outputs on one terminal would be torn.
    shown = meter(sys.stderr) if not sys.stdout.isatty() and sys.stderr.isatty() else None
    shown = shown or Quiet(sys.stderr)
    options = ("--slots", str(slots)) if slots else ()
    with some_server(state, shown.say, *options) as (client, is_ours):
        job_uuid = _create(client, *new) if new else _unfinished(client, named, state)
        state.remember_run(job_uuid, "map")
        with leaving_on_ctrl_c(f"jobtasks map --resume{state.option}", is_ours):
            job = _follow(client, job_uuid, keep_order, shown, joining_until(is_ours))
            _report(client, job, state)
    state.forget_run("map")
    return OF_STATE[job["state"]]


def _create(client: Client, body: dict[str, Any], tasks: BinaryIO) -> str:
    """Create the job and attach its list; no job is left whose list did not get through."""
    job_uuid = str(client.post("/jobs", {"job": body})["uuid"])
    try:
        client.put(f"/jobs/{job_uuid}/attachment", tasks)
    except BaseException:
        with contextlib.suppress(JobTasksError):
            client.post(f"/jobs/{job_uuid}/cancel", {"reason": "its list of tasks was not sent"})
        raise
    return job_uuid


def _unfinished(client: Client, named: str | None, state: StateDirectory) -> str:
    """The job to resume: the named one, else the one that the last map left."""
    name = named or state.last_of("map")
    if not name:
        raise Problem(
            "no map is left to resume", "`jobtasks job list` shows all jobs", ExitCode.NOT_FOUND
        )
    return resolve(client, JOB, name)


def _follow(
    client: Client, job_uuid: str, keep_order: bool, shown: Meter, until: float
) -> dict[str, Any]:
    """Print outputs until the job has ended and everything is printed; its last record."""
    shown.say(f"job {job_uuid}")
    outputs = ItemOutputs(client, job_uuid, keep_order, sys.stdout.buffer, _write_error)

    idle_looks = 0

    def look() -> None:
        nonlocal idle_looks
        levels = client.get(f"/jobs/{job_uuid}/levels")["items"]
        shown.show(levels)
        outputs.look()
        idle_looks = 0 if any(level["running"] for level in levels) else idle_looks + 1
        if idle_looks > IDLE_LOOKS_MAX and (why := why_idle(client, job_uuid, until)):
            shown.say(why)

    with shown:
        job = wait_for_end(client, job_uuid, None, LOOK_SECONDS, look)
        while not outputs.look(is_over=True):
            time.sleep(LAST_LOOK_SECONDS)
    return job


def _write_error(data: bytes) -> None:
    """Write to stderr; on a terminal as text, which goes above the bars."""
    if sys.stderr.isatty():
        sys.stderr.write(data.decode("utf-8", "replace"))
        sys.stderr.flush()
    else:
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()


def _report(client: Client, job: dict[str, Any], state: StateDirectory) -> None:
    """Say on stderr what did not succeed, and how to look and to go on."""
    exit_code = OF_STATE[job["state"]]
    if exit_code is ExitCode.OK:
        return
    if exit_code is ExitCode.CANCELLED:
        click.echo(f"job {job['uuid']} was cancelled", err=True)
        return
    levels = client.get(f"/jobs/{job['uuid']}/levels")["items"]
    level = next((level for level in levels if level["sequence"] == ITEMS_SEQUENCE), None)
    if level is None or not level["failed"]:
        for line in explain_failure(client, job, state.option):
            click.echo(line, err=True)
        return
    total = sum(level[name] for name in ("todo", "running", "done", "failed"))
    click.echo(f"{level['failed']} of {_items(total)} failed:", err=True)
    for line in _failed_items(client, job["uuid"]):
        click.echo(line, err=True)
    if level["todo"]:
        click.echo(f"{_items(level['todo'])} did not run", err=True)
    click.echo(f"look: jobtasks job tasks {job['uuid']} --failed{state.option}", err=True)
    click.echo(
        f"again: jobtasks job retry {job['uuid']}{state.option}"
        f" && jobtasks map --resume {job['uuid']}{state.option}",
        err=True,
    )


def _failed_items(client: Client, job_uuid: str) -> Iterable[str]:
    answer = client.get(
        "/job_tasks",
        filters=[["job_uuid", "=", job_uuid], ["success", "=", False]],
        order=["qsequence"],
        limit=FAILED_SHOWN_MAX,
    )
    for task in answer["items"]:
        attempts = client.get(f"/job_tasks/{task['uuid']}/attempts")["items"]
        cause = cause_of(attempts[-1]) if attempts else "it was never started"
        yield f"  {printable(task['parameters'].get('item', task['uuid']))}: {cause}"
    if answer["items_available"] > FAILED_SHOWN_MAX:
        yield f"  and {answer['items_available'] - FAILED_SHOWN_MAX} more"


def _items(count: int) -> str:
    return f"{count} item" + ("" if count == 1 else "s")
