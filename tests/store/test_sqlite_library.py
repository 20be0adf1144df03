"""How the SQLite library is set (store/sqlite_library.py)."""

from __future__ import annotations

import subprocess
import sys

LOOK = """
import ctypes, _sqlite3, sqlite3
from jobtasks.store.sqlite_library import take_no_locks
assert take_no_locks()
library = ctypes.CDLL(_sqlite3.__file__)
connection = sqlite3.connect(":memory:", check_same_thread=False)
connection.execute("CREATE TABLE t (a)")
connection.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
assert connection.execute("SELECT sum(a) FROM t").fetchone() == (3,)
library.sqlite3_memory_used.restype = ctypes.c_int64
assert library.sqlite3_memory_used() == 0, "memory is counted"
connection.close()
"""


def test_a_process_of_its_own_takes_no_locks() -> None:
    """What is allocated is not counted any more; all else is as before."""
    subprocess.run([sys.executable, "-c", LOOK], check=True, timeout=60)
