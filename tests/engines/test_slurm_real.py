"""The Slurm engine on a real Slurm with four nodes: cluster.py."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.conftest import Served, wait_until
from tests.system.nodes import own_address

from jobtasks.core.requests import Ask
from jobtasks.engines.slurm import SlurmEngine
from jobtasks.testing.engine_contract import EngineBench, EngineContract

from .cluster import Cluster
from .conftest import QUICK, Farm, Job, as_slurm_sees, farm_on
from .test_engine_contract import setting_for

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/parallel_hash/parallel_hash.py"
OPTIONS = ("--engine", "slurm", "--engine-option", "cores=2")


@pytest.fixture(scope="module")
def shared_farm(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """One server for the tests that only run jobs: two cores of a node, so two tasks on each."""
    folder = tmp_path_factory.mktemp("farm")
    with farm_on(folder, *OPTIONS, environ=as_slurm_sees(cluster)) as farm:
        yield farm


@pytest.fixture
def farm(shared_farm: Farm, cluster: Cluster) -> Iterator[Farm]:
    """The same; each test leaves no job behind, neither ours nor Slurm's."""
    yield shared_farm
    shared_farm.cancel_all()
    cluster.until_empty()


class TestSlurmEngine(EngineContract):
    """What every engine keeps to; the agents find no server."""

    @pytest.fixture
    def bench(self, cluster: Cluster, tmp_path: Path) -> EngineBench:
        def make() -> SlurmEngine:
            environ = cluster.environment
            options = {"node-dir": str(tmp_path / "nodes")}
            return SlurmEngine(setting_for(tmp_path, options=options), environ)

        ask = Ask(2, 3, cores=1, memory_kib=100_000)
        return EngineBench(make(), ask, Ask(5, 5), make=make)

    def test_part_of_an_allocation_is_given_back(self, bench: EngineBench) -> None:
        """All but its first node; the rest goes on."""
        engine_id = bench.granted()
        found = bench.seen(bench.name)
        assert found is not None
        bench.engine.give_back(engine_id, found.places[1:])
        bench.until("it is smaller", lambda: len(places_of(bench)) == 1)
        assert places_of(bench) == found.places[:1]
        bench.end(engine_id)


def places_of(bench: EngineBench) -> tuple[str, ...]:
    found = bench.seen(bench.name)
    return found.places if found else ()


@pytest.mark.rule("R18", "R25", "R26")
def test_min_and_max_nodes(farm: Farm, cluster: Cluster) -> None:
    """It starts with two nodes and never has more than three; then it shrinks to what it needs."""
    job = farm.start({"min_nodes": 1, "max_nodes": 3, "max_tasks_per_node": 2}, children=20)
    where = job.until_runs(6)
    assert len(set(where)) == 3
    assert max(Counter(where).values()) == 2
    assert len(cluster.jobs()) <= 2
    job.complete()
    assert len(job.lines()) == 21
    cluster.until_empty()
    left = cluster.folder / "tmp" / f"jobtasks-{os.getuid()}"
    wait_until("its nodes' directories are gone", lambda: not list(left.iterdir()))


@pytest.mark.rule("R18")
def test_a_job_grows_and_shrinks(farm: Farm, cluster: Cluster) -> None:
    """From one node to what its tasks need, and back to where the last of them runs.

    The first node of an allocation carries the others: it stays beside that one.
    """
    job = farm.start({}, children=1)
    job.until_runs(1)
    assert nodes_held(cluster) == 1
    wide = farm.start({"max_nodes": 3}, children=4, wait=True)
    wait_until("three nodes", lambda: nodes_held(cluster) == 4, 60)
    job.complete()
    wait_until("only what is needed", lambda: nodes_held(cluster) <= 2, 60)
    assert wide.state() == "Running"
    wide.complete()


def nodes_held(cluster: Cluster) -> int:
    """How many nodes all allocations have."""
    return sum(int(line) for line in cluster.ask("squeue", "-h", "-t", "R", "-o", "%D").split())


