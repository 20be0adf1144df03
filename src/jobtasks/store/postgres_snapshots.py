"""A PostgreSQL database looked at from beside, while servers use it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import psycopg
from psycopg import conninfo

from jobtasks.store.base import Tx
from jobtasks.store.groups import said
from jobtasks.store.postgres import BEGIN_READING, schema_version
from jobtasks.store.postgres_link import Link, connect, full_address
from jobtasks.store.postgres_tx import PostgresTx
from jobtasks.store.snapshots import Unreadable

T = TypeVar("T")
ANY_SERVER = {"target_session_attrs": "any"}
"""A standby may be looked at as well."""


class PostgresBeside:
    """A PostgreSQL database (see `store.snapshots.Beside`); its schema is left as it is.

    Raises:
        Unreadable: this is no address.
    """

    def __init__(self, address: str, *, pooled: bool = False) -> None:
        try:
            given = conninfo.conninfo_to_dict(address)
        except psycopg.Error as error:
            raise Unreadable(f"this is no address of a database: {said(error)}") from None
        self._address = full_address(conninfo.make_conninfo("", **{**ANY_SERVER, **given}))
        self._pooled = pooled
        self.name = f"database {given.get('dbname') or given.get('user') or ''}".rstrip()

    def schema_version(self) -> int:
        """Return the number of the last migration that it had; 0: none ever."""
        with self._beside() as link:
            found = link.execute("SELECT to_regclass('schema_version')", prepare=False).fetchone()
            return schema_version(link) if found and found[0] else 0

    def damage(self) -> list[str]:
        """Return nothing: of its pages pg_amcheck tells."""
        return []

    def look(self, work: Callable[[Tx], T]) -> T:
        """Run `work`, which only reads, on what is committed at one moment."""
        with self._beside() as link:
            link.execute(BEGIN_READING, prepare=False)
            return work(PostgresTx(link.cursor()))

    @contextlib.contextmanager
    def _beside(self) -> Iterator[Link]:
        try:
            with contextlib.closing(connect(self._address, pooled=self._pooled)) as link:
                yield link
        except psycopg.Error as error:
            raise Unreadable(f"cannot read {self.name}: {said(error)}") from None
