"""SQLite's own side: shared commits, a full disk, settings of the connection, migrations."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobtasks.core.errors import Unavailable
from jobtasks.store import groups, sqlite
from jobtasks.store.base import Tx
from jobtasks.store.drivers import ThreadDriver
from jobtasks.store.groups import GROUP_MAX
from jobtasks.store.pause import has_room
from jobtasks.store.records import NodeRecord
from jobtasks.store.sqlite import SqliteStore, migrate
from jobtasks.store.statements import load_migrations

SECONDS = 30


@pytest.fixture
def sqlite_store(path: Path) -> Iterator[SqliteStore]:
    """A SQLite database, whatever the other suites run on."""
    store = SqliteStore(path)
    yield store
    store.close()


def put(tx: Tx, key: str, size: int = 1) -> int:
    """Store one fact of `size` characters."""
    return tx.run("meta_put", key=key, value="x" * size)


def commits_of(store: SqliteStore) -> list[str]:
    """Return a list that grows with each commit of the writer."""
    seen: list[str] = []
    store._connection.set_trace_callback(
        lambda statement: seen.append(statement) if statement == "COMMIT" else None
    )
    return seen


@pytest.mark.parametrize("writers", [2, 100, GROUP_MAX, GROUP_MAX + 50])
def test_concurrent_writers_share_commits(sqlite_store: SqliteStore, writers: int) -> None:
    """What gathered while a group was written is one commit, at most 256 of them."""
    gate = threading.Event()
    begun = threading.Event()

    def hold(tx: Tx) -> None:
        begun.set()
        gate.wait(SECONDS)

    first = sqlite_store.write(hold)
    assert begun.wait(SECONDS)
    seen = commits_of(sqlite_store)
    futures = [sqlite_store.write(partial(put, key=str(n))) for n in range(writers)]
    gate.set()
    assert [future.result(SECONDS) for future in futures] == [1] * writers
    first.result(SECONDS)
    least = -(-(writers + 1) // GROUP_MAX)
    assert least <= len(seen) <= least + 1


def test_agents_go_ahead(sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for the writer is done in order of arrival, that of agents before all other."""
    driver = sqlite_store._driver
    assert isinstance(driver, ThreadDriver)
    # A share of an agent's time, were it ever so long, is that of others.
    monkeypatch.setattr(driver._lines, "_clock", lambda: 0.0)
    gate, begun = threading.Event(), threading.Event()
    order: list[str] = []

    def hold(tx: Tx) -> None:
        begun.set()
        gate.wait(SECONDS)

    sqlite_store.write(hold)
    assert begun.wait(SECONDS)

    def note(tx: Tx, name: str) -> None:
        order.append(name)

    futures = [
        sqlite_store.write(partial(note, name=name), ahead=name.startswith("sync"))
        for name in ("one", "two", "sync 1", "three", "sync 2")
    ]
    gate.set()
    for future in futures:
        future.result(SECONDS)
    assert order == ["sync 1", "sync 2", "one", "two", "three"]


