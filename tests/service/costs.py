"""What a piece of work costs: statements, steps of SQLite's virtual machine, pages, rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jobtasks.service.context import Context
from jobtasks.store.sqlite import SqliteTx
from jobtasks.testing.service import LocalService

PAGE_BYTES = 4096


class Cost(NamedTuple):
    """What one piece of work took."""

    result: int
    """How many it claimed, or found."""
    statements: int
    steps: int
    """Of the virtual machine."""
    pages: int
    """Read from the file, the connection's cache being empty."""
    changes: int
    """Rows inserted, updated or deleted."""


def cost_of(service: LocalService, path: Path, work: Callable[[Context], int]) -> Cost:
    """Run `work` in a transaction of a fresh connection, roll it back, return what it took.

    The file must be complete without its write-ahead log, so that each page is read once.
    """
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=1024)
    connection.execute("PRAGMA cache_size = -262144")
    counts = {"statements": 0, "steps": 0}

    def count(kind: str) -> Callable[..., int]:
        def counted(*_: Any) -> int:
            counts[kind] += 1
            return 0

        return counted

    connection.execute("BEGIN IMMEDIATE")
    before = bytes_read()
    connection.set_trace_callback(count("statements"))
    connection.set_progress_handler(count("steps"), 1)
    changes = connection.total_changes
    result = work(service.context(SqliteTx(connection)))
    connection.set_progress_handler(None, 0)
    connection.set_trace_callback(None)
    pages = (bytes_read() - before) // PAGE_BYTES
    cost = Cost(
        result,
        counts["statements"],
        counts["steps"],
        pages,
        connection.total_changes - changes,
    )
    connection.execute("ROLLBACK")
    connection.close()
    return cost


def bytes_read() -> int:
    """Return how many bytes this process has read from files so far."""
    with Path("/proc/self/io").open() as file:
        return int(file.readline().split()[1])
