"""What a claim costs on PostgreSQL: the same among few waiting tasks and among many, in buffers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from tests.databases import Cluster
from tests.rounds import IS_TORTURE
from tests.service.test_flat_costs import NODE, SLOTS, claim_all

from jobtasks.service.context import Context
from jobtasks.store.base import Values
from jobtasks.store.postgres import PostgresStore
from jobtasks.store.postgres_tx import PostgresTx
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

FEW = 1000
MANY = 1_000_000 if IS_TORTURE else 50_000
TASKS = 800 if IS_TORTURE else 64
"""So many run while an old snapshot is open."""
GROW = """
UPDATE batch SET size = size + {more}, ready = ready + {more} WHERE state = 1 AND ready > 0;
UPDATE level SET todo = todo + {more} WHERE sequence = 1;
UPDATE lane SET ready = ready + {more} WHERE sequence = 1;
UPDATE tally SET todo = todo + {more}, next_qsequence = next_qsequence + {more};
INSERT INTO task (id, uuid, batch_id, sequence, created_at, modified_at)
SELECT t.last + n, 'zzzzz-ot0gb-' || lpad(n::text, 15, '0'), t.batch_id, 1, 0, 0
FROM (SELECT max(id) AS last, max(batch_id) AS batch_id FROM task) AS t,
    generate_series(1, {more}) AS n;
"""
"""Adds tasks to the last batch as one large create would: a million calls would take an hour."""


class MeasuredTx(PostgresTx):
    """A transaction that has each statement explained before it is run."""

    buffers = 0
    """Blocks of 8 KiB that statements touched."""
    statements_run = 0

    def _on_cursor(self, sql: str, values: Values) -> psycopg.Cursor[tuple[Any, ...]]:
        cursor = self._cursor
        cursor.execute("SAVEPOINT looked")
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) {sql}", values)
        plan = "\n".join(row[0] for row in cursor.fetchall()).partition("Planning:")[0]
        cursor.execute("ROLLBACK TO looked")
        first = re.search(r"Buffers: shared ([^\n]*)", plan)
        if first is not None:
            counts = re.findall(r"(?:hit|read)=(\d+)", first[1])
            self.buffers += sum(map(int, counts))
        self.statements_run += 1
        return super()._on_cursor(sql, values)


def cost_of(address: str, service: LocalService, work: Callable[[Context], int]) -> tuple[int, int]:
    """Run `work` in a transaction, roll it back; return statements and buffers of it."""
    store = PostgresStore(address)
    with contextlib.closing(store._connect()) as link:
        link.execute("BEGIN")
        tx = MeasuredTx(link.cursor())
        assert work(service.context(tx)) == SLOTS
        link.execute("ROLLBACK")
    store.close()
    return tx.statements_run, tx.buffers


class Crowd:
    """A database where many tasks wait."""

    def __init__(self, address: str, count: int) -> None:
        self.address = address
        self.service = LocalService(store=PostgresStore(address))
        self.agent = SimulatedAgent(
            self.service, slots=SLOTS, memory_kib=NODE.memory_kib, cores=NODE.cores
        )
        self.service.started_job()
        seed = self.agent.take_one()
        self.agent.create(seed, *[{}] * FEW)
        self.agent.complete(seed)
        if count > FEW:
            with psycopg.connect(address) as link:
                link.execute(GROW.format(more=count - FEW))
        with psycopg.connect(address, autocommit=True) as link:
            link.execute("VACUUM ANALYZE")

    def claim_cost(self) -> tuple[int, int]:
        return cost_of(self.address, self.service, claim_all)

    def work(self) -> None:
        """Claim and complete some."""
        for _ in range(TASKS // SLOTS):
            for assignment in self.agent.take():
                self.agent.complete(assignment)


@pytest.fixture(scope="module")
def crowds(postgres: Cluster) -> Iterator[dict[str, Crowd]]:
    found = {
        name: Crowd(postgres.new_database(), count)
        for name, count in (("few", FEW), ("many", MANY))
    }
    yield found
    for crowd in found.values():
        crowd.service.close()


def test_a_claim_costs_the_same(crowds: dict[str, Crowd]) -> None:
    """Of 16 tasks: among a thousand and among fifty thousand (a million under torture)."""
    few, many = crowds["few"].claim_cost(), crowds["many"].claim_cost()
    print(f"claim of {SLOTS}: among {FEW} {few}, among {MANY} {many} (statements, buffers)")
    assert many[0] == few[0]
    # The trees of indices are a level or two higher.
    assert many[1] <= few[1] * 1.5


def test_a_claim_costs_the_same_beside_an_old_snapshot(crowds: dict[str, Crowd]) -> None:
    """What has changed since it was taken is not cleaned up: that costs, not what waits."""
    costs = {}
    for name, crowd in crowds.items():
        with psycopg.connect(crowd.address) as old:
            old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            old.execute("SELECT count(*) FROM job")
            before = crowd.claim_cost()
            crowd.work()
            with psycopg.connect(crowd.address, autocommit=True) as link:
                link.execute("VACUUM ANALYZE")
            costs[name] = (before, crowd.claim_cost())
    print(f"before and after {TASKS} tasks beside an old snapshot: {costs}")
    assert costs["many"][1][1] <= costs["few"][1][1] * 1.5
    # An attempt that has ended is still found at its node: twice, a few dozen on a block.
    assert costs["many"][1][1] <= costs["many"][0][1] + TASKS
