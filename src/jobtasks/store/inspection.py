"""A look at a database file from beside, whether a server uses it or not; nothing is changed."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

from jobtasks.store.statements import load_migrations

BUSY_SECONDS = 5.0
STEPS = 100_000
"""Of the virtual machine, between two looks at the clock."""


class Inspection(NamedTuple):
    """What was found."""

    version: int
    """Of the schema; 0: nothing is in it yet."""
    newest_version: int
    """What this program knows."""
    bytes: int
    problems: list[str]
    """What is damaged, in SQLite's words."""
    is_finished: bool
    """Whether all of it was looked at in time."""


def inspect(path: Path, seconds: float) -> Inspection:
    """Check a database for damage, for at most so many seconds.

    Errors: sqlite3.Error when it cannot be opened or is no database.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", BUSY_SECONDS, uri=True)
    try:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        count, size = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "page_size")
        )
        problems = _problems(connection, time.monotonic() + seconds)
    finally:
        connection.close()
    newest = load_migrations()[-1][0]
    return Inspection(version, newest, count * size, problems or [], problems is not None)


def _problems(connection: sqlite3.Connection, until: float) -> list[str] | None:
    """Return what is damaged; None when the time was over first."""
    connection.set_progress_handler(lambda: time.monotonic() > until, STEPS)
    try:
        found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(10)")]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return None
        raise
    return [] if found == ["ok"] else found
