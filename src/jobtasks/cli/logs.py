"""``jobtasks logs``: what a job or a task has written; ``job log``, ``task log`` are its halves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import click

from jobtasks.cli.client import Client
from jobtasks.cli.log_reading import LogReader, Place, attempts_after, follow
from jobtasks.cli.options import Command, color_option, state_option
from jobtasks.cli.output import say
from jobtasks.cli.problems import ExitCode, Problem
from jobtasks.cli.selectors import JOB, LAST, TASK, noun_of, resolve
from jobtasks.cli.servers import attend
from jobtasks.cli.state import StateDirectory
from jobtasks.core.errors import NotFound
from jobtasks.protocol.frames import NOTE, STDERR, STDOUT

MARKS = {
    None: frozenset((STDOUT, STDERR, NOTE)),
    "stdout": frozenset((STDOUT,)),
    "stderr": frozenset((STDERR,)),
}
"""Frames to show by the name of a stream; None: both, and what the agent remarked."""


def stream_options(command: Command) -> Command:
    """``--stdout``, ``--stderr`` and ``--stream``: only one of the streams."""
    options: list[Callable[[Command], Command]] = [
        click.option("--stdout", "stream", flag_value="stdout", help="Only stdout."),
        click.option("--stderr", "stream", flag_value="stderr", help="Only stderr."),
        click.option("--stream", "stream", type=click.Choice(["stdout", "stderr"]), hidden=True),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def follow_option(command: Command) -> Command:
    """``-f``: go on until nothing more can come."""
    return click.option("-f", "--follow", "follows", is_flag=True, help="Wait for more.")(command)


class LinePrinter:
    """Prints lines with the task's number and the attempt's before each: ``17.1 | line``."""

    def __init__(self, target: BinaryIO, stream: str | None, in_turn: bool, colored: bool) -> None:
        self._target = target
        self._marks = MARKS[stream]
        self._in_turn = in_turn
        self._colored = colored
        self._begun: dict[tuple[Place, bytes], bytes] = {}
        self._last: Place | None = None

    def take(self, place: Place, mark: bytes, content: bytes) -> None:
        """Print the lines that are whole; the rest waits for its end."""
        if self._in_turn and self._last not in (None, place):
            self.close_last()
        self._last = place
        if mark not in self._marks:
            return
        lines = (self._begun.pop((place, mark), b"") + content).split(b"\n")
        if lines[-1]:
            self._begun[place, mark] = lines[-1]
        prefix = self._prefix(place)
        self._target.writelines(prefix + line + b"\n" for line in lines[:-1])

    def close(self, place: Place) -> None:
        """Print what an attempt left without a line's end."""
        for key in [key for key in self._begun if key[0] == place]:
            self._target.write(self._prefix(place) + self._begun.pop(key) + b"\n")

    def close_last(self) -> None:
        """Do the same for the attempt that was read last."""
        if self._last is not None:
            self.close(self._last)

    def flush(self) -> None:
        """Let the reader of our output have it."""
        self._target.flush()

    def _prefix(self, place: Place) -> bytes:
        text = f"{place[0]}.{place[1]} | "
        return (click.style(text, dim=True) if self._colored else text).encode()


class RawPrinter:
    """Prints bytes as they are; says on stderr when another attempt begins."""

    def __init__(self, target: BinaryIO, stream: str | None) -> None:
        self._target = target
        self._marks = MARKS[stream]
        self._last: Place | None = None

    def take(self, place: Place, mark: bytes, content: bytes) -> None:
        """Print it."""
        if self._last not in (None, place):
            self.flush()
            click.echo(f"(attempt {place[1]})", err=True)
        self._last = place
        if mark in self._marks:
            self._target.write(content)

    def close(self, place: Place) -> None:
        """Nothing is held back."""

    def flush(self) -> None:
        """Let the reader of our output have it."""
        self._target.flush()


