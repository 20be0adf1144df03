"""``jobtasks admin export|import``: a job, also an unfinished one, goes to another server."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

import click

from jobtasks.cli.client import Client
from jobtasks.cli.durations import readable_bytes
from jobtasks.cli.options import format_option, state_option
from jobtasks.cli.output import print_record, say
from jobtasks.cli.problems import Problem
from jobtasks.cli.selectors import JOB, resolve
from jobtasks.cli.servers import look
from jobtasks.cli.state import StateDirectory
from jobtasks.core.errors import Conflict, Invalid
from jobtasks.core.job_stream import EndLine, JobLine, Splitter, line_bytes_max
from jobtasks.core.settings import Settings
from jobtasks.core.states import FINAL

PIECE_BYTES = 256 * 1024
LINE_BYTES_MAX = line_bytes_max(Settings().record_bytes_max)
SHOWN_SECONDS = 0.2
"""Between two looks at how far it is."""
GONE_SECONDS = 0.5
"""Between two looks whether a cancelled job has a process left."""
REASON = "moved"
OWNERS = {
    "uuid": "its owner is here",
    "email": "its owner is the user with the same email address",
    "importer": "its owner is unknown here: it is yours",
}


@click.command(name="export")
@click.argument("job")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write there, not to stdout; the file is there when all of it is.",
)
@click.option("--cancel", is_flag=True, help="First cancel it, if it has not ended.")
@state_option
def export(job: str, output: Path | None, cancel: bool, state: StateDirectory) -> None:
    """Write JOB with its tasks, attempts and logs.

    What `jobtasks admin import` reads, at the same or another server. A job that is queued or
    runs would run in two places, so it must be cancelled first. It stays here as it is.
    """
    if output is None and sys.stdout.isatty():
        raise click.UsageError("a terminal cannot take a job: name a file with -o, or pipe it")
    with look(state) as client:
        uuid = resolve(client, JOB, job)
        if cancel:
            _cancel(client, uuid)
        with _target(output) as target, Shown() as shown:
            end = _copy(client, uuid, target, shown)
    where = f" to {output}" if output else ""
    say(f"exported {uuid}{where}: {_counted(end.tasks, end.attempts, end.logs)}")
    if end.logs_incomplete:
        say(f"the logs of {end.logs_incomplete} attempts are not whole on this server")
    if end.packs_missing:
        say("the directory of its script is not on this server any more: it stays behind")


def _cancel(client: Client, uuid: str) -> None:
    """Cancel a job that has not ended, and wait until nothing of it has a process."""
    record = client.get(f"/jobs/{uuid}")
    if record["state"] not in FINAL:
        record = client.post(f"/jobs/{uuid}/cancel", {"reason": REASON})
        say(f"cancelled {uuid}; waiting for its processes to end")
    while record["node_uuids"]:
        time.sleep(GONE_SECONDS)
        record = client.get(f"/jobs/{uuid}")


def _copy(client: Client, uuid: str, target: IO[bytes], shown: Shown) -> EndLine:
    splitter = Splitter(LINE_BYTES_MAX)

    def take(pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            for item in splitter.feed(piece):
                if isinstance(item, JobLine):
                    shown.tasks = item.tasks
            _write(target, piece)
            shown.show("exported", len(piece), splitter.count)

    try:
        client.stream(f"/jobs/{uuid}/export", take)
        end = splitter.close()
    except Conflict:
        raise
    except Invalid as problem:
        raise Problem(f"the export is not whole: {problem}", "export it again") from problem
    with _reader_may_go():
        target.flush()
    return end


def _write(target: IO[bytes], piece: bytes) -> None:
    with _reader_may_go():
        target.write(piece)


@contextlib.contextmanager
def _reader_may_go() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        # Nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Problem(
            "who read the export has ended before it was whole", "see what the reader says"
        ) from None


@contextlib.contextmanager
def _target(output: Path | None) -> Iterator[IO[bytes]]:
    """What is written to: a file gets its name when all went well."""
    if output is None:
        yield sys.stdout.buffer
        return
    with tempfile.NamedTemporaryFile(
        dir=output.absolute().parent, prefix=f".{output.name}.", delete=False
    ) as file:
        try:
            yield file.file
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).rename(output)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


@click.command(name="import")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--resume", is_flag=True, help="Queue it at once, as `jobtasks job retry` does.")
@state_option
@format_option
def import_(file: BinaryIO, resume: bool, state: StateDirectory, form: str) -> None:
    """Read a job that `jobtasks admin export` wrote.

    From FILE or stdin. All of it is there at the end, or nothing: complete tasks stay complete,
    and every uuid is as it was.
    """
    pieces = _pieces(file)
    first = next(pieces, b"")
    if not first:
        raise Problem("there is nothing to import: the stream is empty", "see what its writer says")
    with look(state) as client, Shown() as shown:
        answer = _send(client, first, pieces, resume, shown)
    if form == "table":
        _tell(answer)
        click.echo(answer["uuid"])
    else:
        print_record(answer, form)


def _send(
    client: Client, first: bytes, rest: Iterator[bytes], resume: bool, shown: Shown
) -> dict[str, Any]:
    def body() -> Iterator[bytes]:
        piece: bytes | None = first
        while piece:
            yield piece
            shown.show("sent", len(piece))
            piece = next(rest, None)

    found: dict[str, Any] = client.send("/jobs/import", body(), resume=resume or None)
    return found


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    read: Callable[[int], bytes] = getattr(file, "read1", file.read)
    while piece := read(PIECE_BYTES):
        yield piece


def _tell(answer: dict[str, Any]) -> None:
    counted = _counted(answer["tasks"], answer["attempts"], answer["logs"])
    say(f"imported {answer['uuid']}, {answer['state']}: {counted}")
    say(OWNERS[answer["owner"]])
    if "submit_id" in answer["left"]:
        say("its submit_id means another job here: it has none any more")
    if answer["logs_incomplete"]:
        say(f"the logs of {answer['logs_incomplete']} attempts did not come whole")
    if answer.get("scripts") == "missing":
        say("the directory of its script did not come: what runs is what has its path here")


def _counted(tasks: int, attempts: int, logs: int) -> str:
    return f"{tasks:,} tasks, {attempts:,} attempts, {logs:,} logs"


class Shown:
    """How far it is: a line on stderr that is written again and again, if that is a terminal."""

    def __init__(self) -> None:
        self.tasks: int | None = None
        """How many tasks there are to be, once that is known."""
        self._bytes = 0
        self._is_terminal = sys.stderr.isatty()
        self._at = time.monotonic()

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *error: object) -> None:
        self._line("")

    def show(self, did: str, size: int, records: int = 0) -> None:
        """Note that so many more bytes went by."""
        self._bytes += size
        if time.monotonic() - self._at < SHOWN_SECONDS:
            return
        self._at = time.monotonic()
        counted = f", {records:,} records" if records else ""
        of = f" of a job of {self.tasks:,} tasks" if self.tasks is not None else ""
        self._line(f"{did} {readable_bytes(self._bytes)}{counted}{of}")

    def _line(self, text: str) -> None:
        if self._is_terminal:
            click.echo(f"\r\033[K{text}", err=True, nl=False)
