"""One suite for every database: SQLite, PostgreSQL, both as a server's loop works with them."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest
import uvloop
from tests.databases import Cluster

from jobtasks.store import drivers, groups
from jobtasks.store.base import Store
from jobtasks.store.postgres import PostgresStore
from jobtasks.store.serving import Serving
from jobtasks.store.sqlite import SqliteStore

T = TypeVar("T")


@pytest.fixture(autouse=True)
def no_group_ends_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the machine keeps a test standing; where it is the point, a test says so."""
    monkeypatch.setattr(drivers, "LOOP_SECONDS", 60.0)
    monkeypatch.setattr(groups, "GROUP_SECONDS", 60.0)


@dataclass(frozen=True)
class Database:
    """How tests open a database of one kind and look at it from beside."""

    name: str
    open: Callable[[Path], Store]
    count: Callable[[Path], int]
    """How many facts (rows of meta) are on disk, as another connection sees them."""
    opening: Callable[[Path], str]
    """Lines of a program that open it as `store`."""


def count_in_sqlite(path: Path) -> int:
    """Count with a connection of its own, as another process would."""
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT count(*) FROM meta").fetchone()[0]
    connection.close()
    return int(found)


class UnderLoop(Serving):
    """A store that a server's event loop works with, which runs in a thread of its own."""

    def start_loop(self) -> None:
        """Begin to work so."""
        self._loop = uvloop.new_event_loop()
        self._loop_thread = threading.Thread(target=self._loop.run_forever)
        self._loop_thread.start()
        self.in_loop(lambda: self.attach(self._loop))

    def in_loop(self, function: Callable[[], T]) -> T:
        """Call `function` in the loop's thread."""

        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(60)

    def close(self) -> None:
        """End the loop first, as a server does."""
        if self._loop_thread.is_alive():
            self.in_loop(self.detach)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop_thread.join()
            self._loop.close()
        super().close()


class SqliteUnderLoop(UnderLoop, SqliteStore):
    """SQLite so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.start_loop()


class PostgresUnderLoop(UnderLoop, PostgresStore):
    """PostgreSQL so."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.start_loop()


def sqlite(name: str, kind: Callable[[Path], Store]) -> Database:
    """Return a kind of SQLite database."""
    opening = "from jobtasks.store.sqlite import SqliteStore; store = SqliteStore(Path({path!r}))"
    return Database(name, kind, count_in_sqlite, lambda path: opening.format(path=str(path)))


def postgres_databases(cluster: Cluster, name: str, kind: Callable[[str], Store]) -> Database:
    """Return a kind of PostgreSQL database: each path stands for one of the cluster."""
    addresses: dict[Path, str] = {}

    def address(path: Path) -> str:
        if path not in addresses:
            addresses[path] = cluster.new_database()
        return addresses[path]

    opening = "from jobtasks.store.postgres import PostgresStore; store = PostgresStore({0!r})"
    return Database(
        name,
        lambda path: kind(address(path)),
        lambda path: count_in_postgres(address(path)),
        lambda path: opening.format(address(path)),
    )


def count_in_postgres(address: str) -> int:
    """Count with a connection of its own, as another process would."""
    with psycopg.connect(address) as link:
        row = link.execute("SELECT count(*) FROM meta").fetchone()
    assert row is not None
    return int(row[0])


DATABASES = ["sqlite", "sqlite under a loop", "postgres", "postgres under a loop"]


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> Database:
    """Each kind of database in turn."""
    name = str(request.param)
    if name.startswith("sqlite"):
        return sqlite(name, SqliteUnderLoop if "loop" in name else SqliteStore)
    cluster = request.getfixturevalue("postgres")
    return postgres_databases(cluster, name, PostgresUnderLoop if "loop" in name else PostgresStore)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database lies."""
    return tmp_path / "store.db"


@pytest.fixture
def store(database: Database, path: Path) -> Iterator[Store]:
    """An empty database with its migrations applied."""
    store = database.open(path)
    yield store
    store.close()