def test_an_answer_is_not_held_back_for_large_pieces(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group that has taken its time is committed, however much waits."""
    monkeypatch.setattr(groups, "GROUP_SECONDS", 0.0)
    seen = commits_of(sqlite_store)
    gate, begun = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        begun.set()
        gate.wait(SECONDS)

    futures = [sqlite_store.write(hold)]
    assert begun.wait(SECONDS)
    futures += [sqlite_store.write(lambda tx: None) for _ in range(5)]
    gate.set()
    for future in futures:
        future.result(SECONDS)
    assert len(seen) == 6


def test_a_lone_write_is_committed_at_once(sqlite_store: SqliteStore) -> None:
    """No timer: each write that comes alone is a commit of its own."""
    seen = commits_of(sqlite_store)
    for number in range(5):
        sqlite_store.write(partial(put, key=str(number))).result(SECONDS)
    assert len(seen) == 5


class SlowLines:
    """A writer's lines in which a piece of work arrives only when the test lets it."""

    def __init__(self, lines: Any) -> None:
        self._lines = lines
        self.take = lines.take
        self.is_empty = lines.is_empty
        self.close = lines.close
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def put(self, piece: Any, *, ahead: bool) -> None:
        """Put it late."""
        self.begun.set()
        self.go_on.wait(SECONDS)
        self._lines.put(piece, ahead=ahead)


def test_a_write_overtaken_by_the_close_is_answered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store was open when it was asked: the piece does not fall behind the writer's end."""
    store = SqliteStore(path)
    driver = store._driver
    assert isinstance(driver, ThreadDriver)
    slow = SlowLines(driver._lines)
    monkeypatch.setattr(driver, "_lines", slow)
    asked: list[Future[int]] = []
    asker = threading.Thread(target=lambda: asked.append(store.write(partial(put, key="a"))))
    asker.start()
    assert slow.begun.wait(SECONDS)
    closer = threading.Thread(target=store.close)
    closer.start()
    closer.join(0.1)
    slow.go_on.set()
    asker.join(SECONDS)
    closer.join(SECONDS)
    assert asked[0].result(1) == 1


def test_commits_are_told(sqlite_store: SqliteStore) -> None:
    """How long each took and how many pieces it had, for who counts."""
    told: list[tuple[float, int]] = []
    sqlite_store.count_commits(lambda seconds, pieces: told.append((seconds, pieces)))
    sqlite_store.write(lambda tx: put(tx, "a")).result(SECONDS)
    ((seconds, pieces),) = told
    assert (seconds >= 0, pieces) == (True, 1)


@pytest.mark.rule("R37")
def test_a_full_disk_stores_nothing_and_passes(sqlite_store: SqliteStore, path: Path) -> None:
    """Every future that needed the space is `Unavailable`; the store works again afterwards."""
    sqlite_store.write(lambda tx: put(tx, "before")).result(SECONDS)
    writer = sqlite_store._connection
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages}")
    futures = [sqlite_store.write(partial(put, key=f"large {n}", size=100_000)) for n in range(5)]
    for future in futures:
        with pytest.raises(Unavailable, match="full"):
            future.result(SECONDS)
    assert stored(path) == ["before"]
    assert sqlite_store.pause.failures >= 1
    writer.execute("PRAGMA max_page_count = 1000000")
    assert sqlite_store.write(lambda tx: put(tx, "after", 100_000)).result(SECONDS) == 1
    assert stored(path) == ["after", "before"]


