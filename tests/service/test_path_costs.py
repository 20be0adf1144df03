"""What a task costs the server on its way: statements, rows and pages of a sync that carries it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import pytest

from jobtasks.protocol.messages import Sync
from jobtasks.service import nodes, tokens
from jobtasks.service.context import Context
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import AGENT_TOKEN, LocalService

from .costs import PAGE_BYTES, Cost, cost_of

WIDE = 64
FRAME_BYTES = PAGE_BYTES + 24
"""A page in the write-ahead log."""


class Line:
    """A wide node that is kept busy by a job of short tasks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.service = LocalService(path)
        self.agent = SimulatedAgent(self.service, slots=WIDE)
        self.service.started_job(command=["true"])
        seed = self.agent.take_one()
        self.agent.create(seed, *repeat({}, 2000))
        self.agent.end(seed)
        self.agent.take()

    def message(self, ends: int) -> Sync:
        """Return a sync that tells of so many ends, and has room for as many tasks."""
        for assignment in list(self.agent.running.values())[:ends]:
            self.agent.end(assignment, sync=False, run_seconds=0.001)
        return self.agent.message()

    def cost_of(self, ends: int) -> Cost:
        """Return what such a sync takes."""
        message = self.message(ends)

        def sync(ctx: Context) -> int:
            orders = nodes.sync(ctx, tokens.identify(ctx, AGENT_TOKEN), message)
            assert len(orders.acknowledged) == len(orders.start) == ends
            return ends

        cost = cost_of(self.service, self.path, sync)
        self.agent.obey(self.agent.send(message))
        self.agent.renew()
        return cost


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """One of these."""
    found = Line(tmp_path_factory.mktemp("path") / "db")
    yield found
    found.service.close()


def test_statements_of_a_sync(line: Line) -> None:
    """One end and one start: 21. Each further pair: four, all of them writes of its own rows."""
    one, many = line.cost_of(1), line.cost_of(16)
    assert one.statements <= 21
    assert (many.statements - one.statements) / 15 <= 4
    assert (many.changes - one.changes) / 15 <= 4


def test_pages_of_a_commit(line: Line) -> None:
    """What a transaction puts into the write-ahead log, which is what it costs the disk."""

    def pages(ends: int) -> int:
        message = line.message(ends)
        ahead = Path(f"{line.path}-wal")
        with contextlib.closing(sqlite3.connect(line.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        line.agent.obey(line.agent.send(message))
        found = ahead.stat().st_size // FRAME_BYTES
        line.agent.renew()
        return found

    one, many = pages(1), pages(16)
    assert one <= 19
    assert (many - one) / 15 <= 1
