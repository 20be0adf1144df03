"""The options of ``jobtasks serve`` about a database that is not in the state directory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click

SCHEMES = ("postgresql://", "postgres://")


class Database(NamedTuple):
    """Where the records are."""

    address: str
    """What comes after ``--database``; nothing: in the state directory."""
    is_pooled: bool
    shared: Path | None


class Address(click.ParamType[str]):
    """``postgresql://…``, or ``@FILE`` with it inside: other users see command lines."""

    name = "ADDRESS|@FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The address; a file that cannot be read, or anything else, is a usage error."""
        try:
            text = Path(value[1:]).read_text().strip() if value.startswith("@") else value
        except OSError as error:
            self.fail(f"{value[1:]}: {error.strerror}", param, ctx)
        if not text.startswith(SCHEMES):
            self.fail("an address begins with postgresql://", param, ctx)
        return str(text)


_OPTIONS = (
    click.option(
        "--database",
        type=Address(),
        help="Keep records in PostgreSQL, which several servers may share. Without it: in --state.",
    ),
    click.option(
        "--database-pooled",
        is_flag=True,
        help="A pooler stands before it that hands out connections by transactions.",
    ),
    click.option(
        "--shared",
        type=click.Path(file_okay=False, path_type=Path),
        help="The directory of keys, tokens and logs that all servers of the database see.",
    ),
)


def database_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options; it gets all as one argument, `database`."""

    @functools.wraps(command)
    def with_database(
        *, database: str | None, database_pooled: bool, shared: Path | None, **others: Any
    ) -> Any:
        if not database and (database_pooled or shared is not None):
            raise click.UsageError("--database-pooled and --shared need --database")
        return command(database=Database(database or "", database_pooled, shared), **others)

    result: Callable[..., Any] = with_database
    for option in reversed(_OPTIONS):
        result = option(result)
    return result
