"""Connections to PostgreSQL: how they are made, and which errors tell of the database itself."""

from __future__ import annotations

import functools
from typing import Any

import psycopg
from psycopg import conninfo
from psycopg.errors import Error

from jobtasks.store.postgres_types import adapters

Link = psycopg.Connection[tuple[Any, ...]]

CONNECT_SECONDS = 5
"""How long a host is given to answer, unless the address says otherwise."""
SILENCE_SECONDS = 10
"""A host that acknowledges nothing for so long is given up."""
PREPARED_MAX = 2000
"""More than there are statements."""
ABOUT_DATABASE = frozenset({"08", "53", "57", "58", "XX", "40", "F0"})
"""Classes of errors that tell of the database, its machine, or of others who use it."""
ALSO_ABOUT_DATABASE = frozenset({"25006", "25P03", "55P03", "3D000", "28000", "28P01"})
"""A standby that takes no writes, a transaction that lay idle, a lock not had in time, a database
or a user that is not there now."""


class Context:
    """How values go and come, as the driver asks for it."""

    def __init__(self) -> None:
        self.adapters = adapters()
        self.connection = None


_context = functools.cache(Context)


def full_address(address: str) -> str:
    """Return an address with what it leaves open; what it says stays.

    Raises:
        psycopg.ProgrammingError: it is none.
    """
    usual: dict[str, str | int] = {
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": SILENCE_SECONDS * 1000,
        "keepalives_idle": SILENCE_SECONDS,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "target_session_attrs": "read-write",
        "application_name": "jobtasks",
    }
    given = conninfo.conninfo_to_dict(address)
    return conninfo.make_conninfo("", **{**usual, **given})


def connect(address: str, *, pooled: bool) -> Link:
    """Return a connection in which each statement is a transaction unless one was begun.

    `pooled`: what is prepared would be with another client's transaction the next time.
    """
    link = psycopg.connect(
        address, autocommit=True, context=_context(), prepare_threshold=None if pooled else 1
    )
    link.prepared_max = PREPARED_MAX
    return link


def is_about_database(error: BaseException) -> bool:
    """Return whether the database or the way to it is at fault, not the statement."""
    if not isinstance(error, Error):
        return False
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return state[:2] in ABOUT_DATABASE or state in ALSO_ABOUT_DATABASE
