"""One suite for every database: a second one is a second parameter of `database`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobtasks.store.base import Store
from jobtasks.store.sqlite import SqliteStore


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


DATABASES = [Database("sqlite", SqliteStore, count_in_sqlite)]


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
