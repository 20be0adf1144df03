"""A store under an event loop: who runs what, who tells, and what holds the loop up (never)."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobtasks.core.errors import Unavailable
from jobtasks.store import drivers, groups
from jobtasks.store.base import Piece, Tx
from jobtasks.store.sqlite import SqliteStore

from .test_sqlite import commits_of, put, stored

SECONDS = 30


class Told:
    """What was told of the pieces that a test submitted, in order."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.outcomes: list[tuple[str, Any, BaseException | None]] = []
        self.ran: list[tuple[str, bool]] = []
        """What ran, and whether in the loop's thread."""
        self.tellers: set[int] = set()
        self._loop_thread = threading.get_ident()

    def submit(
        self,
        name: str,
        *,
        brief: bool = True,
        ahead: bool = False,
        calls_others: bool = False,
        work: Callable[[Tx], Any] | None = None,
    ) -> Piece:
        """Have a piece store its name, or do `work`."""

        def run(tx: Tx) -> Any:
            self.ran.append((name, threading.get_ident() == self._loop_thread))
            return work(tx) if work else put(tx, name)

        def tell(result: Any, problem: BaseException | None) -> None:
            self.tellers.add(threading.get_ident())
            self.outcomes.append((name, result, problem))

        piece = Piece(run, tell, is_brief=brief, calls_others=lambda: calls_others)
        self.store.submit(piece, ahead=ahead)
        return piece

    async def all(self, count: int) -> list[str]:
        """Wait until so many were told; return their names."""
        await until(lambda: len(self.outcomes) >= count)
        return [name for name, _, _ in self.outcomes]


async def until(look: Callable[[], bool]) -> None:
    """Let the loop turn to others until it is so."""
    end = time.monotonic() + SECONDS
    while not look():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


@contextmanager
def attached(path: Path) -> Iterator[Told]:
    """A store that the running loop works with."""
    store = SqliteStore(path)
    store.attach(asyncio.get_running_loop())
    try:
        yield Told(store)
    finally:
        store.detach()
        store.close()


def run(path: Path, test: Callable[[Told], Any]) -> None:
    async def main() -> None:
        with attached(path) as told:
            await test(told)

    asyncio.run(main())


def test_brief_pieces_run_in_the_loop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of one round in one commit, which a thread makes; the loop tells, when it is made."""
    monkeypatch.setattr(drivers, "LOOP_SECONDS", SECONDS)

    async def test(told: Told) -> None:
        seen = commits_of(told.store)
        names = [str(number) for number in range(50)]
        for name in names:
            told.submit(name)
        assert told.ran == []
        assert await told.all(50) == names
        assert told.ran == [(name, True) for name in names]
        assert (told.tellers, len(seen)) == ({threading.get_ident()}, 1)
        assert stored(path) == sorted(names)

    run(path, test)


def test_who_is_called_comes_into_the_same_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a piece wakes others to submit is written with it; nobody else is waited for."""
    monkeypatch.setattr(drivers, "LOOP_SECONDS", SECONDS)

    async def test(told: Told) -> None:
        seen = commits_of(told.store)
        bell = asyncio.Event()

        async def answer() -> None:
            await bell.wait()
            told.submit("called", ahead=True)

        def call(tx: Tx) -> None:
            bell.set()
            put(tx, "caller")

        answering = asyncio.create_task(answer())
        await asyncio.sleep(0)
        told.submit("caller", work=call, calls_others=True)
        assert await told.all(2) == ["caller", "called"]
        await answering
        assert (stored(path), len(seen)) == (["called", "caller"], 1)

        told.submit("alone", calls_others=True)
        await told.all(3)
        assert len(seen) == 2

    run(path, test)