@pytest.mark.rule("R28", "R29", "R30")
def test_memory(farm: Farm, cluster: Cluster) -> None:
    """Allocations are as large as their tasks need; what no node has is refused at the door."""
    large = {"min_ram_per_task": 1_800_000, "max_nodes": 1}
    job = farm.start(large, children=4)
    where = job.until_runs(2)
    assert len(set(where)) == 1
    (memory,) = cluster.ask("squeue", "-h", "-o", "%m").split()
    assert 3600 <= int(memory.removesuffix("M")) <= 4000
    (node,) = [node for node in farm.nodes() if node["hostname"] == where[0]]
    assert 3_600_000 <= node["memory_kib"] <= 3_800_000
    job.complete()
    for constraints in (
        {"min_ram_per_task": 3_950_000},
        {"min_nodes": 5},
        {"min_cores_per_node": 9},
    ):
        body = {"command": ["true"], "runtime_constraints": constraints}
        assert farm.api.status("POST", "/jobs", body) == 422, constraints


@pytest.mark.rule("R31")
def test_slurms_reasons_are_told(farm: Farm, cluster: Cluster) -> None:
    """A job that waits for nodes says for what, and why it is not there."""
    first = farm.start({"min_nodes": 4, "min_cores_per_node": 8}, children=0, wait=True)
    first.until_runs(1)
    second = farm.start({"min_nodes": 4, "min_cores_per_node": 8}, children=0)

    def told() -> bool:
        reasons = farm.api.get(f"/jobs/{second.uuid}/explain")["reasons"]
        return any("(Resources)" in one["text"] or "(Priority)" in one["text"] for one in reasons)

    wait_until("Slurm's reason", told)
    first.complete()
    second.complete()


@pytest.mark.rule("R21")
def test_a_cancel_leaves_no_job_of_slurm(farm: Farm, cluster: Cluster) -> None:
    """Whether it runs or waits; nor is a process left on a node."""
    running = farm.start({"min_nodes": 2}, children=3)
    running.until_runs(3)
    waiting = farm.start({"min_nodes": 4, "min_cores_per_node": 7})
    wait_until("it is asked for", lambda: len(cluster.jobs()) == 2)
    for job in (running, waiting):
        farm.api.post(f"/jobs/{job.uuid}/cancel", {})
    cluster.until_empty()
    wait_until("no node is left", lambda: not [n for n in farm.nodes() if n["state"] != "gone"])


