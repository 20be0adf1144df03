"""What is PostgreSQL's own: turns, hints, commits whose answer is lost, texts, schema."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Collection, Iterator
from typing import Any

import psycopg
import pytest
from tests.databases import Cluster

from jobtasks.core.errors import Invalid, Unavailable
from jobtasks.store import postgres_writer
from jobtasks.store.base import Tx
from jobtasks.store.dialect import load_postgres_statements
from jobtasks.store.postgres import PostgresStore
from jobtasks.store.postgres_writer import HINT_BYTES_MAX, payloads
from jobtasks.store.statements import load_migrations, load_statements

SECONDS = 60
HOUR = 3_600_000_000
Heard = queue.Queue[Collection[str] | None]


@pytest.fixture
def address(postgres: Cluster) -> str:
    return postgres.new_database()


@pytest.fixture
def store(address: str) -> Iterator[PostgresStore]:
    found = PostgresStore(address)
    yield found
    found.close()


@pytest.fixture
def other(address: str) -> Iterator[PostgresStore]:
    """Another server's."""
    found = PostgresStore(address)
    yield found
    found.close()


def put(tx: Tx, key: str, value: str = "x") -> int:
    return tx.run("meta_put", key=key, value=value)


def keys(store: PostgresStore) -> list[Any]:
    return [row[0] for row in store.read(lambda tx: tx.text("SELECT key FROM meta", {}))]


def listener(store: PostgresStore) -> Heard:
    """Return where what other servers hint at arrives; the first is that it listens."""
    heard: Heard = queue.Queue()
    store.on_hints(heard.put)
    assert heard.get(timeout=SECONDS) is None
    return heard


def test_hints_reach_other_servers(store: PostgresStore, other: PostgresStore) -> None:
    """After the commit, and of what was committed alone; nobody hears his own."""
    own, heard = listener(store), listener(other)

    def fails(tx: Tx) -> None:
        tx.hint(["never"])
        raise Invalid("no")

    def whole(tx: Tx) -> None:
        tx.hint(["nodes", "zzzzz-8i9sb-000000000000000", "no topic'; --"])

    gate = threading.Event()
    store.write(lambda tx: gate.wait(SECONDS))
    first, failed, second = store.write(whole), store.write(fails), store.write(whole)
    gate.set()
    assert (first.result(SECONDS), second.result(SECONDS)) == (None, None)
    assert isinstance(failed.exception(SECONDS), Invalid)
    found = heard.get(timeout=SECONDS)
    assert sorted(found or []) == ["nodes", "zzzzz-8i9sb-000000000000000"]
    other.write(lambda tx: tx.hint(["back"])).result(SECONDS)
    assert own.get(timeout=SECONDS) == ["back"]


def test_through_a_pooler_it_is_looked(address: str, store: PostgresStore) -> None:
    """When anything has happened, everybody may be meant."""
    pooled = PostgresStore(address, pooled=True)
    heard = listener(pooled)
    store.write(lambda tx: tx.run("event_add", at=1, facts="[]")).result(SECONDS)
    assert heard.get(timeout=SECONDS) is None
    pooled.close()


def test_hints_are_cut_to_what_is_taken() -> None:
    """Each payload says who sends it."""
    topics = [f"zzzzz-8i9sb-{number:015}" for number in range(1000)]
    found = payloads("me", [*topics, *topics, "bad'topic"])
    assert all(len(payload) <= HINT_BYTES_MAX + 10 for payload in found)
    assert [word for payload in found for word in payload.split() if word != "me"] == topics
    assert payloads("me", []) == []


