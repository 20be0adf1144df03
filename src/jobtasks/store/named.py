"""Statements by their names, and rows as records: what transactions of all databases do alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, TypeVar

from jobtasks.store.base import Value, Values
from jobtasks.store.statements import ROWS_PER_STATEMENT, of_many_rows

T = TypeVar("T")


class NamedStatements(ABC):
    """A part of a `Tx`: reads, writes of one row, inserts of many."""

    clock_ahead = 0

    def __init__(self, statements: dict[str, str], execute: Callable[[str, Values], Any]) -> None:
        """`execute` runs SQL with values and returns a cursor."""
        self.statements = statements
        """SQL by name."""
        self._execute = execute

    def one(self, shape: Callable[..., T], query: str, /, **values: Value) -> T | None:
        """Return ``shape(*row)`` for the first row, None when there is none."""
        row = self._execute(self.statements[query], values).fetchone()
        return None if row is None else shape(*row)

    def all(self, shape: Callable[..., T], query: str, /, **values: Value) -> list[T]:
        """Return ``shape(*row)`` for every row."""
        return [shape(*row) for row in self._execute(self.statements[query], values)]

    def value(self, query: str, /, **values: Value) -> Any:
        """Return the first column of the first row, None when there is none."""
        row = self._execute(self.statements[query], values).fetchone()
        return None if row is None else row[0]

    def run(self, query: str, /, **values: Value) -> int:
        """Execute a write; return how many rows it changed."""
        changed: int = self._execute(self.statements[query], values).rowcount
        return changed

    @abstractmethod
    def run_many(self, query: str, rows: Iterable[Values], /) -> int:
        """Execute a write once per row of values; return how many rows changed in all."""

    def add_many(self, query: str, rows: Sequence[Sequence[Value]], /) -> None:
        """Execute an insert of one row for many rows, many in one statement.

        A statement of its own for each row takes twice the time, and hands the interpreter over as
        often as there are rows: each time a busy event loop may keep it for a while.
        """
        sql = self.statements[query]
        whole = len(rows) - len(rows) % ROWS_PER_STATEMENT
        for first in range(0, whole, ROWS_PER_STATEMENT):
            values = chain.from_iterable(rows[first : first + ROWS_PER_STATEMENT])
            self._execute(of_many_rows(sql), tuple(values))
        if whole < len(rows):
            self.run_many(query, rows[whole:])
