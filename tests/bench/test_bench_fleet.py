"""The load generator and the server understand each other."""

from __future__ import annotations

from bench.fleet import fleet, submit
from bench.service import running
from bench.workloads.million import memory_growth_mb, run_job
from bench.workloads.slot_time import watch


def test_simulated_agents_do_all_tasks_of_a_job() -> None:
    """Each once; a sync carries what ended together, and a kill afterwards loses nothing."""
    with running("--no-agent") as service:
        with fleet(service, agents=2, slots=8, children=400) as agents:
            found = run_job(service, agents, 400)
        service.kill()
        assert service.count(found["job"], ["success", "=", True]) == 401
    assert found["ends_per_sync"] > 4
    assert found["server_cpu_microseconds"] > 0
    assert memory_growth_mb(found["samples"]) < 100


def test_tasks_take_their_time() -> None:
    """Slots are at work for nearly all of it, and never for longer."""
    found = watch(agents=2, task_seconds=0.5, window=1.5)
    assert 0.3 < found["share"] <= 1.0
    assert found["slots"] == 8


def test_a_cancelled_job_leaves_the_agents() -> None:
    """Attempts that are stopped are told of, and their slots are free again."""
    with running("--no-agent") as service:
        with fleet(service, agents=2, slots=2, children=10, task=60.0) as agents:
            job = submit(service)
            while agents.seen()["started"] < agents.slots:
                pass
            service.call("POST", f"/jobs/{job}/cancel", json={})
            assert service.finish(job)["state"] == "Cancelled"
            while agents.seen()["troubles"].get("stopped", 0) < agents.slots:
                pass
            assert agents.seen()["acknowledged"] >= 1
