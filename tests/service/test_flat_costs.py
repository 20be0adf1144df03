"""What is claimed, published and deleted costs the same however many tasks there are (R4, R5).

Counts, not seconds: statements, steps of SQLite's virtual machine, pages read by a connection with
an empty cache, rows changed. The 100,000 tasks are made by the service, once for all tests.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jobtasks.core.placement import NodeSize
from jobtasks.protocol.messages import Assignment, Ended, EndKind
from jobtasks.service import arrivals, creation, fleet, jobs, tick, tokens
from jobtasks.service.arrivals import Arrival
from jobtasks.service.claim import claim
from jobtasks.service.context import Caller, Context
from jobtasks.service.ends import record_end
from jobtasks.service.ledger import Ledger
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import SCRIPT, LocalService

from .costs import Cost, cost_of

MANY = 100_000
FEW = 1000
SLOTS = 16
CALL_MAX = 50_000
SLICE = 2000
BLOCKED_JOBS = 10_000
READING_ON = 4
"""Statements: shapes, owners, and the lanes of one."""
TOO_LARGE = {"runtime_constraints": {"min_ram_per_task": 2_000_000}}
NODE = NodeSize(1, 1_000_000, 64, 1000)


class Prepared(NamedTuple):
    """A database with a running seed that has created tasks."""

    path: Path
    service: LocalService
    agent: SimulatedAgent
    seed: Assignment


def claim_all(ctx: Context) -> int:
    """Claim for the free slots of the node, and settle the counters, as a sync does."""
    ledger = Ledger(ctx)
    claimed = claim(ctx, ledger, NODE, 1, range(1, SLOTS + 1), fleet.taken_slots(ctx, NODE.id))
    ledger.flush()
    return len(claimed)


def end_of(attempt: Assignment) -> Callable[[Context], int]:
    """Return the work that records an attempt's end, and settles the counters."""

    def work(ctx: Context) -> int:
        ledger = Ledger(ctx)
        record_end(ctx, ledger, Ended(attempt.attempt, EndKind.EXIT, exit_code=0), NODE.id)
        ledger.flush()
        return 0

    return work


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], Cost]]:
    """What (delete, publish, claim) costs with few tasks, with many, with many of which all but
    the last 16 are too large for the node, and the last beside 10,000 jobs that do not fit.
    """
    folder = tmp_path_factory.mktemp("flat")
    groups: dict[str, list[tuple[int, dict[str, Any]]]] = {
        "few": [(FEW, {})],
        "many": [(MANY, {})],
        "too large": [(MANY - SLOTS, TOO_LARGE), (SLOTS, {})],
    }
    found: dict[tuple[str, str], Cost] = {}
    for name, made in groups.items():
        database = prepare(folder / f"{name}.db", made)
        measure(database, name, found)
        if name == "too large":
            block(database)
            found["claim", "blocked"] = cost_of(database.service, database.path, claim_all)
        database.service.close()
    for (what, name), cost in found.items():
        print(what, name, cost)
    yield found
    shutil.rmtree(folder)


def prepare(path: Path, groups: list[tuple[int, dict[str, Any]]]) -> Prepared:
    """Make a database where a running seed has created these groups of tasks."""
    service = LocalService(path)
    agent = SimulatedAgent(service, slots=SLOTS, memory_kib=NODE.memory_kib, cores=NODE.cores)
    service.started_job()
    seed = agent.take_one()
    for count, item in groups:
        for made in range(0, count, CALL_MAX):
            agent.create(seed, *[item] * min(count - made, CALL_MAX))
    return Prepared(path, service, agent, seed)


def measure(database: Prepared, name: str, found: dict[tuple[str, str], Cost]) -> None:
    """Measure an end without a verdict and one with success; then publish, and measure a claim."""
    found["delete", name] = cost_of(database.service, database.path, end_of(database.seed))
    database.agent.write(database.seed, success=True)
    found["publish", name] = cost_of(database.service, database.path, end_of(database.seed))
    database.agent.end(database.seed)
    found["claim", name] = cost_of(database.service, database.path, claim_all)


