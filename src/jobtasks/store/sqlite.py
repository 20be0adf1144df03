"""The store on SQLite: WAL, ``synchronous=FULL``, one writer that commits in groups.

The writer thread takes whatever work has gathered while the last group was being committed, runs
each piece in a savepoint, commits once, and only then answers. No timers: a lone write is
committed at once, a crowd shares one fsync. A group ends early when its pieces are large, so that
nobody waits for the answers of many others; agents go ahead (store/lines.py).
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from jobtasks.core.errors import JobTasksError, Unavailable
from jobtasks.store.base import StoreSpace, Tx, Value, Values
from jobtasks.store.lines import Lines
from jobtasks.store.pause import Pause, has_room, is_about_storage
from jobtasks.store.statements import load_migrations, load_statements

T = TypeVar("T")
GROUP_MAX = 256
"""Pieces of work in one commit."""
GROUP_SECONDS = 0.02
"""A group that has worked so long takes no further piece: its answers are not held back for it."""
AHEAD_BYTES_MAX = 64 * 1024 * 1024
"""To what the write-ahead log is cut when it begins anew; one large write may make it longer."""
CHECKPOINTS_MAX = 20
CHECKPOINT_SECONDS = 0.1
"""Between two tries to empty it at once; writers that never pause do so by and by."""
BUSY_SECONDS = 30.0
"""How long a connection waits for another process (a backup) to release the database."""

logger = logging.getLogger(__name__)


class SqliteTx:
    """Named statements on one connection (see `Tx`)."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._execute_many = connection.executemany
        self.statements = {name: statement.sql for name, statement in load_statements().items()}
        """SQL by name."""

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
        return self._execute(self.statements[query], values).rowcount

    def run_many(self, query: str, rows: Iterable[Values], /) -> int:
        """Execute a write once per row of values; return how many rows changed in all."""
        return self._execute_many(self.statements[query], rows).rowcount

    def add(self, query: str, /, **values: Value) -> int:
        """Execute an insert and return the new row's id."""
        rowid = self._execute(self.statements[query], values).lastrowid
        assert rowid is not None
        return rowid

    def lock_jobs(self, job_ids: Iterable[int], /) -> None:
        """Do nothing: the one writer holds the whole database."""

    def text(self, statement: str, values: Mapping[str, Value], /) -> list[tuple[Any, ...]]:
        """Run a reading statement composed by the store package itself."""
        return self._execute(statement, values).fetchall()


Piece = tuple[Callable[[Tx], Any], "Future[Any]"]


