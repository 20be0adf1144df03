"""What every database promises: groups, savepoints, snapshots, and answers after the commit (R37).

The rows of these tests are facts (meta), the smallest thing that the statements write.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from jobtasks.core.errors import Invalid, Unavailable
from jobtasks.store.base import Store, Tx, Value

SECONDS = 30
"""How long a test waits for what must happen."""


def put(key: str, value: str = "x") -> Any:
    """Return work that stores one fact."""
    return lambda tx: tx.run("meta_put", key=key, value=value)


def get(tx: Tx, key: str) -> Any:
    """Return a fact, None when it is not there."""
    rows = tx.text("SELECT value FROM meta WHERE key = :key", {"key": key})
    return rows[0][0] if rows else None


@pytest.mark.rule("R37")
def test_what_was_answered_is_on_disk(database: Any, store: Store, path: Path) -> None:
    """Another connection sees it at once, without any further commit."""
    for number in range(20):
        assert store.write(put(str(number))).result(SECONDS) == 1
        assert database.count(path) == number + 1


@pytest.mark.rule("R37")
def test_an_error_rolls_back_its_own_piece_only(store: Store) -> None:
    """Its future carries the error; the others of the group are stored."""
    gate = threading.Event()
    store.write(lambda tx: gate.wait(SECONDS))

    def fails(tx: Tx) -> None:
        tx.run("meta_put", key="bad", value="x")
        raise Invalid("no")

    good, bad, also_good = store.write(put("good")), store.write(fails), store.write(put("too"))
    gate.set()
    assert (good.result(SECONDS), also_good.result(SECONDS)) == (1, 1)
    with pytest.raises(Invalid, match="no"):
        bad.result(SECONDS)
    assert store.read(lambda tx: [get(tx, key) for key in ("good", "bad", "too")]) == [
        *("x", None, "x")
    ]


@pytest.mark.parametrize("error", [ValueError("odd"), KeyError("odd"), KeyboardInterrupt("odd")])
def test_any_error_reaches_its_caller(store: Store, error: BaseException) -> None:
    """Also such as no rule names; the store goes on."""

    def fails(tx: Tx) -> None:
        tx.run("meta_put", key="bad", value="x")
        raise error

    with pytest.raises(type(error), match="odd"):
        store.write(fails).result(SECONDS)
    assert store.write(lambda tx: get(tx, "bad")).result(SECONDS) is None


def test_a_piece_sees_what_the_pieces_before_it_wrote(store: Store) -> None:
    """In the order in which they were given, within a group and after it."""
    gate = threading.Event()
    store.write(lambda tx: gate.wait(SECONDS))
    seen = [store.write(partial(count_up, number=n)) for n in range(5)]
    gate.set()
    assert [future.result(SECONDS) for future in seen] == [0, 1, 2, 3, 4]


def count_up(tx: Tx, number: int) -> int:
    """Store one more fact; return how many there were."""
    before = len([key for key in range(10) if get(tx, str(key)) is not None])
    tx.run("meta_put", key=str(number), value="x")
    return before


def test_a_piece_that_nobody_waits_for_may_be_withdrawn(store: Store) -> None:
    """Cancelled before its group began: it does not run."""
    gate = threading.Event()
    store.write(lambda tx: gate.wait(SECONDS))
    withdrawn = store.write(put("withdrawn"))
    assert withdrawn.cancel()
    after = store.write(put("after"))
    gate.set()
    assert after.result(SECONDS) == 1
    with pytest.raises(CancelledError):
        withdrawn.result(SECONDS)
    assert store.read(lambda tx: get(tx, "withdrawn")) is None


def test_many_writers_at_once(store: Store) -> None:
    """Each gets its own answer, and every fact is stored once."""
    with ThreadPoolExecutor(16) as pool:
        futures = [pool.submit(write_one, store, str(n)) for n in range(400)]
        assert sum(future.result(SECONDS) for future in futures) == 400
    assert store.read(lambda tx: [get(tx, f"{n}") for n in range(400)]) == [
        str(n) for n in range(400)
    ]


def write_one(store: Store, key: str) -> int:
    """Store one fact and wait for the answer."""
    return int(store.write(put(key, key)).result(SECONDS))


def test_a_read_is_a_snapshot(store: Store) -> None:
    """What is committed meanwhile is not seen in it, and it holds nobody up."""
    store.write(put("before")).result(SECONDS)

    def read(tx: Tx) -> list[Any]:
        seen = [get(tx, "before"), get(tx, "meanwhile")]
        assert store.write(put("meanwhile")).result(SECONDS) == 1
        return [*seen, get(tx, "meanwhile")]

    assert store.read(read) == ["x", None, None]
    assert store.read(lambda tx: get(tx, "meanwhile")) == "x"


def test_reads_do_not_write(store: Store) -> None:
    """A write in a read is refused."""
    with pytest.raises(Exception, match=r"readonly|read-only"):
        store.read(put("sneaky"))
    assert store.read(lambda tx: get(tx, "sneaky")) is None


def test_reads_go_on_after_an_error(store: Store) -> None:
    """The snapshot of a read that failed is given up."""
    with pytest.raises(ZeroDivisionError):
        store.read(lambda tx: 1 / (get(tx, "nothing") or 0))
    store.write(put("later")).result(SECONDS)
    assert store.read(lambda tx: get(tx, "later")) == "x"


def test_every_thread_reads_with_its_own_snapshot(store: Store) -> None:
    """At the same time, without waiting for each other."""
    meeting = threading.Barrier(4, timeout=SECONDS)

    def read(tx: Tx) -> Any:
        get(tx, "x")
        meeting.wait()
        return get(tx, "x")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: store.read(read), range(4))) == [None] * 4


def test_the_shapes_of_answers(store: Store) -> None:
    """One row or None, all rows, the first column or None, how many rows changed, a new id."""

    def work(tx: Tx) -> None:
        assert tx.one(str, "shape_id", needs="{}") is None
        assert tx.value("shape_id", needs="{}") is None
        assert tx.all(str, "shape_id", needs="{}") == []
        assert tx.run("meta_put", key="k", value="v") == 1
        assert tx.run("meta_put", key="k", value="v") == 0
        rows = [{"key": "a", "value": "1"}, {"key": "b", "value": "2"}, {"key": "k", "value": "3"}]
        assert tx.run_many("meta_put", rows) == 2
        assert tx.run_many("meta_put", []) in (0, -1)
        first = tx.add("shape_add", needs="{}")
        assert tx.add("shape_add", needs='{"cores":1}') == first + 1
        assert tx.one(lambda value: (value,), "shape_id", needs="{}") == (first,)
        assert tx.all(str, "shape_id", needs="{}") == [str(first)]
        assert tx.text("SELECT :a AS a", {"a": 5}) == [(5,)]
        tx.lock_jobs([3, 1])

    store.write(work).result(SECONDS)


@pytest.mark.parametrize("count", [0, 1, 399, 400, 401, 1000])
def test_an_insert_of_many_rows(store: Store, count: int) -> None:
    """Every row is there, whether it went with others in one statement or not."""
    rows = [_task_row(number) for number in range(count)]
    store.write(lambda tx: tx.add_many("task_add", rows)).result(SECONDS)
    found = store.read(lambda tx: tx.text("SELECT id, uuid, parameters FROM task ORDER BY id", {}))
    assert found == [(row[0], row[1], row[4]) for row in rows]


def test_an_insert_of_many_rows_adds_all_or_none(store: Store) -> None:
    """One that cannot be is the error of the whole piece of work."""
    rows = [_task_row(number) for number in range(1000)]
    rows[700] = rows[0]
    with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
        store.write(lambda tx: tx.add_many("task_add", rows)).result(SECONDS)
    assert store.read(lambda tx: tx.text("SELECT count(*) FROM task", {})) == [(0,)]


def _task_row(number: int) -> tuple[Value, ...]:
    return (number, f"uuid-{number}", 1, 1, f'{{"n":{number}}}', "{}", None, 0, 0)


def test_an_unknown_statement_is_an_error(store: Store) -> None:
    """By its name."""
    with pytest.raises(KeyError, match="no_such_statement"):
        store.write(lambda tx: tx.run("no_such_statement")).result(SECONDS)


def test_a_closed_store_answers_unavailable(database: Any, path: Path) -> None:
    """What was accepted before is finished and stored; what comes after is refused."""
    store = database.open(path)
    accepted = [store.write(put(str(number))) for number in range(50)]
    store.close()
    assert [future.result(0) for future in accepted] == [1] * 50
    with pytest.raises(Unavailable):
        store.write(put("late")).result(0)
    assert database.count(path) == 50


def test_a_write_beside_the_close_is_answered(database: Any, tmp_path: Path) -> None:
    """Stored or refused: no caller waits for ever."""
    for number in range(8):
        answers = answers_beside_a_close(database.open(tmp_path / f"{number}.db"))
        assert {type(answer) for answer in answers} <= {type(None), Unavailable}


def answers_beside_a_close(store: Store) -> list[BaseException | None]:
    """Write in two threads while the store is closed; return how each write ended."""
    futures: list[Future[int]] = []
    meeting = threading.Barrier(3, timeout=SECONDS)

    def write() -> None:
        meeting.wait()
        futures.extend(store.write(put(str(n))) for n in range(300))

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    meeting.wait()
    store.close()
    for writer in writers:
        writer.join()
    return [future.exception(SECONDS) for future in futures]


VICTIM = """
import sys, threading
from pathlib import Path
{opening}

def write(first):
    for number in range(first, 10**9, 4):
        store.write(lambda tx: tx.run("meta_put", key=str(number), value="x")).result()
        sys.stdout.write(str(number) + "\\n")
        sys.stdout.flush()

for first in range(4):
    threading.Thread(target=write, args=(first,), daemon=True).start()
threading.Event().wait()
"""
"""Four threads that say each answer aloud."""


@pytest.mark.rule("R37")
def test_nothing_answered_is_lost_by_kill_9(database: Any, path: Path) -> None:
    """A process killed in the middle of its writes: each row that it had answered for is there."""
    process = subprocess.Popen(
        [sys.executable, "-c", VICTIM.format(opening=database.opening(path))],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    answered = [process.stdout.readline() for _ in range(200)]
    os.kill(process.pid, signal.SIGKILL)
    rest, _ = process.communicate(timeout=SECONDS)
    answered += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    store = database.open(path)
    kept = store.read(lambda tx: [line for line in answered if get(tx, line.strip()) is None])
    store.close()
    assert len(answered) >= 200
    assert kept == []
