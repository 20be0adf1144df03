"""The store on SQLite: WAL, ``synchronous=FULL``, one writer that commits in groups.

Whatever work has gathered while the last group was being committed is the next group
(store/groups.py). No timers: a lone write is committed at once, a crowd shares one fsync; agents go
ahead (store/lines.py). Who runs the groups: store/drivers.py.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from jobtasks.core.errors import Unavailable
from jobtasks.store.base import StoreSpace, Tx, Value, Values
from jobtasks.store.groups import BUSY_SECONDS, SqliteWriter
from jobtasks.store.named import NamedStatements
from jobtasks.store.pause import Pause, is_about_storage
from jobtasks.store.serving import Serving
from jobtasks.store.statements import by_place, load_migrations, load_statements

T = TypeVar("T")
AHEAD_BYTES_MAX = 64 * 1024 * 1024
"""To what the write-ahead log is cut when it begins anew; one large write may make it longer."""
CHECKPOINT_PAGES = 4096
"""So many pages (16 MiB) ahead are written back together: most have changed many times by then."""
WRITER_CACHE_KIB = 16 * 1024
READER_CACHE_KIB = 8 * 1024
"""Each reading thread has a connection, so a cache, of its own; what it lacks, the kernel has."""
CHECKPOINTS_MAX = 20
CHECKPOINT_SECONDS = 0.1
"""Between two tries to empty it at once; writers that never pause do so by and by."""

logger = logging.getLogger(__name__)


class SqliteTx(NamedStatements):
    """Named statements on one connection (see `Tx`)."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        statements = {name: statement.sql for name, statement in load_statements().items()}
        super().__init__(statements, connection.execute)
        self._execute_many = connection.executemany

    def run_many(self, query: str, rows: Iterable[Values], /) -> int:
        """Execute a write once per row of values; return how many rows changed in all."""
        sql, values_of = by_place(self.statements[query])
        return self._execute_many(sql, map(values_of, rows)).rowcount

    def add(self, query: str, /, **values: Value) -> int:
        """Execute an insert and return the new row's id."""
        rowid: int | None = self._execute(self.statements[query], values).lastrowid
        assert rowid is not None
        return rowid

    def lock_jobs(self, job_ids: Iterable[int], /) -> None:
        """Do nothing: the one writer holds the whole database."""

    def hint(self, topics: Iterable[str], /) -> None:
        """Do nothing: no other server uses the database."""

    def text(self, statement: str, values: Mapping[str, Value], /) -> list[tuple[Any, ...]]:
        """Run a reading statement composed by the store package itself."""
        rows: list[tuple[Any, ...]] = self._execute(statement, values).fetchall()
        return rows


class SqliteStore(Serving):
    """A SQLite database file (see `Store`); `prepare` brings its schema up to date."""

    def __init__(
        self, path: Path, prepare: Callable[[sqlite3.Connection], None] | None = None
    ) -> None:
        self._path = path
        self.pause = Pause("database")
        self._connection = self._connect()
        try:
            (prepare or migrate)(self._connection)
            # Who may wait does so by himself (store/groups.py).
            self._connection.execute("PRAGMA busy_timeout = 0")
        except BaseException:
            self._connection.close()
            raise
        self._writer = SqliteWriter(
            self._connection, SqliteTx(self._connection), path.parent, self.pause
        )
        super().__init__(self._writer)
        self._readers = threading.local()
        self._connections: list[sqlite3.Connection] = []

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
        super().close()
        for connection in [*self._connections, self._connection]:
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
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            # Else what a savepoint would restore goes through a file of its own.
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _reader(self) -> tuple[sqlite3.Connection, SqliteTx]:
        if not hasattr(self._readers, "pair"):
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
            connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
            self._connections.append(connection)
            self._readers.pair = (connection, SqliteTx(connection))
        pair: tuple[sqlite3.Connection, SqliteTx] = self._readers.pair
        return pair


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