@pytest.mark.rule("R37")
@pytest.mark.parametrize("is_committed", [True, False])
def test_an_answer_that_was_lost_is_asked_for(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    """What is on disk is told as done, what is not as refused."""
    writer = store._writer
    execute = writer._execute

    def lose(statement: str) -> None:
        assert writer._link is not None
        if statement != "COMMIT":
            execute(statement)
            return
        if is_committed:
            execute(statement)
        writer._link.close()
        raise psycopg.OperationalError("the connection is lost")

    with monkeypatch.context() as broken:
        broken.setattr(writer, "_execute", lose)
        future = store.write(lambda tx: put(tx, "a"))
        if is_committed:
            assert future.result(SECONDS) == 1
        else:
            with pytest.raises(Unavailable, match="connection is lost"):
                future.result(SECONDS)
    assert keys(store) == (["a"] if is_committed else [])
    assert store.write(lambda tx: put(tx, "b")).result(SECONDS) == 1
    assert store.pause.reason == ""


@pytest.mark.rule("R37")
def test_who_stands_still_in_his_turn_loses_it(
    store: PostgresStore, other: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others go on; nothing of his group is stored."""
    usual = f"'{postgres_writer.IDLE_SECONDS}s'"
    assert usual in postgres_writer.BEGIN
    monkeypatch.setattr(
        postgres_writer, "BEGIN", postgres_writer.BEGIN.replace(usual, "'200ms'", 1)
    )
    has_begun, goes_on = threading.Event(), threading.Event()

    def stand_still(tx: Tx) -> int:
        stored = put(tx, "still")
        has_begun.set()
        goes_on.wait(SECONDS)
        return stored

    still = store.write(stand_still)
    assert has_begun.wait(SECONDS)
    assert other.write(lambda tx: put(tx, "quick")).result(SECONDS) == 1
    goes_on.set()
    with pytest.raises(Unavailable):
        still.result(SECONDS)
    assert keys(other) == ["quick"]


def test_times_are_those_of_the_database(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose clock is an hour behind moves it by an hour, for reads, too."""
    assert abs(store.write(lambda tx: tx.clock_ahead).result(SECONDS)) < HOUR / 60
    usual = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: usual() - HOUR * 1000)
    ahead = store.write(lambda tx: tx.clock_ahead).result(SECONDS)
    assert abs(ahead - HOUR) < HOUR / 60
    assert store.read(lambda tx: tx.clock_ahead) == ahead


def test_a_character_that_cannot_be_kept(store: PostgresStore) -> None:
    """Another stands in its place; nothing fails for it."""
    assert store.write(lambda tx: put(tx, "zero", "a\0b")).result(SECONDS) == 1
    found = store.read(lambda tx: tx.value("meta_value", key="zero"))
    assert found == "a\ufffdb"


def test_a_newer_schema_is_refused(address: str, postgres: Cluster) -> None:
    """It was written by a program that knows more."""
    postgres.execute("INSERT INTO schema_version (number) VALUES (9999)", address)
    with pytest.raises(Unavailable, match="newer version"):
        PostgresStore(address)


@pytest.mark.parametrize("bad", ["postgresql://[", "postgresql:///none?host=/nowhere"])
def test_a_database_that_cannot_be_used(bad: str) -> None:
    """It is said in a line."""
    with pytest.raises(Unavailable, match="database"):
        PostgresStore(bad)


def test_both_databases_have_the_same_migrations() -> None:
    """From the one on with which PostgreSQL began."""
    numbers = [number for number, _ in load_migrations("postgres")]
    assert numbers == [n for n, _ in load_migrations() if n >= numbers[0]]


def test_every_statement_can_be_prepared(address: str) -> None:
    """In its form for PostgreSQL; a form that differs is one of a statement that there is."""
    assert load_statements("postgres").keys() <= load_statements().keys()
    wrong = []
    with psycopg.connect(address, autocommit=True) as link:
        for name, statement in load_postgres_statements().items():
            try:
                link.execute(f"PREPARE looked AS {numbered(statement.sql)}")
                link.execute("DEALLOCATE looked")
            except psycopg.Error as error:
                wrong.append(f"{name}: {error}")
    assert wrong == []


def numbered(sql: str) -> str:
    """Return a statement with numbers for placeholders."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        name = match[1] or f"place {len(names)}"
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return re.sub(r"%(?:\((\w+)\))?s", number, sql).replace("%%", "%")