@click.command(name="logs")
@click.argument("what", metavar="[JOB|TASK]", default=LAST)
@follow_option
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Of a task: this one.")
@click.option("--failed", is_flag=True, help="Of a job: only tasks that failed for good.")
@stream_options
@state_option
@color_option
def command(
    what: str,
    follows: bool,
    attempt: int | None,
    failed: bool,
    stream: str | None,
    state: StateDirectory,
) -> None:
    """Print what JOB or TASK has written; by default your newest job.

    Of a job each line begins with the numbers of its task and its attempt; `JOB/NUMBER` names that
    task: `jobtasks logs @last/17`.
    """
    with attend(state, follows, say) as (client, follows):
        kind, uuid = _resolve_either(client, what)
        if kind is TASK and failed:
            raise click.UsageError("--failed is for the log of a job.")
        if kind is JOB and attempt:
            raise click.UsageError("--attempt is for the log of a task.")
        if kind is TASK:
            show_task_log(client, uuid, attempt, stream, follows)
        else:
            show_job_log(client, uuid, failed, stream, follows)


def _resolve_either(client: Client, what: str) -> tuple[Any, str]:
    """The kind and uuid of what is named: a job wins where both could be meant."""
    noun = noun_of(what) or (TASK if "/" in what else JOB)
    if noun is not JOB or noun_of(what):
        return noun, resolve(client, noun, what)
    try:
        return JOB, resolve(client, JOB, what)
    except Problem as error:
        if error.code_to_exit_with is not ExitCode.NOT_FOUND or what == LAST:
            raise
        return TASK, resolve(client, TASK, what)


def show_task_log(
    client: Client, uuid: str, attempt: int | None, stream: str | None, follows: bool
) -> None:
    """Print an attempt's log as it is, the newest's by default; or follow it, and later ones."""
    target = sys.stdout.buffer
    if not follows:
        client.copy(f"/job_tasks/{uuid}/log", target, attempt=attempt, stream=stream)
        return
    record = client.get(f"/job_tasks/{uuid}", select=["job_uuid", "qsequence"])
    job, number = record["job_uuid"], record["qsequence"]
    reader = LogReader(client, job, RawPrinter(target, stream))
    follow(client, job, reader, _NewOfTask(client, uuid, number, attempt))


class _NewOfTask:
    """Finds the attempts of a task to follow: one that is named, or the newest and later ones."""

    def __init__(self, client: Client, task: str, number: int, attempt: int | None) -> None:
        self._client = client
        self._path = f"/job_tasks/{task}"
        self._number = number
        self._attempt = attempt
        self._seen = 0

    def __call__(self) -> tuple[list[Place], bool]:
        state = self._client.get(self._path, select=["state"])["state"]
        items = self._client.get(f"{self._path}/attempts")["items"]
        numbers = [item["number"] for item in items]
        if self._attempt is not None:
            if self._attempt not in numbers:
                raise NotFound("This task has no such attempt.")
            numbers = [self._attempt]
        elif not self._seen:
            numbers = numbers[-1:]
        new = [number for number in numbers if number > self._seen]
        self._seen = max([self._seen, *new])
        is_last = self._attempt is not None or state in ("complete", "failed")
        return [(self._number, number) for number in new], is_last


def show_job_log(
    client: Client, uuid: str, failed: bool, stream: str | None, follows: bool
) -> None:
    """Print the logs of a job's attempts together, each line with its task's number before it."""
    if follows and failed:
        raise click.UsageError("--failed is for a job that is over: without --follow.")
    printer = LinePrinter(sys.stdout.buffer, stream, not follows, _uses_color())
    reader = LogReader(client, uuid, printer)
    if follows:
        follow(client, uuid, reader, _NewOfJob(client, uuid))
        return
    reader.read(_in_order(client, uuid, failed))
    printer.close_last()
    printer.flush()


class _NewOfJob:
    """Finds the attempts of a job that began since it was asked last."""

    def __init__(self, client: Client, job: str) -> None:
        self._client = client
        self._job = job
        self._after = 0

    def __call__(self) -> tuple[list[Place], bool]:
        found, self._after = attempts_after(self._client, self._job, self._after)
        return [place for _, place in found], False


def _in_order(client: Client, job: str, failed: bool) -> list[Place]:
    """A job's attempts by sequence, number of task and number; of failed tasks only, if asked."""
    found, _ = attempts_after(client, job, 0)
    if failed:
        filters = [["job_uuid", "=", job], ["success", "=", False]]
        answer = client.pages("/job_tasks", sys.maxsize, filters=filters, select=["qsequence"])
        chosen = {task["qsequence"] for task in answer["items"]}
        found = [each for each in found if each[1][0] in chosen]
    return [place for _, place in sorted(found)]


def _uses_color() -> bool:
    chosen = click.get_current_context().color
    return sys.stdout.isatty() if chosen is None else chosen
