"""A morning's work of three nodes, as the service records it: what the pages' pictures show.

Nothing of it depends on chance or on how fast the machine is; it ends at the time that is given.
"""

from __future__ import annotations

import heapq
import random
from pathlib import Path
from typing import Any, NamedTuple

from jobtasks.core.settings import Settings
from jobtasks.protocol.frames import STDERR, STDOUT, frame
from jobtasks.protocol.messages import Assignment, EndKind
from jobtasks.service import jobs, logs, steering
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

MICROSECONDS = 1_000_000
LONG_LEASE = 36_000.0
"""Seconds: the nodes are shown as living long after the last word of their agents."""
SAMPLES = 96
SECONDS_BACK = 1_500
"""How long before now the morning begins."""


class Shown(NamedTuple):
    """What of the gallery pages are asked for."""

    running: str
    """UUIDs of jobs."""
    failed: str
    task: str
    """UUID of a task that failed twice."""
    node: str


class Morning:
    """Three nodes that work through jobs, in time of their own."""

    def __init__(self, folder: Path, now_seconds: float) -> None:
        self.folder = folder
        settings = Settings(lease_seconds=LONG_LEASE)
        self.service = LocalService(folder / "jobtasks.db", settings=settings)
        self.service.clock.now = round((now_seconds - SECONDS_BACK) * MICROSECONDS)
        self.until = round(now_seconds * MICROSECONDS)
        self.chance = random.Random(7)
        self.agents = [
            SimulatedAgent(self.service, name, slots=4, memory_kib=64 * 2**20, cores=16)
            for name in NODES
        ]
        self.large: list[str] = []
        """UUIDs of the jobs of many steps."""
        self._ends: list[tuple[int, int, SimulatedAgent, Assignment]] = []

    def work(self, until: int | None = None) -> None:
        """Let the nodes work until nothing is left to do, or until a time."""
        while True:
            self._take()
            if not self._ends or (until is not None and self._ends[0][0] > until):
                break
            at, _, agent, given = heapq.heappop(self._ends)
            self.service.clock.now = max(self.service.clock.now, at)
            self._end(agent, given)
            self.service.tick()
        if until is not None:
            self.service.clock.now = until

    def _take(self) -> None:
        for agent in self.agents:
            for given in agent.take():
                seconds = self._seconds(given)
                at = self.service.clock.now + round(seconds * MICROSECONDS)
                heapq.heappush(self._ends, (at, given.attempt, agent, given))

    def _seconds(self, given: Assignment) -> float:
        task = self.service.task(given.task)
        mean = {0: 4.0, 1: 70.0, 2: 45.0}.get(task.sequence, 30.0)
        return mean * self.chance.lognormvariate(0, 0.35)

    def _end(self, agent: SimulatedAgent, given: Assignment) -> None:
        task = self.service.task(given.task)
        number = task.qsequence
        peak = round(self.chance.uniform(0.4, 2.5) * 2**20)
        if task.sequence == 0:
            if task.job_uuid in self.large:
                agent.create(given, *STEPS)
            agent.complete(given, output="1")
            return
        lines = [LINE.format(step, number) for step in range(1, 41)]
        problem = self._problem(given, number, task.attempts)
        if problem is None:
            self._write(given, "".join(lines), "")
            agent.write(given, success=True, output=f"calls/S{number:03}.vcf.gz")
            agent.end(given, peak_memory_kib=peak)
            return
        said, kind, facts = problem
        self._write(given, "".join(lines[:20]), said)
        agent.end(given, kind, stderr_tail=said.encode(), peak_memory_kib=peak, **facts)

    def _problem(
        self, given: Assignment, number: int, attempts: int
    ) -> tuple[str, EndKind, dict[str, Any]] | None:
        """Return how an attempt fails: what it says, and how it ends."""
        if number % 17 == 5 and attempts == 1:
            return "OSError: [Errno 28] No space left on device\n", EndKind.EXIT, {"exit_code": 1}
        if self.service.task(given.task).job_uuid == self.large[-1] and len(self.large) > 1:
            return None
        if number % 31 == 11:
            return "", EndKind.OUT_OF_MEMORY, {"signal": 9}
        if number % 23 == 7:
            return TRACEBACK.format(number), EndKind.EXIT, {"exit_code": 1}
        return None

    def _write(self, given: Assignment, out: str, err: str) -> None:
        task = self.service.task(given.task)
        number = self.service.attempts(given.task)[-1].number
        path = logs.path_in(self.folder / "logs", task.job_uuid, given.task, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            frame(STDOUT, out.encode()) + (frame(STDERR, err.encode()) if err else b"")
        )


NODES = ("lab-01", "lab-02", "lab-03")
STEPS: list[dict[str, Any]] = [
    *({"sequence": 1, "parameters": {"sample": f"S{n:03}", "lane": n % 4}} for n in range(SAMPLES)),
    *({"sequence": 2, "parameters": {"chromosome": f"chr{n}"}} for n in range(1, 23)),
    {"sequence": 3, "parameters": {"step": "report"}},
]
LINE = "\x1b[32m[aligner]\x1b[0m batch {} of 80, sample S{:03}: 25000 reads\n"
TRACEBACK = """Traceback (most recent call last):
  File "call_variants.py", line 88, in <module>
    main(sys.argv[1:])
  File "call_variants.py", line 61, in main
    depth = float(fields[3])
ValueError: could not convert string to float: 'S{:03}.dp'
"""


def hang(folder: Path, now_seconds: float) -> Shown:
    """Make the gallery's database and logs in a folder."""
    morning = Morning(folder, now_seconds)
    service = morning.service
    on_going = {"on_failure": "continue", "max_attempts": 2, "min_ram_per_task": 2**20}
    for words in SMALL_JOBS:
        service.started_job(command=words)
    morning.work()
    failed = variants(morning, "Variant calling, batch 11", on_going)
    morning.work()
    running = variants(morning, "Variant calling, batch 12", on_going)
    service.new_job(
        description="Assembly of the reference, with what no node has",
        command=["assemble", "--all"],
        runtime_constraints={"min_ram_per_task": 900 * 2**20},
    )
    stopped = service.new_job(description="A first try", command=["python3", "try.py"])
    service.tick()
    service.call(_cancel, stopped.uuid)
    morning.work(morning.until)
    node = service.rows("SELECT uuid FROM node WHERE lasting_id = 'lab-03'")[0][0]
    service.call(steering.drain, node, "a new disk comes on Friday")
    task = next(t for t in service.tasks_of(failed) if t.failed_count > 1 and t.sequence == 1)
    service.close()
    return Shown(running.uuid, failed.uuid, task.uuid, node)


SMALL_JOBS = (
    ["fastqc", "--outdir", "qc", "run-0417"],
    ["python3", "collect.py", "--month", "10"],
    ["sh", "-c", "sort -u names | wc -l"],
)


def variants(morning: Morning, name: str, constraints: dict[str, Any]) -> JobRecord:
    """Start a job of many steps."""
    job = morning.service.started_job(
        description=name,
        script="call_variants.py",
        script_version="/srv/pipelines/variants",
        script_parameters={"reference": "GRCh38", "samples": SAMPLES},
        runtime_constraints=constraints,
    )
    morning.large.append(job.uuid)
    return job


def _cancel(ctx: Context, caller: Caller, uuid: str) -> JobRecord:
    return jobs.cancel(ctx, caller, uuid, "a mistake in the parameters", cascade=False)
