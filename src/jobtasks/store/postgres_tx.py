"""Named statements on a connection to PostgreSQL (see `Tx`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, TypeVar

import psycopg

from jobtasks.store.base import Value, Values
from jobtasks.store.dialect import composed, load_postgres_statements
from jobtasks.store.statements import ROWS_PER_STATEMENT, of_many_rows

T = TypeVar("T")
COMPOSED_MAX = 2000
"""Statements composed for lists whose spelling is remembered."""
spelling = lru_cache(COMPOSED_MAX)(composed)


class PostgresTx:
    """One transaction; the cursor is another one after the connection was lost."""

    def __init__(self, cursor: psycopg.Cursor[tuple[Any, ...]] | None = None) -> None:
        self.cursor = cursor
        self.clock_ahead = 0
        self.hints: list[str] = []
        """Whom to have woken by other servers when this is committed."""
        self.statements = {
            name: statement.sql for name, statement in load_postgres_statements().items()
        }
        """SQL by name."""

    def one(self, shape: Callable[..., T], query: str, /, **values: Value) -> T | None:
        """Return ``shape(*row)`` for the first row, None when there is none."""
        row = self._execute(self.statements[query], values).fetchone()
        return None if row is None else shape(*row)

    def all(self, shape: Callable[..., T], query: str, /, **values: Value) -> list[T]:
        """Return ``shape(*row)`` for every row."""
        rows = self._execute(self.statements[query], values).fetchall()
        return [shape(*row) for row in rows]

    def value(self, query: str, /, **values: Value) -> Any:
        """Return the first column of the first row, None when there is none."""
        row = self._execute(self.statements[query], values).fetchone()
        return None if row is None else row[0]

    def run(self, query: str, /, **values: Value) -> int:
        """Execute a write; return how many rows it changed."""
        return self._execute(self.statements[query], values).rowcount

    def run_many(self, query: str, rows: Iterable[Values], /) -> int:
        """Execute a write once per row of values; return how many rows changed in all."""
        given = list(rows)
        if not given:
            return 0
        if len(given) == 1:
            return self._execute(self.statements[query], given[0]).rowcount
        self._cursor.executemany(self.statements[query], given)
        return self._cursor.rowcount

    def add_many(self, query: str, rows: Sequence[Sequence[Value]], /) -> None:
        """Execute an insert of one row for many rows, many in one statement."""
        sql = self.statements[query]
        whole = len(rows) - len(rows) % ROWS_PER_STATEMENT
        for first in range(0, whole, ROWS_PER_STATEMENT):
            values = chain.from_iterable(rows[first : first + ROWS_PER_STATEMENT])
            self._execute(of_many_rows(sql), tuple(values))
        self.run_many(query, rows[whole:])

    def add(self, query: str, /, **values: Value) -> int:
        """Execute an insert and return the new row's id."""
        row = self._execute(f"{self.statements[query]} RETURNING id", values).fetchone()
        assert row is not None
        return int(row[0])

    def lock_jobs(self, job_ids: Iterable[int], /) -> None:
        """Do nothing: who writes has the lock of the whole database (store/postgres.py)."""

    def hint(self, topics: Iterable[str], /) -> None:
        """Have other servers be told, after the commit, whom to wake there."""
        self.hints.extend(topics)

    def text(self, statement: str, values: Mapping[str, Value], /) -> list[tuple[Any, ...]]:
        """Run a reading statement composed by the store package itself."""
        cursor = self._execute(spelling(statement), values)
        return cursor.fetchall() if cursor.description else []

    @property
    def _cursor(self) -> psycopg.Cursor[tuple[Any, ...]]:
        assert self.cursor is not None, "no transaction was begun"
        return self.cursor

    def _execute(self, sql: str, values: Values) -> psycopg.Cursor[tuple[Any, ...]]:
        return self._cursor.execute(sql, values)
