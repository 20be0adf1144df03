"""One change to several records: what can be done is done, what was refused is told at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from jobtasks.cli.options import Command
from jobtasks.cli.output import Column, Row, print_list
from jobtasks.cli.problems import Problem, exit_code_of, hint_of
from jobtasks.core.errors import RequestError

DRY_RUN = {"dry_run": True}
"""What a call that is only rehearsed carries."""


def dry_run_option(command: Command) -> Command:
    """``--dry-run``: the server checks and answers as ever, and undoes it."""
    return click.option(
        "--dry-run",
        is_flag=True,
        help="Say what would happen; change nothing.",
    )(command)


def rehearsed(dry_run: bool) -> dict[str, bool]:
    """The query of a call that changes something."""
    return DRY_RUN if dry_run else {}


def change_each(
    uuids: Sequence[str],
    call: Callable[[str], dict[str, Any]],
    show: Callable[[list[dict[str, Any]]], None],
) -> None:
    """Call `call` with each uuid, then `show` what came back; raise what was refused.

    One refusal does not keep the others from being done. Of several refusals one `Problem` is made,
    with exit code and code of the first.
    """
    records: list[dict[str, Any]] = []
    refusals: list[tuple[str, RequestError]] = []
    for uuid in uuids:
        try:
            records.append(call(uuid))
        except RequestError as error:
            refusals.append((uuid, error))
    if records:
        show(records)
    if not refusals:
        return
    first = refusals[0][1]
    if len(uuids) == 1:
        raise first
    message = "; ".join(f"{uuid}: {error}" for uuid, error in refusals)
    raise Problem(message, hint_of(first), exit_code_of(first), first.code)


def print_changed(
    records: Sequence[Row],
    columns: Sequence[Column],
    form: str,
    line: Callable[[Row], str],
) -> None:
    """The records in the form asked for; as text a line each, with the uuid before it."""
    if form != "table":
        print_list(records, columns, form)
        return
    for record in records:
        click.echo(f"{record['uuid']} {line(record)}")
