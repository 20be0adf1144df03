"""A group of writes on PostgreSQL, one group at a time whoever's it is.

All servers of a database take turns: a group begins by taking a lock that ends with its
transaction. So every method of the service finds the database as if it were alone, as with SQLite,
and no two wait for each other. See ADR 0023.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterable

import psycopg

from jobtasks.store.groups import Writer
from jobtasks.store.pause import Pause
from jobtasks.store.postgres_link import Link, is_about_database
from jobtasks.store.postgres_tx import PostgresTx

LOCK = 0x6A6F6274
"""Number of the lock that a group of writes has, among those of the database."""
CHANNEL = "jobtasks"
IDLE_SECONDS = 5
"""So long a server that stands still in the middle of a group keeps all others waiting."""
TURN_SECONDS = 20
"""How long a group waits for its turn."""
OUTCOME_SECONDS = 15.0
"""How long is asked what became of a commit whose answer was lost."""
OUTCOME_PAUSE_SECONDS = 0.05
HINT_BYTES_MAX = 7000
"""PostgreSQL takes 8,000 at a time."""
TOPIC = re.compile(r"[a-z0-9-]+")
BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"
    " SELECT set_config('jit', 'off', true),"
    f" set_config('idle_in_transaction_session_timeout', '{IDLE_SECONDS}s', true),"
    f" set_config('lock_timeout', '{TURN_SECONDS}s', true),"
    " CASE current_setting('synchronous_commit') WHEN 'off' THEN"
    " set_config('synchronous_commit', 'on', true) END;"
    f" SELECT pg_advisory_xact_lock({LOCK}), pg_current_xact_id()::text,"
    " trunc(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
)

logger = logging.getLogger(__name__)


class PostgresWriter(Writer):
    """The connection that writes; another one after it was lost."""

    error = psycopg.Error

    def __init__(self, connect: Callable[[], Link], tx: PostgresTx, pause: Pause, me: str) -> None:
        """`me`: the name under which this server hints."""
        super().__init__(tx, pause)
        self._connect = connect
        self._postgres_tx = tx
        self._me = me
        self._link: Link | None = None
        self._transaction = ""
        """Its number, by which is asked what became of it."""
        self._hints_before = 0

    def close(self) -> None:
        """Leave the database."""
        if self._link is not None:
            with contextlib.suppress(psycopg.Error):
                self._link.close()
        self._link = None

    def _begin(self, *, wait: bool) -> bool:
        """A group on PostgreSQL is never the loop's own: each statement is a way there and back."""
        if not wait:
            return False
        self._postgres_tx.hints.clear()
        try:
            self._begin_on(self._linked())
        except psycopg.Error as error:
            # What had lain idle may be gone since; a database that is gone itself says so again.
            if not is_about_database(error) or error.sqlstate == "55P03":
                raise
            self.close()
            self._begin_on(self._linked())
        return True

    def _linked(self) -> Link:
        if self._link is None:
            self._link = self._connect()
            self._postgres_tx.cursor = self._link.cursor()
        return self._link

    def _begin_on(self, link: Link) -> None:
        cursor = link.execute(BEGIN, prepare=False)
        while cursor.nextset():
            pass
        row = cursor.fetchone()
        assert row is not None
        self._transaction = str(row[1])
        self._postgres_tx.clock_ahead = int(row[2]) - time.time_ns() // 1000

    def _commit(self) -> None:
        assert self._link is not None
        try:
            for payload in payloads(self._me, self._postgres_tx.hints):
                self._execute(f"NOTIFY {CHANNEL}, '{payload}'")
            self._execute("COMMIT")
        except psycopg.Error as error:
            if not self._link.closed:
                raise
            if not self._was_committed():
                raise
            logger.warning("the answer to a commit was lost; it is on disk: %s", error)

    def _was_committed(self) -> bool:
        """Ask what became of the transaction; not to know it is told like a failure.

        While the database starts again it is asked on and on: nobody is told that nothing was
        stored, and repeats it, as long as it may be known.
        """
        self.close()
        until = time.monotonic() + OUTCOME_SECONDS
        while time.monotonic() < until:
            try:
                row = (
                    self._linked()
                    .execute("SELECT pg_xact_status(CAST(%s AS xid8))", (self._transaction,))
                    .fetchone()
                )
            except psycopg.errors.InvalidParameterValue:
                # Another server has taken over, which has never heard of it.
                return False
            except psycopg.Error:
                self.close()
            else:
                assert row is not None
                if row[0] != "in progress":
                    return bool(row[0] == "committed")
            time.sleep(OUTCOME_PAUSE_SECONDS)
        return False

    def _give_up(self) -> None:
        if self._link is None:
            return
        try:
            if not self._link.closed:
                self._execute("ROLLBACK")
        except psycopg.Error:
            self.close()
        else:
            if self._link.closed:
                self.close()

    def _save(self) -> None:
        self._hints_before = len(self._postgres_tx.hints)
        self._execute("SAVEPOINT piece")

    def _undo(self, *, is_first: bool) -> None:
        del self._postgres_tx.hints[0 if is_first else self._hints_before :]
        self._execute("ROLLBACK" if is_first else "ROLLBACK TO piece")

    def _release(self) -> None:
        self._execute("RELEASE piece")

    def _is_about_storage(self, error: Exception) -> bool:
        return is_about_database(error)

    def _is_in_transaction(self) -> bool:
        return self._link is not None and not self._link.closed

    def _execute(self, statement: str) -> None:
        assert self._link is not None
        self._link.execute(statement, prepare=False)


def payloads(me: str, topics: Iterable[str]) -> list[str]:
    """Return what is sent to other servers: who hints, and at what, in as few pieces as it takes.

    A topic that is none of ours is left out: what is sent stands in a statement.
    """
    found: list[str] = []
    for topic in dict.fromkeys(topics):
        if not TOPIC.fullmatch(topic):
            continue
        if not found or len(found[-1]) + len(topic) >= HINT_BYTES_MAX:
            found.append(me)
        found[-1] += f" {topic}"
    return found
