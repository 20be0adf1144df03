"""P7: claims, publication and deletion among very many tasks, in process, on a file."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.goals import Outcome, at_most
from bench.session import Session
from jobtasks.core.errors import JobTasksError
from jobtasks.core.placement import NodeSize
from jobtasks.protocol.messages import Assignment, Ended, EndKind
from jobtasks.service import fleet
from jobtasks.service.claim import claim
from jobtasks.service.context import Context
from jobtasks.service.ends import record_end
from jobtasks.service.ledger import Ledger
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

SLOTS = 16
CALL_MAX = 100_000
"""Tasks that one call may create."""
NODE = NodeSize(1, 1_000_000, 64, 1000)
REPEATS = 50


class Undone(JobTasksError):
    """Rolls a transaction back, so that the same work can be measured again."""


class Database:
    """A job whose running seed has created tasks; `path` is of a new file."""

    def __init__(self, path: Path, children: int) -> None:
        self.service = LocalService(path)
        self.agent = SimulatedAgent(
            self.service, slots=SLOTS, memory_kib=NODE.memory_kib, cores=NODE.cores
        )
        self.service.started_job()
        self.seed = self.agent.take_one()
        for made in range(0, children, CALL_MAX):
            self.agent.create(self.seed, *[{}] * min(children - made, CALL_MAX))

    def milliseconds(self, work: Callable[[Context], Any], repeats: int = REPEATS) -> float:
        """Return how long the writer's thread is busy with some work: the median, all undone."""
        times = []

        def measured(ctx: Context) -> None:
            begin = time.perf_counter()
            work(ctx)
            times.append((time.perf_counter() - begin) * 1000)
            raise Undone

        for _ in range(repeats):
            with contextlib.suppress(Undone):
                self.service.run(measured)
        return statistics.median(times)

    def commit_milliseconds(self, work: Callable[[Context], Any]) -> float:
        """Do it once and for all; how long it takes until it is on disk."""
        begin = time.perf_counter()
        self.service.run(work)
        return (time.perf_counter() - begin) * 1000

    def sweep_milliseconds(self) -> list[float]:
        """Let the manager remove dead rows, slice by slice; how long each slice takes."""
        times = []
        more: int | None = 0
        while more == 0:
            begin = time.perf_counter()
            more = self.service.tick()
            times.append((time.perf_counter() - begin) * 1000)
        return times


def claim_all(ctx: Context) -> None:
    """Claim for every slot of the node, and settle the counters, as a sync does."""
    ledger = Ledger(ctx)
    claimed = claim(ctx, ledger, NODE, 1, range(1, SLOTS + 1), fleet.taken_slots(ctx, NODE.id))
    ledger.flush()
    if len(claimed) != SLOTS:
        raise RuntimeError(f"{len(claimed)} tasks were claimed")


def end_of(attempt: Assignment) -> Callable[[Context], None]:
    """Return the work that records the end of an attempt."""

    def work(ctx: Context) -> None:
        ledger = Ledger(ctx)
        record_end(ctx, ledger, Ended(attempt.attempt, EndKind.EXIT, exit_code=0), NODE.id)
        ledger.flush()

    return work


def measure(path: Path, children: int) -> dict[str, Any]:
    """Return what ends of the seed and a claim take beside so many tasks, in milliseconds."""
    database = Database(path, children)
    found: dict[str, Any] = {"delete": database.milliseconds(end_of(database.seed), 5)}
    database.agent.write(database.seed, success=True)
    found["publish"] = database.milliseconds(end_of(database.seed), 5)
    found["publish_on_disk"] = database.commit_milliseconds(end_of(database.seed))
    found["claim"] = database.milliseconds(claim_all)
    database.service.close()
    return found


def sweep(path: Path, children: int) -> dict[str, float]:
    """Delete so many children for good; what the end and the slices after it take."""
    database = Database(path, children)
    found = {"delete_on_disk": database.commit_milliseconds(end_of(database.seed))}
    slices = database.sweep_milliseconds()
    database.service.close()
    return {
        **found,
        "slices": len(slices),
        "slice": statistics.median(slices),
        "slice_max": max(slices),
    }


def claims(session: Session) -> Outcome:
    """At 1,000, 100,000 and 1,000,000 waiting tasks."""
    most = session.sizes.waiting
    sizes = sorted({min(size, most) for size in (1000, 100_000, most)})
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="jobtasks-bench-") as folder:
        for size in sizes:
            found[str(size)] = measure(Path(folder) / f"{size}.db", size)
            told = ", ".join(f"{name} {value:.2f}" for name, value in found[str(size)].items())
            session.say(f"  {size:,} tasks, ms: {told}")
        found["sweep"] = sweep(Path(folder) / "sweep.db", most)
    largest = found[str(most)]
    flat = largest["claim"] / found[str(sizes[0])]["claim"]
    return Outcome(
        found,
        [
            *(
                at_most(f"claim of {SLOTS} among {size:,}", found[str(size)]["claim"], 1.0, "ms")
                for size in sizes
            ),
            at_most(f"claim among {most:,} over among {sizes[0]:,}", flat, 1.5, "×"),
            at_most(f"publish {most:,} children", largest["publish"], 50.0, "ms"),
            at_most(f"delete {most:,} children", largest["delete"], 50.0, "ms"),
            at_most("longest slice of the sweep after it", found["sweep"]["slice_max"], 50.0, "ms"),
        ],
    )