class SqliteStore:
    """A SQLite database file (see `Store`); `prepare` brings its schema up to date."""

    def __init__(
        self, path: Path, prepare: Callable[[sqlite3.Connection], None] | None = None
    ) -> None:
        self._path = path
        self.committed: Callable[[float, int], None] = _nobody_counts
        self.pause = Pause("database")
        self._writer = self._connect()
        try:
            (prepare or migrate)(self._writer)
        except BaseException:
            self._writer.close()
            raise
        self._tx = SqliteTx(self._writer)
        self._lines: Lines[Piece] = Lines()
        self._readers = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False
        self._accepting = threading.Lock()
        self._thread = threading.Thread(target=self._write_groups, name="store-writer", daemon=True)
        self._thread.start()

    def write(self, work: Callable[[Tx], T], /, *, ahead: bool = False) -> Future[T]:
        """Run `work` in a savepoint of the next group; done when the group is on disk."""
        future: Future[T] = Future()
        with self._accepting:
            if not self._closed:
                self._lines.put((work, future), ahead=ahead)
                return future
        future.set_exception(Unavailable("The server is ending."))
        return future

    def read(self, work: Callable[[Tx], T], /) -> T:
        """Run `work` on a snapshot in the calling thread."""
        try:
            connection, tx = self._reader()
            connection.execute("BEGIN")
            try:
                return work(tx)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            if not is_about_storage(error):
                raise
            logger.error("the database cannot be read: %s", error)
            raise Unavailable(f"The database cannot be read: {error}") from None

    def space(self) -> StoreSpace:
        """Return what the file and its write-ahead log take."""
        connection, _ = self._reader()
        count, free, size = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        ahead = self._path.with_name(self._path.name + "-wal")
        ahead_bytes = ahead.stat().st_size if ahead.exists() else 0
        return StoreSpace(count * size + ahead_bytes, free * size)

    def shrink(self) -> None:
        """Write the file anew without unused pages; needs as much free disk as what is left."""
        connection = self._connect()
        try:
            connection.execute("VACUUM")
            # The new pages stand in the write-ahead log; writers may be in the way for a moment.
            for _ in range(CHECKPOINTS_MAX):
                if not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    break
                time.sleep(CHECKPOINT_SECONDS)
        except sqlite3.Error as error:
            raise Unavailable(f"The database could not be shrunk: {error}") from None
        finally:
            connection.close()

    def close(self) -> None:
        """Finish what was accepted and close the database."""
        with self._accepting:
            self._closed = True
            self._lines.close()
        self._thread.join()
        for connection in [*self._connections, self._writer]:
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=1024,
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {AHEAD_BYTES_MAX}")
            connection.execute("PRAGMA cache_size = -65536")
        except BaseException:
            connection.close()
            raise
        return connection

    def _reader(self) -> tuple[sqlite3.Connection, SqliteTx]:
        if not hasattr(self._readers, "pair"):
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
            self._connections.append(connection)
            self._readers.pair = (connection, SqliteTx(connection))
        pair: tuple[sqlite3.Connection, SqliteTx] = self._readers.pair
        return pair

    def _write_groups(self) -> None:
        while (piece := self._lines.take()) is not None:
            self._write_group(piece)

    def _write_group(self, first: Piece) -> None:
        if self.pause.reason and not has_room(self._path.parent):
            self._abandon([first], self.pause.reason)
            return
        answers: list[tuple[Future[Any], Any, BaseException | None]] = []
        failures = self.pause.failures
        group: list[Piece] = []
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for work, future in self._group(first, group):
                if future.set_running_or_notify_cancel():
                    answers.append((future, *self._run_piece(work)))
            began = time.perf_counter()
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            self._abandon(group or [first], str(error))
            return
        if failures == self.pause.failures:
            self.pause.end()
        self.committed(time.perf_counter() - began, len(answers))
        for future, result, problem in answers:
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(problem)

    def _group(self, first: Piece, group: list[Piece]) -> Iterator[Piece]:
        """Yield `first` and what waits by the time it is its turn; note each in `group`."""
        until = time.monotonic() + GROUP_SECONDS
        piece: Piece | None = first
        while piece is not None:
            group.append(piece)
            yield piece
            is_full = len(group) == GROUP_MAX or time.monotonic() >= until
            piece = None if is_full or self._lines.is_empty() else self._lines.take()

    def _run_piece(self, work: Callable[[Tx], Any]) -> tuple[Any, BaseException | None]:
        """Run one piece in a savepoint; an error that ends the transaction ends the whole group."""
        self._writer.execute("SAVEPOINT piece")
        result: Any = None
        problem: BaseException | None = None
        try:
            result = work(self._tx)
        except BaseException as error:
            problem = self._problem(error)
            self._writer.execute("ROLLBACK TO piece")
        self._writer.execute("RELEASE piece")
        return result, problem

    def _problem(self, error: BaseException) -> BaseException:
        """Return what the caller of a failed piece is told; what is our mistake is logged."""
        if isinstance(error, sqlite3.Error) and is_about_storage(error):
            if not self._writer.in_transaction:
                raise error
            self.pause.fail(str(error))
            return Unavailable(f"The database cannot be written: {error}")
        if not isinstance(error, JobTasksError):
            logger.error("a write failed and was rolled back", exc_info=error)
        return error

    def _abandon(self, group: list[Piece], reason: str) -> None:
        """Roll back a group that could not be committed; nobody in it was answered yet."""
        self.pause.fail(reason)
        if self._writer.in_transaction:
            # When this fails, too, the next group's begin fails and comes here again.
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
        for _, future in group:
            if not future.done():
                if not future.running():
                    future.set_running_or_notify_cancel()
                future.set_exception(Unavailable(f"The database cannot be written: {reason}"))


def _nobody_counts(seconds: float, pieces: int) -> None:
    """Take no note of a commit."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date, each migration in one transaction; refuse a newer database."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    migrations = load_migrations()
    newest = migrations[-1][0]
    if version > newest:
        raise Unavailable(
            f"The database has schema {version}, this program knows {newest}: it was written by a"
            " newer version."
        )
    for number, script in migrations:
        if number > version:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;"
            )
