"""A PostgreSQL of the tests' own: directory, socket and user are its own."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from jobtasks.store.base import ServedStore
from jobtasks.store.postgres import PostgresStore
from jobtasks.store.sqlite import SqliteStore

USER = "postgres"
"""Who runs it when root runs the tests: it refuses root."""
START_SECONDS = 60
OPTIONS = (
    # Processes are killed here, machines are not.
    "fsync=off",
    "listen_addresses=",
    "max_connections=200",
    "shared_buffers=64MB",
    "autovacuum_naptime=10s",
    "log_min_messages=fatal",
)
NAMES = itertools.count()


def programs() -> Path | None:
    """Return where the newest PostgreSQL of this machine has its programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=version_of)
    if found:
        return found[-1].parent
    postgres = shutil.which("postgres")
    return Path(postgres).parent if postgres else None


def version_of(path: Path) -> int:
    """Return the version that Debian's directory names."""
    return int(path.parent.parent.name)


def as_user() -> list[str]:
    """Return what runs a command as another user than root."""
    if os.geteuid():
        return []
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]


class Cluster:
    """A server with its databases; skips the test where there is no PostgreSQL."""

    def __init__(self, *options: str, follows: Cluster | None = None) -> None:
        """`follows`: the server of which this one is a standby."""
        found = programs()
        if found is None:
            pytest.skip("PostgreSQL is not installed: Debian's package is postgresql")
        self._programs = found
        # Not below pytest's: another user must get there, and a socket's name is short.
        self.directory = Path(tempfile.mkdtemp(prefix="jobtasks-pg-"))
        self._options = (*OPTIONS, *options, f"unix_socket_directories={self.directory}")
        if os.geteuid() == 0:
            os.chown(self.directory, pwd.getpwnam(USER).pw_uid, -1)
        data = str(self.directory / "data")
        if follows is None:
            self._run("initdb", "-D", data, "-A", "trust", "-U", USER, "-E", "UTF8", "--no-sync")
        else:
            whence = ["-h", str(follows.directory), "-U", USER, "--checkpoint=fast", "--no-sync"]
            self._run("pg_basebackup", "-D", data, "-R", *whence)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it accepts."""
        options = " ".join(f"-c {option}" for option in self._options)
        log = str(self.directory / "log")
        self._control("start", "-w", "-t", str(START_SECONDS), "-l", log, "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        """Stop it, as if it had crashed unless told otherwise."""
        self._control("stop", "-w", "-m", mode)

    def promote(self) -> None:
        """Let a standby take writes from now on."""
        self._control("promote", "-w")

    def close(self) -> None:
        """Stop it and remove what it has."""
        if (self.directory / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.directory)

    def address(self, database: str = "postgres") -> str:
        """Return the address of a database."""
        return f"postgresql://{USER}@/{database}?host={self.directory}"

    def execute(self, statement: str, address: str = "") -> list[tuple[Any, ...]]:
        """Run a statement from beside; return its rows."""
        with psycopg.connect(address or self.address(), autocommit=True) as link:
            cursor = link.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def new_database(self) -> str:
        """Return the address of an empty database with the schema."""
        name = f"test_{next(NAMES)}"
        template = self._template()
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return self.address(name)

    def _template(self) -> str:
        if not self.execute("SELECT 1 FROM pg_database WHERE datname = 'empty'"):
            self.execute("CREATE DATABASE empty TEMPLATE template0")
            PostgresStore(self.address("empty")).close()
        return "empty"

    def _control(self, *words: str) -> None:
        self._run("pg_ctl", "-D", str(self.directory / "data"), *words)

    def _run(self, program: str, *words: str) -> None:
        command = [str(self._programs / program), *words]
        command = [*as_user(), *command]
        # What pg_ctl starts would keep a pipe open for ever.
        with (self.directory / "said").open("wb") as said:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/", check=False
            )
        assert done.returncode == 0, (self.directory / "said").read_text()


class Pooler:
    """A PgBouncer before a cluster, which hands out connections by transactions."""

    def __init__(self, cluster: Cluster) -> None:
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        if not Path(program).exists():
            pytest.skip("PgBouncer is not installed: Debian's package is pgbouncer")
        self._directory = cluster.directory / f"pool-{next(NAMES)}"
        self._directory.mkdir()
        settings = self._directory / "pgbouncer.ini"
        settings.write_text(
            f"""
[databases]
* = host={cluster.directory} user={USER} pool_size=4
[pgbouncer]
pool_mode = transaction
unix_socket_dir = {self._directory}
listen_port = 5432
auth_type = any
ignore_startup_parameters = extra_float_digits
logfile = {self._directory / "log"}
"""
        )
        if os.geteuid() == 0:
            for path in (self._directory, settings):
                os.chown(path, pwd.getpwnam(USER).pw_uid, -1)
        command = [*as_user(), program, "-q", str(settings)]
        self._process = subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL)
        until = time.monotonic() + START_SECONDS
        while not (self._directory / ".s.PGSQL.5432").exists():
            assert self._process.poll() is None, (self._directory / "log").read_text()
            assert time.monotonic() < until, "PgBouncer does not start"
            time.sleep(0.01)

    def address(self, address: str) -> str:
        """Return the address of a database of the cluster through the pooler."""
        return f"{address.partition('?')[0]}?host={self._directory}"

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def cluster(*options: str) -> Iterator[Cluster]:
    """A server for as long as it is needed."""
    found = Cluster(*options)
    try:
        yield found
    finally:
        found.close()


IS_SERVED_BY_POSTGRES = os.environ.get("JOBTASKS_TEST_SERVED") == "postgres"
"""Whether servers of tests that do not say so otherwise keep their records in PostgreSQL."""


@functools.cache
def common_cluster() -> Cluster:
    """Return the cluster of all such servers of this process; it ends with the process."""
    found = Cluster()
    atexit.register(found.close)
    return found


@functools.cache
def address_for(state: Path) -> str:
    """Return the database that stands for the file of a state directory."""
    return common_cluster().new_database()


def store_for(state: Path) -> ServedStore:
    """Return the store of a server in process, on a new directory."""
    if IS_SERVED_BY_POSTGRES:
        return PostgresStore(address_for(state))
    return SqliteStore(state / "jobtasks.db")


def options_for(state: Path, given: Sequence[str]) -> list[str]:
    """Return what a server on a state directory is told beside what the test says."""
    if not IS_SERVED_BY_POSTGRES or "--database" in given or (state / "jobtasks.db").exists():
        return []
    return ["--database", address_for(state)]


def empty(address: str) -> None:
    """Make a database as it was when it was new: quicker than another one."""
    with psycopg.connect(address, autocommit=True) as link:
        link.execute(EMPTY)


EMPTY = """
DO $$
DECLARE
    found RECORD;
BEGIN
    FOR found IN SELECT tablename FROM pg_tables
        WHERE schemaname = 'public' AND tablename NOT IN ('schema_version', 'counter')
    LOOP
        EXECUTE format('DELETE FROM %I', found.tablename);
    END LOOP;
    FOR found IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'
        AND last_value IS NOT NULL
    LOOP
        EXECUTE format('ALTER SEQUENCE %I RESTART', found.sequencename);
    END LOOP;
    UPDATE counter SET seq = 0 WHERE seq <> 0;
END $$
"""
