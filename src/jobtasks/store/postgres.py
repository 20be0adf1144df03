"""The store on PostgreSQL, which several servers may share (store/postgres_writer.py).

The truth is in transactions alone, none of which lasts longer than one call: so a pooler that
hands out connections by transactions may stand between. What one server has committed is hinted at
to the others by LISTEN and NOTIFY, where that works; nothing depends on it.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg

from jobtasks.core.errors import Unavailable
from jobtasks.store.base import Hinted, StoreSpace, Tx
from jobtasks.store.groups import said
from jobtasks.store.pause import Pause
from jobtasks.store.postgres_link import Link, connect, full_address, is_about_database
from jobtasks.store.postgres_tx import PostgresTx
from jobtasks.store.postgres_writer import CHANNEL, LOCK, PostgresWriter
from jobtasks.store.serving import Serving
from jobtasks.store.statements import load_migrations

T = TypeVar("T")
OLDEST_VERSION = 150000
"""PostgreSQL 15, as the server tells it."""
BEGIN_READING = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT set_config('jit', 'off', true)"
)
AWAY_SECONDS = 0.5
"""After a connection failed no other is tried for so long: readers are told at once."""
LISTEN_SECONDS = 1.0
"""How soon a listener sees that it is to end, and how long it waits to connect again."""

logger = logging.getLogger(__name__)


class PostgresStore(Serving):
    """A PostgreSQL database (see `ServedStore`); its schema is brought up to date.

    `pooled`: a pooler stands between that hands out connections by transactions. Then nothing is
    prepared, and nobody listens.

    Raises:
        Unavailable: it is not there, is too old, or was written by a newer version.
    """

    is_shared = True

    def __init__(self, address: str, *, pooled: bool = False) -> None:
        try:
            self._address = full_address(address)
        except psycopg.Error as error:
            raise Unavailable(f"this is no address of a database: {said(error)}") from None
        self._pooled = pooled
        self._me = secrets.token_hex(8)
        self._away_until = 0.0
        self.pause = Pause("database")
        self._tx = PostgresTx()
        self._writer = PostgresWriter(self._connect, self._tx, self.pause, self._me)
        self._prepare()
        super().__init__(self._writer)
        self._readers = threading.local()
        self._links: set[Link] = set()
        self._ending = threading.Event()
        self._listener: threading.Thread | None = None

    def _prepare(self) -> None:
        try:
            with contextlib.closing(self._connect()) as link:
                migrate(link)
        except psycopg.Error as error:
            raise Unavailable(f"cannot use the database: {said(error)}") from None

    def _connect(self) -> Link:
        return connect(self._address, pooled=self._pooled)

    def read(self, work: Callable[[Tx], T], /) -> T:
        """Run `work` on a snapshot in the calling thread; again, when the connection was old."""
        try:
            is_old = self._is_linked()
            try:
                return self._read(work)
            except psycopg.Error as error:
                self._unlink_if_lost(error)
                if not is_old or self._is_linked():
                    raise
            return self._read(work)
        except psycopg.Error as error:
            self._unlink_if_lost(error)
            if not is_about_database(error):
                raise
            logger.warning("the database cannot be read: %s", said(error))
            raise Unavailable(f"The database cannot be read: {said(error)}") from None

    def _read(self, work: Callable[[Tx], T]) -> T:
        link, tx = self._reader()
        link.execute(BEGIN_READING, prepare=False)
        try:
            return work(tx)
        finally:
            if not link.closed:
                link.execute("ROLLBACK", prepare=False)

    def _is_linked(self) -> bool:
        return getattr(self._readers, "pair", None) is not None

    def _reader(self) -> tuple[Link, PostgresTx]:
        if not self._is_linked():
            if time.monotonic() < self._away_until:
                raise Unavailable("The database cannot be read: it is away.")
            try:
                link = self._connect()
            except psycopg.Error:
                self._away_until = time.monotonic() + AWAY_SECONDS
                raise
            self._links.add(link)
            self._readers.pair = (link, PostgresTx(link.cursor()))
        self._readers.pair[1].clock_ahead = self._tx.clock_ahead
        pair: tuple[Link, PostgresTx] = self._readers.pair
        return pair

    def _unlink_if_lost(self, error: psycopg.Error) -> None:
        """Forget this thread's connection when it cannot be used any more."""
        if not self._is_linked():
            return
        link = self._readers.pair[0]
        if link.closed or is_about_database(error):
            self._readers.pair = None
            self._links.discard(link)
            with contextlib.suppress(psycopg.Error):
                link.close()

    def space(self) -> StoreSpace:
        """Return what the database takes; how much of it is free only the server could tell."""
        found = self.read(lambda tx: tx.text("SELECT pg_database_size(current_database())", {}))
        return StoreSpace(int(found[0][0]), 0)

    def shrink(self) -> None:
        """Write every table anew without room that is not used."""
        try:
            with contextlib.closing(self._connect()) as link:
                link.execute("VACUUM (FULL, ANALYZE)", prepare=False)
        except psycopg.Error as error:
            raise Unavailable(f"The database could not be shrunk: {said(error)}") from None

    def on_hints(self, hinted: Hinted) -> None:
        """Listen to other servers; each time when that was not possible, say so by None.

        Through a pooler nobody can listen: there it is looked every second whether anything
        happened.
        """
        if self._listener is not None:
            return
        self._listener = threading.Thread(
            target=self._listen, args=(hinted,), name="store-listener", daemon=True
        )
        self._listener.start()

    def _listen(self, hinted: Hinted) -> None:
        while not self._ending.is_set():
            try:
                if self._pooled:
                    self._look(hinted)
                else:
                    self._hear(hinted)
            except (psycopg.Error, Unavailable) as error:
                logger.info("other servers cannot be heard: %s", said(error))
                self._ending.wait(LISTEN_SECONDS)

    def _look(self, hinted: Hinted) -> None:
        seen: int | None = None
        while not self._ending.wait(LISTEN_SECONDS):
            newest = self.read(lambda tx: int(tx.value("events_newest")))
            if newest != seen:
                hinted(None)
            seen = newest

    def _hear(self, hinted: Hinted) -> None:
        with contextlib.closing(self._connect()) as link:
            link.execute(f"LISTEN {CHANNEL}", prepare=False)
            hinted(None)
            while not self._ending.is_set():
                for notice in link.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                    self._heard(notice.payload, hinted)

    def _heard(self, payload: str, hinted: Hinted) -> None:
        sender, *topics = payload.split()
        if sender != self._me:
            hinted(topics)

    def close(self) -> None:
        """Finish what was accepted and leave the database."""
        super().close()
        self._ending.set()
        if self._listener is not None:
            self._listener.join()
        self._writer.close()
        for link in list(self._links):
            with contextlib.suppress(psycopg.Error):
                link.close()


def migrate(link: Link) -> None:
    """Bring the schema up to date, all in one transaction; refuse a newer or an older database.

    Servers that start together take turns.
    """
    if link.info.server_version < OLDEST_VERSION:
        raise Unavailable("The database is older than PostgreSQL 15.")
    encoding = link.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise Unavailable(f"The database has encoding {encoding}; UTF8 is needed.")
    with link.transaction():
        link.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        link.execute("CREATE TABLE IF NOT EXISTS schema_version (number BIGINT NOT NULL)")
        version = schema_version(link)
        migrations = load_migrations("postgres")
        if version > migrations[-1][0]:
            raise Unavailable(
                f"The database has schema {version}, this program knows {migrations[-1][0]}: it"
                " was written by a newer version."
            )
        for number, script in migrations:
            if number > version:
                link.execute(script, prepare=False)
                link.execute("INSERT INTO schema_version (number) VALUES (%s)", (number,))


def schema_version(link: Link) -> int:
    """Return the number of the last migration that a database had; 0: none."""
    row: tuple[Any, ...] | None = link.execute(
        "SELECT coalesce(max(number), 0) FROM schema_version"
    ).fetchone()
    assert row is not None
    return int(row[0])
