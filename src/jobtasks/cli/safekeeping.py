"""``jobtasks admin backup|restore|check``: on a state directory, served or not."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobtasks.cli.databases import Database, database_options
from jobtasks.cli.durations import readable_bytes
from jobtasks.cli.options import format_option_without_id, state_option
from jobtasks.cli.output import print_record
from jobtasks.cli.problems import ExitCode
from jobtasks.cli.state import StateDirectory

if TYPE_CHECKING:
    from jobtasks.api.archives import Backup
    from jobtasks.api.inspection import Findings
    from jobtasks.store.snapshots import Beside

MICROSECONDS = 1_000_000


@click.command(name="backup")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--with-logs", is_flag=True, help="Also what tasks wrote; the end of stderr always.")
@state_option
@format_option_without_id
def backup(file: Path, with_logs: bool, state: StateDirectory, form: str) -> None:
    """Write all that a server keeps into FILE.

    It is as it is at one moment; the server goes on. On its machine, as its user. FILE holds
    every job, user and token, the attachments of jobs, and the secrets: whoever reads it can do
    everything.
    """
    from jobtasks.api import archives

    made = archives.back_up(state.path, file.absolute(), with_logs=with_logs)
    _print_backup(f"wrote {file}", made, form)


@click.command(name="restore")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--allow-network-file-system",
    is_flag=True,
    help="Let the directory lie on NFS, SMB, sshfs and the like, where records may be damaged.",
)
@state_option
@format_option_without_id
def restore(file: Path, allow_network_file_system: bool, state: StateDirectory, form: str) -> None:
    """Make the state directory of a server of the backup FILE.

    The directory must be new or empty. Tasks that ran when the backup was made start again, as
    when their nodes were lost; users, tokens and addresses are as they were.
    """
    from jobtasks.api import archives

    made = archives.restore(file.absolute(), state.path, anywhere=allow_network_file_system)
    _print_backup(f"restored {state.path}", made, form)
    if form == "table":
        click.echo(f"start it with: jobtasks serve{state.option}", err=True)


def _print_backup(did: str, made: Backup, form: str) -> None:
    if form != "table":
        print_record(made._asdict(), form)
        return
    at = datetime.fromtimestamp(made.made_at / MICROSECONDS, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    logs = "with logs" if made.has_logs else "without logs"
    size = readable_bytes(made.bytes)
    click.echo(f"{did}: as of {at}, {made.files} files with {size}, {logs}")


@click.command(name="check")
@state_option
@database_options
@format_option_without_id
def check(state: StateDirectory, database: Database, form: str) -> int:
    """Look through a state directory for damage.

    Exit code 1 when there is any. On the server's machine, as its user. Reads the whole
    database once: minutes for many GiB. Records in PostgreSQL are named as to serve.
    """
    from jobtasks.api.inspection import inspect

    findings = inspect(state.path, _beside(database), database.shared)
    if form == "table":
        _print_findings(findings)
    else:
        print_record(_as_record(findings), form)
    return ExitCode.JOB_FAILED if findings.problems else ExitCode.OK


def _beside(database: Database) -> Beside | None:
    if not database.address:
        return None
    from jobtasks.store.postgres_snapshots import PostgresBeside

    return PostgresBeside(database.address, pooled=database.is_pooled)


def _as_record(findings: Findings) -> dict[str, Any]:
    found = asdict(findings)
    found["contradictions"] = [one._asdict() for one in findings.contradictions]
    found["left_over"] = findings.left_over._asdict()
    return {"sound": not findings.problems, **found}


def _print_findings(findings: Findings) -> None:
    for line in findings.problems:
        click.echo(f"problem: {line}")
    for found in findings.contradictions:
        for row in found.examples:
            click.echo(f"  {found.check}: {' '.join(map(str, row))}")
    for line in findings.damage:
        click.echo(f"  {line}")
    for line in findings.notes:
        click.echo(f"note: {line}")
    if not findings.problems:
        version = f"schema {findings.schema_version}"
        click.echo(f"{findings.state} is sound ({version})")
