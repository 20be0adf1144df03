"""The service in process: each call is one transaction at the time of a manual clock."""

from __future__ import annotations

import functools
import random
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from jobtasks.core.filters import parse_query
from jobtasks.core.identifiers import UuidMaker
from jobtasks.core.resources import RESOURCES
from jobtasks.core.settings import Settings
from jobtasks.service import (
    events,
    jobs,
    listing,
    setup,
    tasks,
    tick,
    tokens,
    user_tokens,
    users,
)
from jobtasks.service.context import Caller, Context, World
from jobtasks.store.base import Store, Tx
from jobtasks.store.records import AttemptRecord, JobRecord, TaskRecord
from jobtasks.store.sqlite import SqliteStore, migrate
from jobtasks.testing.clock import ManualClock

P = ParamSpec("P")
T = TypeVar("T")

ADMIN_TOKEN = "u" + "admin" * 9 + "1234"
"""Speaks for the root user in every `LocalService`."""
AGENT_TOKEN = "u" + "agent" * 9 + "1234"
"""What simulated agents present."""
MEMORY = Path(":memory:")
SCRIPT = {"script": "run", "script_version": "/srv/scripts"}
"""What jobs run unless a test says otherwise: only their tasks' own verdicts count (R10–R12)."""
TASKS_MAX = 1_000_000
"""What `LocalService.tasks_of` returns at most."""
HEARD_SECONDS = 20.0
"""How often an agent is heard that `LocalService.pass_seconds` keeps alive."""


class Renewing(Protocol):
    """What keeps its leases."""

    def renew(self) -> None:
        """Be heard, without asking for work."""
        ...


@functools.cache
def empty_database() -> bytes:
    """Return a database with the newest schema and nothing in it."""
    connection = sqlite3.connect(":memory:")
    migrate(connection)
    found = connection.serialize()
    connection.close()
    return found


def copy_schema(connection: sqlite3.Connection) -> None:
    """Make a database in memory a copy of the empty one: thousands are made by some tests."""
    connection.deserialize(empty_database())


class LocalService:
    """Store, world and manager of one database, without HTTP, threads of its own or real time.

    `random` is what every draw of the service yields: 0.5 means no jitter (R15). `wake` gathers
    whom the calls would have woken. All work goes through `Store.write`, as the server does it;
    with the default path the database lives in memory.
    """

    def __init__(
        self,
        path: Path = MEMORY,
        *,
        settings: Settings | None = None,
        store: Store | None = None,
        log_dir: Path = Path("/nonexistent"),
    ) -> None:
        self.store = store or SqliteStore(path, copy_schema if path == MEMORY else None)
        self.clock = ManualClock()
        self.random = 0.5
        self.wake: set[str] = set()
        uuids = UuidMaker(setup.PREFIX, random.Random(1).randrange)
        self.world = World(settings or Settings(), uuids, b"k" * 32, lambda: self.random, log_dir)
        self.run(setup.prepare, ADMIN_TOKEN, AGENT_TOKEN)
        self.term = self.run(tick.take_over, "test")

    def close(self) -> None:
        """Close the database."""
        self.store.close()

    def call(
        self,
        method: Callable[Concatenate[Context, Caller, P], T],
        /,
        *arguments: P.args,
        **named: P.kwargs,
    ) -> T:
        """Call a service method as the admin; errors of the method are raised here."""
        return self.as_token(ADMIN_TOKEN, method, *arguments, **named)

    def as_token(
        self,
        token: str | None,
        method: Callable[Concatenate[Context, Caller, P], T],
        /,
        *arguments: P.args,
        **named: P.kwargs,
    ) -> T:
        """Call a service method as whom the token speaks for, looked up in its transaction."""
        return self.run(lambda ctx: method(ctx, tokens.identify(ctx, token), *arguments, **named))

    def run(
        self, method: Callable[Concatenate[Context, P], T], /, *arguments: P.args, **named: P.kwargs
    ) -> T:
        """Call what has no caller: the manager's own methods."""

        def work(tx: Tx) -> T:
            ctx = self.context(tx)
            result = method(ctx, *arguments, **named)
            events.write(ctx)
            return result

        return self.write(work)

    def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction and return what it returned, after the commit."""
        return self.store.write(work).result(60)

    def context(self, tx: Tx) -> Context:
        """Return the context of one call, at the clock's time."""
        return Context(tx, self.clock.now, self.world, self.wake)

    def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a reading statement of the test's own."""
        return self.write(lambda tx: tx.text(statement, values))

    def tick(self, *, gap: bool = False) -> int | None:
        """Let the manager work once."""
        return self.run(tick.tick, self.term, gap=gap)

    def pass_seconds(self, seconds: float, *agents: Renewing) -> None:
        """Let time pass, then let the manager work; `agents` are heard often enough to live."""
        while agents and seconds > HEARD_SECONDS:
            self._advance(HEARD_SECONDS, agents)
            seconds -= HEARD_SECONDS
        self._advance(seconds, agents)

    def _advance(self, seconds: float, agents: Iterable[Renewing]) -> None:
        self.clock.advance(seconds)
        for agent in agents:
            agent.renew()
        self.tick()

    def new_user(self, name: str) -> str:
        """Create a user and return a token that speaks for him."""
        user = self.call(users.create, {"username": name})
        token = self.call(user_tokens.create, {"owner_uuid": user.uuid}).api_token
        assert token is not None
        return token

    def new_job(self, **attributes: Any) -> JobRecord:
        """Create a job of a script, or of the `command` given; it is queued until a tick."""
        work = {} if "command" in attributes else SCRIPT
        return self.call(jobs.create, {**work, **attributes})

    def started_job(self, **attributes: Any) -> JobRecord:
        """Create a job and tick: it runs when a node is large enough."""
        job = self.new_job(**attributes)
        self.tick()
        return self.job(job)

    def job(self, job: JobRecord | str) -> JobRecord:
        """Return a job as it is now."""
        return self.call(jobs.show, job if isinstance(job, str) else job.uuid)

    def task(self, uuid: str) -> TaskRecord:
        """Return a task as it is now."""
        return self.call(tasks.show, uuid)

    def attempts(self, uuid: str) -> list[AttemptRecord]:
        """Return a task's attempts, first to last."""
        return self.call(tasks.attempts, uuid)

    def tasks_of(self, job: JobRecord) -> list[TaskRecord]:
        """Return a job's visible tasks in order of qsequence."""
        asked = {"filters": [["job_uuid", "=", job.uuid]], "order": "qsequence", "limit": TASKS_MAX}
        query = parse_query(RESOURCES["job_tasks"], asked, TASKS_MAX)
        return list(self.call(listing.list_tasks, query).items)