def test_who_closes_finishes_a_group_that_waits_for_others(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is told and on disk; the round that it waited for finds nothing to do."""
    monkeypatch.setattr(drivers, "LOOP_SECONDS", SECONDS)

    async def test(told: Told) -> None:
        told.submit("caller", calls_others=True)
        # The loop runs it in its next round, and closes before the one after that.
        asyncio.get_running_loop().call_soon(told.submit, "last")
        asyncio.get_running_loop().call_soon(told.store.detach)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sorted(name for name, _, _ in told.outcomes) == ["caller", "last"]
        assert [problem for _, _, problem in told.outcomes] == [None, None]
        assert stored(path) == ["caller", "last"]

    run(path, test)


def test_what_takes_long_runs_in_a_thread(path: Path) -> None:
    """The loop goes on meanwhile, and tells of it afterwards."""

    async def test(told: Told) -> None:
        go_on = threading.Event()
        told.submit("long", brief=False, work=lambda tx: go_on.wait(SECONDS))
        told.submit("brief")
        await until(lambda: told.ran != [])
        assert (told.ran, told.outcomes) == ([("long", False)], [])
        go_on.set()
        assert await told.all(2) == ["long", "brief"]
        assert told.tellers == {threading.get_ident()}

    run(path, test)


def test_a_group_of_the_loop_ends_before_what_takes_long(path: Path) -> None:
    """In order of arrival, agents first: nothing brief overtakes because it is brief."""

    async def test(told: Told) -> None:
        told.submit("a")
        told.submit("long", brief=False)
        told.submit("b")
        told.submit("agent", ahead=True)
        assert await told.all(4) == ["agent", "a", "long", "b"]
        assert dict(told.ran)["a"] and dict(told.ran)["agent"] and not dict(told.ran)["long"]

    run(path, test)


def test_the_loop_turns_to_others_between_groups(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much is brief: a group that has taken its time is committed."""
    monkeypatch.setattr(drivers, "LOOP_SECONDS", 0.0)

    async def test(told: Told) -> None:
        seen = commits_of(told.store)
        for number in range(5):
            told.submit(str(number))
        await told.all(5)
        assert len(seen) == 5

    run(path, test)


@pytest.mark.rule("R40")
def test_a_busy_database_does_not_hold_up_the_loop(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has it: a thread waits, and the pieces are stored when it is released."""
    waiting: list[int] = []

    def pause(seconds: float) -> None:
        waiting.append(threading.get_ident())
        go_on.wait(seconds)

    go_on = threading.Event()
    monkeypatch.setattr(groups, "time", SimpleNamespace(**{**vars(time), "sleep": pause}))

    async def test(told: Told) -> None:
        assert told.store._connection.execute("PRAGMA busy_timeout").fetchone() == (0,)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        told.submit("a")
        await until(lambda: len(waiting) > 3)
        assert told.outcomes == []
        other.execute("ROLLBACK")
        other.close()
        assert await told.all(1) == ["a"]
        assert told.ran == [("a", False)]
        assert threading.get_ident() not in waiting

    run(path, test)


@pytest.mark.rule("R37")
def test_a_failed_commit_is_told_to_everyone(path: Path) -> None:
    """Nothing of the group is stored; a pause begins, in which the thread asks for room."""

    async def test(told: Told) -> None:
        connection = told.store._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        told.submit("small")
        told.submit("large", work=lambda tx: put(tx, "large", 1_000_000))
        told.submit("after")
        await told.all(3)
        problems = [problem for _, _, problem in told.outcomes]
        assert isinstance(problems[1], Unavailable)
        assert {type(problem) for problem in problems} <= {type(None), Unavailable}
        kept = {name for name, _, problem in told.outcomes if problem is None}
        assert set(stored(path)) == kept
        connection.execute("PRAGMA max_page_count = 1000000")
        told.submit("again")
        assert (await told.all(4))[-1] == "again"
        assert "again" in stored(path)

    run(path, test)


def test_an_error_is_told_to_its_own(path: Path) -> None:
    """Its savepoint is rolled back, the others of the group are stored."""

    async def test(told: Told) -> None:
        def fail(tx: Tx) -> None:
            put(tx, "half")
            raise ValueError("mine")

        told.submit("a")
        told.submit("bad", work=fail)
        told.submit("b")
        await told.all(3)
        assert [type(problem) for _, _, problem in told.outcomes] == [
            type(None),
            ValueError,
            type(None),
        ]
        assert stored(path) == ["a", "b"]

    run(path, test)


def test_who_cannot_hear_keeps_it_from_nobody(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An error of who is told is logged, and the next is told."""

    async def test(told: Told) -> None:
        def deaf(result: Any, problem: BaseException | None) -> None:
            raise ValueError("deaf")

        told.store.submit(Piece(lambda tx: put(tx, "a"), deaf, is_brief=True))
        told.submit("b")
        assert await told.all(1) == ["b"]
        assert stored(path) == ["a", "b"]

    run(path, test)
    assert "could not be told" in caplog.text


def test_what_was_withdrawn_in_time_is_not_run(path: Path) -> None:
    """Nobody waits for it any more, and nobody is told."""

    async def test(told: Told) -> None:
        told.submit("gone").withdraw()
        told.submit("stays")
        assert await told.all(1) == ["stays"]
        assert stored(path) == ["stays"]

    run(path, test)


@pytest.mark.rule("R37")
@pytest.mark.parametrize("brief", [True, False])
def test_what_was_accepted_is_finished_by_leaving_the_loop(path: Path, brief: bool) -> None:
    """Stored and told before `detach` returns; after it a thread writes."""

    async def test(told: Told) -> None:
        for number in range(20):
            told.submit(str(number), brief=brief or number % 2 == 0)
            if number == 10:
                await asyncio.sleep(0)
        told.store.detach()
        assert len(told.outcomes) == 20
        assert told.store.write(lambda tx: put(tx, "later")).result(SECONDS) == 1

    run(path, test)


@pytest.mark.rule("R37")
@pytest.mark.parametrize("brief", [True, False])
def test_a_piece_may_submit_another_while_the_loop_is_left(path: Path, brief: bool) -> None:
    """As the use of a token is noted: it is stored, too, and nobody waits for himself."""

    async def test(told: Told) -> None:
        def more(tx: Tx) -> int:
            time.sleep(0.05)
            told.submit("more")
            return put(tx, "first")

        told.submit("first", brief=brief, work=more)
        await asyncio.sleep(0)
        told.submit("waiting", brief=brief, work=lambda tx: told.submit("still more"))
        told.store.detach()
        told.store.write(lambda tx: put(tx, "later")).result(SECONDS)
        assert stored(path) == ["first", "later", "more", "still more"]

    run(path, test)


@pytest.mark.rule("R37")
def test_what_was_accepted_is_finished_when_the_loop_is_gone(path: Path) -> None:
    """A server that ended by an error closes its store after its loop."""
    left: list[Told] = []

    async def main() -> None:
        store = SqliteStore(path)
        store.attach(asyncio.get_running_loop())
        left.append(Told(store))
        for number in range(20):
            left[0].submit(str(number), brief=number % 2 == 0)

    asyncio.run(main())
    left[0].store.close()
    assert len(left[0].outcomes) == len(stored(path)) == 20


def test_threads_may_submit(path: Path) -> None:
    """The loop is woken for it."""

    async def test(told: Told) -> None:
        writing = asyncio.to_thread(
            lambda: [told.store.write(lambda tx: put(tx, "a")).result(SECONDS) for _ in range(1)]
        )
        assert await writing == [1]

    run(path, test)
