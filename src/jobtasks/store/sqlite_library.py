"""How the SQLite library of this process is set, which Python's module leaves as it was built."""

from __future__ import annotations

import ctypes
import importlib

OK = 0
MULTITHREAD = 2
"""``SQLITE_CONFIG_MULTITHREAD``: a connection has no mutex of its own."""
MEMSTATUS = 9
"""``SQLITE_CONFIG_MEMSTATUS``: whether memory is counted, under a mutex, at each allocation."""


def take_no_locks() -> bool:
    """Have SQLite lock nothing that only one thread uses; return whether it will.

    Only for a process that has no connection yet, and whose connections are used by one thread at
    a time, as those of `SqliteStore` are. What cannot be set stays as it is: that is slower, no
    harm.
    """
    try:
        library = ctypes.CDLL(importlib.import_module("_sqlite3").__file__)
        shutdown, initialize = library.sqlite3_shutdown, library.sqlite3_initialize
        config = library.sqlite3_config
    except (ImportError, AttributeError, OSError):
        # A module that is built into the interpreter has no file, or its library shows no names.
        return False
    if shutdown() != OK:
        return False
    answers = [config(MULTITHREAD), config(MEMSTATUS, 0)]
    return bool(initialize() == OK and answers == [OK, OK])
