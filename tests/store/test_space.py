"""What a database takes on disk, and giving unused room back."""

from __future__ import annotations

import sqlite3
import threading
from functools import partial
from pathlib import Path

import pytest
from tests.databases import Cluster

from jobtasks.core.errors import Unavailable
from jobtasks.store.base import Store, Tx
from jobtasks.store.postgres import PostgresStore
from jobtasks.store.sqlite import SqliteStore

from .conftest import Database

SECONDS = 30
MIB = 1 << 20


def put(tx: Tx, key: str) -> int:
    return tx.run("meta_put", key=key, value="")


def fill(tx: Tx) -> None:
    tx.run_many(
        "meta_put", [{"key": f"{number:06}", "value": "x" * 1000} for number in range(5000)]
    )


def empty(path: Path) -> None:
    """Remove the facts by a connection of its own: no statement of ours does so."""
    connection = sqlite3.connect(path, SECONDS)
    connection.execute("DELETE FROM meta")
    connection.commit()
    connection.close()


SQLITE = ["sqlite", "sqlite under a loop"]
"""The tests look at files."""


def test_room_of_a_postgresql_database(postgres: Cluster) -> None:
    """Emptied tables are written anew; the server alone knows what of them is free."""
    address = postgres.new_database()
    store = PostgresStore(address)
    store.write(fill).result(SECONDS)
    full = store.space()
    postgres.execute("DELETE FROM meta", address)
    store.shrink()
    shrunk = store.space()
    store.close()
    assert (full.free_bytes, shrunk.free_bytes) == (0, 0)
    assert shrunk.bytes < full.bytes - 3 * MIB


@pytest.mark.parametrize("database", SQLITE, indirect=True)
def test_unused_room_is_given_back(database: Database, path: Path) -> None:
    """Removed records leave unused room; shrunk, the file has none, and nothing else is missing."""
    store = database.open(path)
    store.write(fill).result(SECONDS)
    full = store.space()
    assert full.bytes > 5 * MIB
    empty(path)
    assert store.space().free_bytes > 4 * MIB
    store.shrink()
    shrunk = store.space()
    assert (shrunk.free_bytes, shrunk.bytes < 2 * MIB) == (0, True), shrunk
    store.write(fill).result(SECONDS)
    store.close()
    assert database.count(path) == 5000


@pytest.mark.parametrize("database", SQLITE, indirect=True)
def test_writers_go_on_afterwards(store: Store, path: Path) -> None:
    """Each is answered; without them the log of the shrinking is not left behind either."""
    store.write(fill).result(SECONDS)
    is_over = threading.Event()
    written: list[int] = []

    def write() -> None:
        while not is_over.is_set():
            written.append(store.write(partial(put, key=f"w{len(written)}")).result(SECONDS))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        store.shrink()
    finally:
        is_over.set()
        writer.join(SECONDS)
    assert set(written) == {1}
    store.shrink()
    assert store.space().bytes < path.stat().st_size * 1.2


def test_a_disk_without_room_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `Unavailable`; the database is as it was."""
    store = SqliteStore(path)
    store.write(fill).result(SECONDS)
    connect = store._connect

    def small() -> sqlite3.Connection:
        connection = connect()
        connection.execute("PRAGMA max_page_count = 1")
        connection.set_progress_handler(lambda: True, 1)
        return connection

    monkeypatch.setattr(store, "_connect", small)
    with pytest.raises(Unavailable, match="could not be shrunk"):
        store.shrink()
    monkeypatch.undo()
    assert store.write(partial(put, key="more")).result(SECONDS) == 1
    store.close()