def block(database: Prepared) -> None:
    """Add 10,000 running jobs whose tasks do not fit the node, only another one."""
    SimulatedAgent(database.service, "n2", memory_kib=4_000_000, slots=1)

    def add(ctx: Context, caller: Caller) -> None:
        for _ in range(BLOCKED_JOBS):
            jobs.create(ctx, caller, {**SCRIPT, **TOO_LARGE})

    database.service.call(add)
    while database.service.tick() == 0:
        pass
    running = database.service.rows("SELECT count(*) FROM job WHERE state = 'Running'")
    assert running == [(BLOCKED_JOBS + 1,)]


@pytest.mark.rule("R5", "R28")
@pytest.mark.parametrize("name", ["many", "too large", "blocked"])
def test_a_claim_costs_the_same(costs: dict[tuple[str, str], Cost], name: str) -> None:
    """Of 16 tasks: among 1,000 and 100,000 waiting ones, among such as do not fit, among 10,000
    jobs that do not fit: as many statements, nearly as many steps and pages.

    Where some do not fit the job has two lanes, which both follow its turn. Beside many jobs the
    lanes are read as far as turns are taken, after the try to read all.
    """
    few, other = costs["claim", "few"], costs["claim", name]
    assert (few.result, other.result) == (SLOTS, SLOTS)
    reads_on = name == "blocked"
    assert other.statements == few.statements + (READING_ON if reads_on else 0)
    assert other.changes == few.changes + (name != "many")
    assert other.steps <= few.steps * (1.25 if reads_on else 1.05)
    assert other.pages <= few.pages + 20


@pytest.mark.rule("R4")
@pytest.mark.parametrize("name", ["many", "too large"])
@pytest.mark.parametrize("what", ["publish", "delete"])
def test_ends_cost_the_same(costs: dict[tuple[str, str], Cost], what: str, name: str) -> None:
    """A creator's end publishes or deletes 100,000 children by changing a handful of rows.

    "too large" has two batches, which is two rows more, and one lane.
    """
    few, other = costs[what, "few"], costs[what, name]
    batches = 2 if name == "too large" else 1
    assert few.changes < 15
    assert other.changes <= few.changes + 3 * (batches - 1)
    assert other.statements <= few.statements + 3 * (batches - 1)
    assert other.steps <= few.steps * (1.05 if batches == 1 else 1.5)
    assert other.pages <= few.pages + 5


@pytest.mark.rule("R4")
def test_dead_children_are_swept_in_slices(tmp_path: Path) -> None:
    """Each tick removes at most 2,000 rows, afterwards; no reader sees any from the end on."""
    database = prepare(tmp_path / "swept.db", [(10 * FEW, {})])
    service = database.service
    database.agent.crash(database.seed)
    assert service.rows("SELECT count(*) FROM visible_task") == [(1,)]
    assert service.rows("SELECT count(*) FROM task") == [(10 * FEW + 1,)]
    slices = []
    while service.rows("SELECT count(*) FROM batch WHERE state = 2") != [(0,)]:
        slices.append(
            cost_of(database.service, database.path, lambda ctx: int(tick.sweep(ctx))).changes
        )
        service.tick()
        assert len(slices) < 20
    assert max(slices) <= 2001
    assert sum(slices) == 10 * FEW + 1
    assert service.rows("SELECT count(*) FROM task") == [(1,)]
    service.close()


@pytest.mark.rule("R2")
def test_slices_of_a_large_create_cost_the_same(tmp_path: Path) -> None:
    """The first of a job and one after 50,000 others: few statements, as many steps a task."""
    few = cost_of_slice(prepare(tmp_path / "first.db", []))
    many = cost_of_slice(prepare(tmp_path / "later.db", [(CALL_MAX, {})]))
    assert few.result == many.result == SLICE
    assert few.statements == many.statements < 20
    assert many.steps <= few.steps * 1.05 < 100 * SLICE
    assert many.pages <= few.pages + 20


def cost_of_slice(database: Prepared) -> Cost:
    """Return what one slice of a create costs, after which the create is forgotten."""
    token = database.seed.token
    begun = database.service.as_token(token, arrivals.begin, SLICE, None)
    assert isinstance(begun, Arrival)
    items = [{"parameters": {"n": number}} for number in range(SLICE)]
    slice_of_it = creation.checked(begun.origin, items)

    def add(ctx: Context) -> int:
        arrivals.add(ctx, tokens.identify(ctx, token), begun, slice_of_it)
        return len(begun.uuids)

    cost = cost_of(database.service, database.path, add)
    database.service.close()
    return cost
