"""Procrastinate on a PostgreSQL cluster of its own, which listens on the loopback."""

from __future__ import annotations

import importlib.metadata
import os
import pwd
import subprocess
import time
from pathlib import Path
from typing import Any

import procrastinate
import psycopg

from bench.peers.base import (
    RESULT_SECONDS,
    Adapter,
    Missing,
    beside_python,
    free_port,
    wait_for,
    wait_for_port,
)

STEP_SECONDS = 0.003


def as_owner(folder: Path) -> list[str]:
    """Return how to start PostgreSQL, which root must not run, as the owner of a folder."""
    if os.getuid():
        return []
    try:
        owner = pwd.getpwnam("postgres")
    except KeyError:
        raise Missing("there is no user postgres (Debian: postgresql)") from None
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    who = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    return ["setpriv", *who]


class Peer(Adapter):
    """It has no barrier: whoever waits for all tasks looks into the table."""

    setting = "PostgreSQL, commits on disk; one worker of as many coroutines as slots"
    share = 1 / 3

    def version(self) -> str:
        return importlib.metadata.version("procrastinate")

    def start(self, slots: int) -> None:
        where = self._start_postgres()
        wait_for("PostgreSQL", lambda: self._connect(where))
        self._app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=where))
        self._app.open()
        self._app.schema_manager.apply_schema()
        worker = [beside_python("procrastinate"), "--app=bench.peers.procrastinate_tasks.app"]
        options = ["worker", f"--concurrency={slots}", "--delete-jobs=always"]
        self.spawn("procrastinate", [*worker, *options], BENCH_PG=where)
        self._run: Any = self._app.configure_task("run")
        self._seed: Any = self._app.configure_task("seed")
        self.run_commands(slots, ["/bin/true"])

    def _connect(self, where: str) -> bool:
        """It listens a moment before it lets anybody in."""
        try:
            self._rows = psycopg.connect(where, autocommit=True)
        except psycopg.OperationalError:
            return False
        return True

    def _start_postgres(self) -> str:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not programs:
            raise Missing("PostgreSQL is not installed (Debian: postgresql)")
        folder = self.folder / "postgres"
        folder.mkdir()
        owner = as_owner(folder)
        data = str(folder / "data")
        made = [f"{programs[-1]}/initdb", "-D", data, "-A", "trust", "-U", "postgres"]
        subprocess.run([*owner, *made], check=True, stdout=subprocess.DEVNULL, cwd="/")
        port = free_port()
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        server = [f"{programs[-1]}/postgres", "-D", data, "-p", str(port), *options]
        self.spawn("postgres", [*owner, *server])
        wait_for_port(port)
        return f"host=127.0.0.1 port={port} user=postgres dbname=postgres"

    def _drain(self) -> None:
        until = time.monotonic() + RESULT_SECONDS
        while self._rows.execute("SELECT 1 FROM procrastinate_jobs LIMIT 1").fetchone():
            if time.monotonic() > until:
                raise TimeoutError("tasks are left")
            time.sleep(STEP_SECONDS)

    def run_commands(self, count: int, command: list[str]) -> None:
        self._run.batch_defer(*[{"command": command}] * count)
        self._drain()

    def run_tree(self, count: int) -> None:
        """The client defers the last task when the table is empty."""
        self._seed.defer(count=count)
        self._drain()
        self.run_commands(1, ["/bin/true"])