@pytest.mark.rule("R12", "R14", "R33", "R35")
def test_a_node_crashes_in_the_middle(farm: Farm, cluster: Cluster, tmp_path: Path) -> None:
    """Our leases notice it before Slurm does; its tasks go elsewhere, the output is the same.

    No node sees the directory of the script.
    """
    tree = tmp_path / "tree"
    count = copied(tree)
    wanted = subprocess.run(
        f"find {tree} -type f -print0 | xargs -0 md5sum | LC_ALL=C sort -k2",
        shell=True,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    plain = hash_job(farm, tree, tmp_path / "plain", {"min_nodes": 2, "max_nodes": 3})
    assert farm.api.final(plain, 120)["output"] == wanted
    again = hash_job(farm, tree, tmp_path / "again", {"min_nodes": 2, "max_nodes": 3})

    def is_under_way() -> bool:
        done: int = farm.api.get(f"/jobs/{again}")["tasks_summary"]["done"]
        return 5 <= done < count

    wait_until("it is under way", is_under_way, 60)
    victim = crashed(farm, cluster, again)
    try:
        found = farm.api.final(again, 120)
        assert found["output"] == wanted
        assert cluster.states()[victim] != "down*"
        causes = Counter(
            attempt["cause"]
            for task in farm.api.tasks(again)
            if task["attempts"] > 1
            for attempt in farm.api.attempts(task["uuid"])
        )
        assert causes["agent_lost"] >= 1, causes
    finally:
        cluster.boot(victim)
        wait_until("the node is back", lambda: cluster.states()[victim] in ("idle", "mixed"), 60)


def copied(tree: Path) -> int:
    """Copy some sources; return how many."""
    source = Path(subprocess.__file__).parent / "json"
    shutil.copytree(source, tree, ignore=shutil.ignore_patterns("__pycache__"))
    for number in range(60):
        (tree / f"file{number}").write_text(f"{number}\n" * number)
    return sum(path.is_file() for path in tree.rglob("*"))


def hash_job(farm: Farm, tree: Path, scripts: Path, constraints: dict[str, int]) -> str:
    """Submit the example from a directory that is there until then."""
    scripts.mkdir()
    shutil.copy(EXAMPLE, scripts)
    body = {
        "script": EXAMPLE.name,
        "script_version": str(scripts),
        "script_parameters": {"input": str(tree)},
        "runtime_constraints": {**constraints, "output": "last"},
    }
    uuid: str = farm.api.post("/jobs", body)["uuid"]
    shutil.rmtree(scripts)
    return uuid


def crashed(farm: Farm, cluster: Cluster, job: str) -> str:
    """Crash a node on which the job runs something, other than the one that carries the script.

    It is stopped first: on a busy machine all that ran there may else be over before the crash.
    """
    while True:
        wait_until("something runs", lambda: where_it_runs(farm, job))
        victim = max(where_it_runs(farm, job), default="")
        if victim:
            cluster.send(victim, signal.SIGSTOP)
            if victim in where_it_runs(farm, job):
                cluster.crash(victim)
                return victim
            cluster.send(victim, signal.SIGCONT)


def where_it_runs(farm: Farm, job: str) -> list[str]:
    """Return the node of each task of the job that runs."""
    tasks = farm.api.tasks(job, state="running")
    return [farm.api.attempts(task["uuid"])[-1]["node"] for task in tasks]


@pytest.mark.rule("R14", "R35")
def test_nodes_are_drained_before_their_time_is_up(farm: Farm, cluster: Cluster) -> None:
    """What runs there is stopped in good order and goes on in another allocation, at no cost."""
    job = farm.start({"max_nodes": 1}, children=1)
    job.until_runs(1)
    (first,) = cluster.ask("squeue", "-h", "-o", "%i").split()
    cluster.ask("scontrol", "update", f"JobId={first}", "EndTime=now+8")

    def is_elsewhere() -> bool:
        return (
            first not in cluster.ask("squeue", "-h", "-o", "%i").split()
            and len(job.running_on()) == 1
        )

    wait_until("it runs in another allocation", is_elsewhere, 60)
    job.complete()
    child = farm.api.tasks(job.uuid, sequence=1)[0]
    assert (child["attempts"], child["failed_count"]) == (2, 0)


@pytest.mark.rule("R35", "R37")
def test_a_server_that_was_killed_finds_its_allocations(cluster: Cluster, tmp_path: Path) -> None:
    """What runs goes on; nothing is asked for twice."""
    state, address = tmp_path / "state", own_address()
    environ = as_slurm_sees(cluster)

    def start(number: int) -> Served:
        stderr = tmp_path / f"stderr-{number}"
        return Served(
            *(state, *OPTIONS), stderr=stderr, settings=QUICK, environ=environ, listen=address
        )

    served = start(1)
    with served.api() as api:
        job = Job(Farm(served, api, tmp_path), {"min_nodes": 2}, {"children": 3})
        before = job.until_runs(3)
    ids = cluster.ask("squeue", "-h", "-o", "%i").split()
    served.kill()
    served = start(2)
    with served.api() as api:
        job.farm = Farm(served, api, tmp_path)
        assert job.running_on() == before
        job.complete()
    assert len(job.lines()) == 4
    cluster.until_empty()
    shown = cluster.ask("squeue", "-h", "-t", "all", "-o", "%i %j").splitlines()
    assert [line.split()[0] for line in shown if job.uuid in line] == ids
    served.end()


@pytest.mark.rule("R35", "R37")
def test_fifty_submissions_that_time_out_start_nothing_twice(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Slurm takes each, and the answer is lost: it is looked for by name before it is repeated."""
    real = shutil.which("sbatch")
    with wrapped(tmp_path, "sbatch", f'{real} "$@" >/dev/null', TIMED_OUT, "exit 1") as path:
        environ = {**as_slurm_sees(cluster), "PATH": path}
        held = ("--engine-option", "sbatch=--hold")
        with farm_on(tmp_path / "farm", *OPTIONS, *held, environ=environ) as farm:
            made = [farm.start({"max_nodes": 1}) for _ in range(50)]
            wait_until("fifty are there", lambda: len(cluster.jobs()) == 50, 60)
            wait_until("none is unknown", lambda: no_more_unknown(farm, made), 60)
            names = Counter(cluster.jobs())
            assert (len(names), max(names.values())) == (50, 1)
            chosen, others = made[:3], made[3:]
            for job in others:
                farm.api.post(f"/jobs/{job.uuid}/cancel", {})
            for line in cluster.ask("squeue", "-h", "-o", "%i %j").splitlines():
                number, name = line.split()
                if any(job.uuid in name for job in chosen):
                    cluster.ask("scontrol", "release", number)
            for job in chosen:
                job.complete()
                assert len(job.lines()) == 1
            cluster.until_empty()


TIMED_OUT = (
    "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2"
)


def no_more_unknown(farm: Farm, made: list[Job]) -> bool:
    reasons = [farm.api.get(f"/jobs/{job.uuid}/explain")["reasons"] for job in made]
    return not any("unknown" in one["text"] for found in reasons for one in found)


@contextlib.contextmanager
def wrapped(folder: Path, name: str, *lines: str) -> Iterator[str]:
    """Have another program of that name, found before the real one; gives the PATH."""
    bin_dir = folder / "bin"
    bin_dir.mkdir()
    path = bin_dir / name
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    yield f"{bin_dir}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


SCALE = 360.0
"""So much faster than usual goes the time of the engine in the next test."""


@pytest.mark.rule("R35")
def test_an_hour_of_a_silent_queue_ends_nothing(cluster: Cluster, tmp_path: Path) -> None:
    """An hour in scaled time, in which squeue prints nothing, hangs or fails."""
    real, flag, calls = shutil.which("squeue"), tmp_path / "silent", tmp_path / "calls"
    silence = (
        f"if [ -e {flag} ]; then",
        f"  echo >> {calls}; case $(( $(wc -l < {calls}) % 3 )) in",
        "  0) exec sleep 100;; 1) exit 0;; 2) echo 'slurm_load_jobs error' >&2; exit 1;; esac",
        "fi",
        f'exec {real} "$@"',
    )
    scaled = {
        **QUICK,
        "engine_poll_seconds": 10 / SCALE,
        "engine_settle_seconds": 60 / SCALE,
        "engine_retry_seconds": 10 / SCALE,
        "engine_idle_seconds": 60 / SCALE,
        "engine_command_seconds": 0.5,
    }
    with wrapped(tmp_path, "squeue", *silence) as path:
        environ = {**as_slurm_sees(cluster), "PATH": path}
        with farm_on(tmp_path / "farm", *OPTIONS, settings=scaled, environ=environ) as farm:
            made = [farm.start({"max_nodes": 1}, children=2) for _ in range(2)]
            for job in made:
                job.until_runs(2)
            before = sorted(cluster.ask("squeue", "-h", "-o", "%i").split())
            flag.touch()
            waiting = farm.start({"max_nodes": 1})
            slept(3600 / SCALE)
            wait_until("squeue was silent often", lambda: len(calls.read_text().split("\n")) > 10)
            now = sorted(cluster.ask("squeue", "-h", "-o", "%i").split())
            assert set(before) <= set(now)
            assert farm.api.get("/sys/engine")["silence"] is not None
            flag.unlink()
            for job in (*made, waiting):
                job.complete()
                tasks = farm.api.tasks(job.uuid)
                assert {task["attempts"] for task in tasks} == {1}
            told = farm.api.get("/sys/engine")
            assert (told["engine"], told["silence"], told["failures"]) == ("slurm", None, [])
            cluster.until_empty()


def slept(seconds: float) -> None:
    """Let time pass in which nothing is to happen."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["sleep", "1000"], timeout=seconds, check=False)
