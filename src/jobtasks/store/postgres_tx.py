"""Named statements on a connection to PostgreSQL (see `Tx`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import psycopg

from jobtasks.store.base import Value, Values
from jobtasks.store.dialect import composed, load_postgres_statements
from jobtasks.store.named import NamedStatements

T = TypeVar("T")
COMPOSED_MAX = 2000
"""Statements composed for lists whose spelling is remembered."""
spelling = lru_cache(COMPOSED_MAX)(composed)


class PostgresTx(NamedStatements):
    """One transaction; the cursor is another one after the connection was lost."""

    def __init__(self, cursor: psycopg.Cursor[tuple[Any, ...]] | None = None) -> None:
        statements = load_postgres_statements().items()
        super().__init__({name: statement.sql for name, statement in statements}, self._on_cursor)
        self.cursor = cursor
        self.hints: list[str] = []
        """Whom to have woken by other servers when this is committed."""

    def run_many(self, query: str, rows: Iterable[Values], /) -> int:
        """Execute a write once per row of values; return how many rows changed in all."""
        given = list(rows)
        if not given:
            return 0
        if len(given) == 1:
            return self._on_cursor(self.statements[query], given[0]).rowcount
        self._cursor.executemany(self.statements[query], given)
        return self._cursor.rowcount

    def add(self, query: str, /, **values: Value) -> int:
        """Execute an insert and return the new row's id."""
        row = self._on_cursor(f"{self.statements[query]} RETURNING id", values).fetchone()
        assert row is not None
        return int(row[0])

    def lock_jobs(self, job_ids: Iterable[int], /) -> None:
        """Do nothing: who writes has the lock of the whole database (store/postgres.py)."""

    def hint(self, topics: Iterable[str], /) -> None:
        """Have other servers be told, after the commit, whom to wake there."""
        self.hints.extend(topics)

    def text(self, statement: str, values: Mapping[str, Value], /) -> list[tuple[Any, ...]]:
        """Run a reading statement composed by the store package itself."""
        cursor = self._on_cursor(spelling(statement), values)
        return cursor.fetchall() if cursor.description else []

    @property
    def _cursor(self) -> psycopg.Cursor[tuple[Any, ...]]:
        assert self.cursor is not None, "no transaction was begun"
        return self.cursor

    def _on_cursor(self, sql: str, values: Values) -> psycopg.Cursor[tuple[Any, ...]]:
        return self._cursor.execute(sql, values)
