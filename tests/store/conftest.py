"""One suite for every database: a second one is a second parameter of `database`."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
import uvloop

from jobtasks.store.base import Store
from jobtasks.store.sqlite import SqliteStore

T = TypeVar("T")


@dataclass(frozen=True)
class Database:
    """How tests open a database of one kind and look at it from beside."""

    name: str
    open: Callable[[Path], Store]
    count: Callable[[Path], int]
    """How many facts (rows of meta) are on disk, as another connection sees them."""


def count_in_sqlite(path: Path) -> int:
    """Count with a connection of its own, as another process would."""
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT count(*) FROM meta").fetchone()[0]
    connection.close()
    return int(found)


class SqliteUnderLoop(SqliteStore):
    """A store that a server's event loop works with, which runs in a thread of its own."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
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


DATABASES = [
    Database("sqlite", SqliteStore, count_in_sqlite),
    Database("sqlite under a loop", SqliteUnderLoop, count_in_sqlite),
]


@pytest.fixture(params=DATABASES, ids=lambda database: str(database.name))
def database(request: pytest.FixtureRequest) -> Database:
    """Each kind of database in turn."""
    found: Database = request.param
    return found


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
