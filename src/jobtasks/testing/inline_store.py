"""The store without a thread: each piece of work is committed in the caller's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from jobtasks.core.errors import Unavailable
from jobtasks.store.base import StoreSpace, Tx
from jobtasks.store.pause import Pause
from jobtasks.store.sqlite import SqliteTx, migrate
from jobtasks.testing.service import copy_schema

T = TypeVar("T")


class InlineStore:
    """A SQLite database with the statements of the real store, one piece of work a commit.

    `full` says that the disk takes nothing; `after_commit` is called with a reading transaction
    after every commit that changed something. By default the database lives in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._connection = sqlite3.connect(
            path or ":memory:", isolation_level=None, cached_statements=1000
        )
        if path is None:
            copy_schema(self._connection)
        else:
            migrate(self._connection)
        self._tx = SqliteTx(self._connection)
        self.after_commit: Callable[[Tx], None] = lambda tx: None
        self.pause = Pause("database")
        self.full = False

    def spoil(self, query: str, old: str, new: str) -> None:
        """Replace a part of a statement by another: what is to be found must be put in first."""
        sql = self._tx.statements[query]
        assert old in sql, f"{query} has no {old!r}"
        self._tx.statements[query] = sql.replace(old, new)

    @property
    def changes(self) -> int:
        """Rows that were ever changed, also by what was rolled back."""
        return self._connection.total_changes

    def write(self, work: Callable[[Tx], T], /, *, ahead: bool = False) -> Future[T]:
        """Run `work` and commit; errors of `work` are in the future, with nothing stored."""
        future: Future[T] = Future()
        if self.full:
            self.pause.failures += 1
            future.set_exception(Unavailable("The database cannot be written: it is full"))
            return future
        before = self.changes
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._tx)
        except Exception as error:
            self._connection.execute("ROLLBACK")
            future.set_exception(error)
            return future
        self._connection.execute("COMMIT")
        if self.changes != before:
            self.after_commit(self._tx)
        future.set_result(result)
        return future

    def read(self, work: Callable[[Tx], T], /) -> T:
        """Run `work` on what is committed."""
        return work(self._tx)

    def space(self) -> StoreSpace:
        """Return nothing: it takes no disk."""
        return StoreSpace(0, 0)

    def shrink(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Close the database."""
        self._connection.close()
