"""slurm: tasks of ``/bin/true`` on four virtual nodes of a Slurm, against a step for each.

Slurm's daemons are the tests' own, on this machine; both run inside an allocation of all nodes that
is there already, ours with as many tasks at a time as these have cores, srun with as many steps as
are fastest.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.engines.cluster import Cluster, missing_programs

from bench.conductor import OURS, Contender, alternate
from bench.goals import Outcome, at_least
from bench.scripts import creating, script_job
from bench.service import Service, check_complete, running
from bench.session import Session
from bench.workloads.commands import CHILD, children_seconds

STEPS = "one srun step each"
NODES = 4
CORES = 8
"""Of each node."""
AT_A_TIME = 8
"""Steps; more of them are slower."""
ENGINE = ("--engine", "slurm", "--engine-option", f"cores={CORES}")
WANTED = 20.0
SCRIPT = """\
#!/bin/sh
begin=$(date +%s.%N)
seq {count} | xargs -P {at_a_time} -I NUMBER srun --nodes=1 --ntasks=1 --exact --mem=0 /bin/true
echo "$begin $(date +%s.%N)" > {out}
"""


def slurm(session: Session) -> Outcome:
    """Rates within the same run; fewer steps than tasks, as they take so long."""
    if why := left_out():
        session.say(f"  left out: {why}")
        return Outcome({"left_out": why})
    sizes = session.sizes
    session.say(f"  {sizes.slurm:,} tasks and {sizes.steps:,} steps on {NODES} nodes")
    with cluster_of_ours() as cluster, running(*ENGINE) as service:
        run(service, 10)
        rounds = alternate(
            lambda: session.floor.per_second(sizes.slurm, NODES * CORES),
            [
                Contender(OURS, sizes.slurm, lambda count: run(service, count)),
                Contender(STEPS, sizes.steps, lambda count: run_steps(cluster, count)),
            ],
            sizes.rounds,
            session.say,
        )
    if rounds.failures:
        raise RuntimeError(str(rounds.failures))
    figures: dict[str, Any] = rounds.figures()
    return Outcome(
        figures,
        [
            at_least("times one srun step each, in an allocation", *against(rounds), "×"),
            at_least("tasks a second", figures[OURS]["per_second"], None),
            at_least("steps a second", figures[STEPS]["per_second"], None),
        ],
    )


def against(rounds: Any) -> tuple[float, float]:
    """Return how many times as fast ours is, and what is wanted of that."""
    return rounds.against(OURS, STEPS), WANTED


def left_out() -> str:
    """Return why it cannot be run here."""
    if os.getuid():
        return "only root can start Slurm's daemons with nodes of their own"
    return f"not installed: {', '.join(missing)}" if (missing := missing_programs()) else ""


@contextlib.contextmanager
def cluster_of_ours() -> Iterator[Cluster]:
    """Slurm with four nodes; what is started meanwhile finds it."""
    with tempfile.TemporaryDirectory(
        prefix="jobtasks-bench-", ignore_cleanup_errors=True
    ) as folder:
        cluster = Cluster(Path(folder) / "slurm", NODES)
        # Its nodes' users pass through.
        Path(folder).chmod(0o755)
        cluster.folder.mkdir(mode=0o755)
        before = os.environ.get("SLURM_CONF")
        try:
            cluster.start()
            os.environ["SLURM_CONF"] = str(cluster.folder / "slurm.conf")
            yield cluster
        finally:
            os.environ.pop("SLURM_CONF", None)
            if before is not None:
                os.environ["SLURM_CONF"] = before
            cluster.stop()


def run(service: Service, count: int) -> float:
    """Return the seconds of so many tasks on all nodes, from the first one's start."""
    constraints = {"min_nodes": NODES, "max_nodes": NODES}
    with script_job(creating(count, CHILD), runtime_constraints=constraints) as job:
        record = service.run(job)
    check_complete(service, record, count + 1)
    return children_seconds(service, record)


def run_steps(cluster: Cluster, count: int) -> float:
    """Return the seconds of so many steps in an allocation of all nodes."""
    script, out = cluster.folder / "steps.sh", cluster.folder / "steps.out"
    script.write_text(SCRIPT.format(count=count, at_a_time=AT_A_TIME, out=out))
    shape = (f"--nodes={NODES}", f"--ntasks={NODES * CORES}", f"--ntasks-per-node={CORES}")
    cluster.ask("sbatch", "--wait", *shape, "--mem=100M", "--output=/dev/null", str(script))
    begin, end = map(float, out.read_text().split())
    return end - begin