@pytest.mark.rule("R37")
def test_a_pause_refuses_all_until_there_is_room(
    sqlite_store: SqliteStore,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also small writes that the disk would take, so that no half of a system moves; reads go on.

    Its begin and its end are one line each, without a traceback.
    """
    writer = sqlite_store._writer
    has_room = False
    monkeypatch.setattr(groups, "has_room", lambda directory: has_room)
    with monkeypatch.context() as broken:
        broken.setattr(writer, "_connection", FailingCommits(writer._connection))
        with pytest.raises(Unavailable):
            sqlite_store.write(lambda tx: put(tx, "a")).result(SECONDS)
    for number in range(3):
        with pytest.raises(Unavailable, match="disk I/O error"):
            sqlite_store.write(partial(put, key=str(number))).result(SECONDS)
    assert sqlite_store.pause.failures == 4
    assert sqlite_store.read(lambda tx: tx.value("user_by_uuid", uuid="nobody")) is None
    has_room = True
    assert sqlite_store.write(lambda tx: put(tx, "after")).result(SECONDS) == 1
    assert (stored(path), sqlite_store.pause.reason) == (["after"], "")
    lines = [record for record in caplog.records if record.name == "jobtasks.store.pause"]
    assert [record.levelname for record in lines] == ["ERROR", "WARNING"]
    assert not any(record.exc_info for record in caplog.records)


def test_room_leaves_nothing_behind(tmp_path: Path) -> None:
    """It is tried by taking it; where nothing can be taken there is none."""
    assert has_room(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not has_room(tmp_path / "missing")


def test_a_damaged_database_is_unavailable(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Pages that are no pages: reads and writes say so, one line each, and no traceback."""
    store = SqliteStore(path)
    store.write(lambda tx: [put(tx, f"{n}", 1000) for n in range(200)]).result(SECONDS)
    store.close()
    with path.open("r+b") as file:
        half = path.stat().st_size // 2
        file.seek(half)
        file.write(b"\xa5" * half)
    store = SqliteStore(path)
    with pytest.raises(Unavailable, match="malformed"):
        store.read(lambda tx: tx.text("SELECT sum(length(value)) FROM meta", {}))
    with pytest.raises(Unavailable, match="malformed"):
        store.write(lambda tx: [put(tx, f"{n}") for n in range(200)]).result(SECONDS)
    store.close()
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.rule("R37")
def test_a_failed_commit_reaches_everyone(
    sqlite_store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole group is `Unavailable`, also who had succeeded so far; nothing of it is stored."""
    gate = threading.Event()
    held = sqlite_store.write(lambda tx: gate.wait(SECONDS))
    writer = sqlite_store._writer
    monkeypatch.setattr(writer, "_connection", FailingCommits(writer._connection))
    futures = [sqlite_store.write(partial(put, key=str(n))) for n in range(5)]

    def invalid(tx: Tx) -> int:
        raise ValueError("its own error, in a group that cannot be committed")

    futures.append(sqlite_store.write(invalid))
    gate.set()
    with pytest.raises(Unavailable):
        held.result(SECONDS)
    for future in futures:
        with pytest.raises(Unavailable, match="disk I/O error"):
            future.result(SECONDS)
    assert stored(path) == []
    monkeypatch.undo()
    assert sqlite_store.write(lambda tx: put(tx, "after")).result(SECONDS) == 1
    assert stored(path) == ["after"]


class FailingCommits:
    """A connection whose commits fail as they do on a broken disk."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, statement: str) -> sqlite3.Cursor:
        """Execute anything but a commit."""
        if statement == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(statement)


def stored(path: Path) -> list[str]:
    """Return the keys on disk, as another connection sees them."""
    connection = sqlite3.connect(path)
    found = [row[0] for row in connection.execute("SELECT key FROM meta ORDER BY key")]
    connection.close()
    return found


@pytest.mark.rule("R37")
def test_a_busy_database_is_unavailable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another process holds it too long; afterwards it works again."""
    monkeypatch.setattr(groups, "BUSY_SECONDS", 0.05)
    store = SqliteStore(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        store.write(lambda tx: put(tx, "a")).result(SECONDS)
    other.execute("ROLLBACK")
    other.close()
    assert store.write(lambda tx: put(tx, "a")).result(SECONDS) == 1
    store.close()


@pytest.mark.rule("R37")
def test_commits_are_durable(sqlite_store: SqliteStore) -> None:
    """The write-ahead log is synchronised at each commit, whatever SQLite's defaults are."""
    writer = sqlite_store._connection
    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert writer.execute("PRAGMA synchronous").fetchone() == (2,)


def test_migrations_are_numbered_without_gaps() -> None:
    """From 1; the newest number is the database's version."""
    numbers = [number for number, _ in load_migrations()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_database_is_brought_up_to_date_once(path: Path) -> None:
    """Its version is the newest; opening it again changes nothing and loses nothing."""
    store = SqliteStore(path)
    store.write(lambda tx: put(tx, "kept")).result(SECONDS)
    store.close()
    before = schema(path)
    SqliteStore(path).close()
    assert schema(path) == before
    assert before[0] == load_migrations()[-1][0]
    assert stored(path) == ["kept"]


def schema(path: Path) -> tuple[int, list[str]]:
    """Return a database's version and the text of its schema."""
    connection = sqlite3.connect(path)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    rows = connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
    connection.close()
    return version, [row[0] for row in rows]


def test_migrations_are_applied_in_order_from_where_the_database_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only those that are newer, each once."""
    steps = [
        (1, "CREATE TABLE first (a);"),
        (2, "ALTER TABLE first ADD COLUMN b;"),
        (3, "CREATE TABLE third (a); INSERT INTO third VALUES (1);"),
    ]
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for known in (1, 3, 3):
        monkeypatch.setattr(sqlite, "load_migrations", lambda known=known: steps[:known])
        migrate(connection)
        assert connection.execute("PRAGMA user_version").fetchone() == (known,)
    assert connection.execute("SELECT count(*) FROM third").fetchone() == (1,)
    connection.close()


def test_a_database_of_the_first_version_is_upgraded(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in it stays, and is seen through the newest schema."""
    first = load_migrations()[:1]
    with monkeypatch.context() as older:
        older.setattr(sqlite, "load_migrations", lambda: first)
        SqliteStore(path).close()
    connection = sqlite3.connect(path)
    connection.executescript(
        "INSERT INTO node (id, uuid, lasting_id, hostname, slots, memory_kib, cores, scratch_mb,"
        " agent_id, created_at, modified_at) VALUES (1, 'u', 'l', 'old', 2, 3, 4, 5, 7, 6, 6);"
        "INSERT INTO agent (id, node_id, incarnation, lease_until, joined_at)"
        " VALUES (7, 1, 'i', 9, 8);"
    )
    connection.close()
    store = SqliteStore(path)
    node = store.read(lambda tx: tx.one(NodeRecord, "node_by_uuid", uuid="u"))
    store.close()
    assert node is not None
    assert (node.hostname, node.state, node.last_ping_at) == ("old", "live", 8)
    fresh = path.with_name("fresh.db")
    SqliteStore(fresh).close()
    assert schema(path) == schema(fresh)


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of its statements or none, and the version stays."""
    SqliteStore(path).close()
    before = schema(path)
    newest = load_migrations()[-1][0]
    broken = [*load_migrations(), (newest + 1, "CREATE TABLE half (a); SELECT nonsense;")]
    monkeypatch.setattr(sqlite, "load_migrations", lambda: broken)
    with pytest.raises(sqlite3.OperationalError, match="nonsense"):
        SqliteStore(path)
    assert schema(path) == before


def test_a_database_of_a_newer_version_is_refused(path: Path) -> None:
    """With both numbers in the sentence, and untouched."""
    SqliteStore(path).close()
    connection = sqlite3.connect(path)
    newest = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.execute(f"PRAGMA user_version = {newest + 5}")
    connection.close()
    with pytest.raises(Unavailable, match=f"{newest + 5}.*{newest}"):
        SqliteStore(path)
    assert schema(path)[0] == newest + 5


def test_the_caches_of_readers_are_small(sqlite_store: SqliteStore) -> None:
    """There is one for each thread: together they would take ten times what the writer does."""

    def cache(tx: Tx) -> int:
        return -int(tx.text("PRAGMA cache_size", {})[0][0])

    assert sqlite_store.read(cache) == sqlite.READER_CACHE_KIB
    assert sqlite_store.write(cache).result(SECONDS) == sqlite.WRITER_CACHE_KIB


def test_a_lone_write_needs_no_savepoint(sqlite_store: SqliteStore) -> None:
    """Below one each page is copied before it is changed; what is kept so needs no file."""
    seen: list[str] = []
    sqlite_store._connection.set_trace_callback(seen.append)
    sqlite_store.write(lambda tx: put(tx, "lone")).result(SECONDS)
    sqlite_store._connection.set_trace_callback(None)
    assert (seen[0], seen[-1]) == ("BEGIN IMMEDIATE", "COMMIT")
    assert not any("SAVEPOINT" in statement for statement in seen)
    assert sqlite_store._connection.execute("PRAGMA temp_store").fetchone() == (2,)


@pytest.mark.parametrize("failing", [[0], [0, 1], [1], [0, 2], [0, 1, 2]])
def test_who_fails_in_a_group_undoes_only_its_own(
    sqlite_store: SqliteStore, failing: list[int]
) -> None:
    """Also the first, which has no savepoint; those after it are stored."""
    gate = threading.Event()

    def work(place: int, tx: Tx) -> None:
        if place == 0:
            gate.wait(SECONDS)
        put(tx, f"piece {place}")
        if place in failing:
            raise ValueError(place)

    futures = [sqlite_store.write(partial(work, place)) for place in range(3)]
    gate.set()
    for place, future in enumerate(futures):
        if place in failing:
            with pytest.raises(ValueError, match=str(place)):
                future.result(SECONDS)
        else:
            future.result(SECONDS)
    found = [sqlite_store.read(partial(has, f"piece {place}")) for place in range(3)]
    assert found == [place not in failing for place in range(3)]


def has(key: str, tx: Tx) -> bool:
    """Return whether a fact is stored."""
    return bool(tx.text("SELECT 1 FROM meta WHERE key = :key", {"key": key}))
