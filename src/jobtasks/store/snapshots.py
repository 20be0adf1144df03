"""A database looked at from beside, while servers use it: checked, and a file copied whole."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from jobtasks.core.errors import Unavailable
from jobtasks.store.base import Tx
from jobtasks.store.groups import BUSY_SECONDS
from jobtasks.store.sqlite import SqliteTx
from jobtasks.store.statements import load_migrations

T = TypeVar("T")
DAMAGE_LINES_MAX = 20
"""What is told of a damaged database."""


class Unreadable(Unavailable):
    """The database cannot be read."""


class Beside(Protocol):
    """A database that others use; every method may raise `Unreadable`."""

    name: str
    """What people know it by; never a password."""

    def schema_version(self) -> int:
        """Return the number of the last migration that it had."""
        ...

    def damage(self) -> list[str]:
        """Return what the database itself finds wrong; [] when nothing is, or it cannot tell."""
        ...

    def look(self, work: Callable[[Tx], T]) -> T:
        """Run `work`, which only reads, on what is committed at one moment."""
        ...


class FileBeside:
    """A SQLite file (see `Beside`)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)

    def schema_version(self) -> int:
        """Return the number of the last migration that it had."""
        return schema_version(self._path)

    def damage(self) -> list[str]:
        """Return what SQLite finds wrong with pages and indices; [] when nothing is."""
        with _beside(self._path) as connection:
            statement = f"PRAGMA integrity_check({DAMAGE_LINES_MAX})"
            lines = [str(row[0]) for row in connection.execute(statement)]
        return [] if lines == ["ok"] else lines

    def look(self, work: Callable[[Tx], T]) -> T:
        """Run `work`, which only reads, on what is committed at one moment."""
        with _beside(self._path) as connection:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            return work(SqliteTx(connection))


def copy(database: Path, target: Path) -> None:
    """Write what is committed at one moment into a new file, without holding up who writes.

    Raises:
        Unreadable: there is no database, or it or the target's disk is at fault.
    """
    with _beside(database) as connection:
        connection.execute("VACUUM INTO ?", (str(target),))


def schema_version(database: Path) -> int:
    """Return the number of the last migration that a database had; `Unreadable` when it is none."""
    with _beside(database) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def newest_version() -> int:
    """Return the number of the last migration that this program knows."""
    return load_migrations()[-1][0]


@contextlib.contextmanager
def _beside(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection that makes no database and changes no schema."""
    try:
        connection = sqlite3.connect(
            f"{database.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
        )
        with contextlib.closing(connection):
            yield connection
    except sqlite3.Error as error:
        raise Unreadable(f"cannot read {database}: {error}") from None
