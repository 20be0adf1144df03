"""The life of a job with real processes on a running server: states, failure, output, cancel."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from .conftest import Act, Acted, Api, acting, process_identity, wait_until


def summary(job: Acted) -> tuple[int, int, int, int]:
    """Return how many tasks are to do, running, done, failed."""
    counts = job.record["tasks_summary"]
    return counts["todo"], counts["running"], counts["done"], counts["failed"]


@pytest.mark.rule("R17")
def test_states_and_what_follows_them(act: Act, api: Api, tmp_path: Path) -> None:
    """Queued, Running, Complete; `running`, `success` and the times go along."""
    gate = tmp_path / "gate"
    job = act([["create", acting(["complete"])], ["await_file", str(gate)], ["complete"]])
    job.noted("created")
    record = job.record
    assert (record["state"], record["running"], record["success"]) == ("Running", True, None)
    assert record["started_at"] and record["finished_at"] is None
    assert summary(job) == (1, 1, 0, 0)
    for change in ({"state": "Complete"}, {"success": True}, {"output": "mine"}):
        assert api.status("PATCH", f"/jobs/{job.uuid}", change) in (403, 422)
    gate.touch()
    record = job.final()
    assert (record["running"], record["success"], record["cancelled_at"]) == (False, True, None)
    assert record["created_at"] <= record["started_at"] <= record["finished_at"]
    assert summary(job) == (0, 0, 2, 0)
    assert api.status("PATCH", f"/jobs/{job.uuid}", {"state": "Cancelled"}) in (403, 422)
    assert job.record["state"] == "Complete"


def one_of_them_fails(act: Act, tmp_path: Path, on_failure: str) -> tuple[Acted, Path]:
    """A job of which one task fails while another runs, a third waits, and one of a later level."""
    gate, failing = tmp_path / "gate", tmp_path / "failing"
    fails = acting(["await_file", str(failing)], ["fail", "no hope"])
    runs = acting(["ignore_term"], ["note", "runs"], ["await_file", str(gate)], ["complete"])
    waits = acting(["complete"], runtime_constraints={"max_tasks_per_node": 1})
    last = acting(["complete"], sequence=2)
    job = act(
        [["create", fails, runs, waits, last], ["complete"]],
        constraints={"on_failure": on_failure, "max_tasks_per_node": 2},
    )
    job.noted("runs")
    failing.touch()
    wait_until("the failure", lambda: job.record["tasks_summary"]["failed"])
    return job, gate


@pytest.mark.rule("R17", "R19")
def test_after_a_failure_what_runs_may_finish(act: Act, api: Api, tmp_path: Path) -> None:
    """`finish`, the default: nothing more starts; Failed is set when the last process has ended."""
    job, gate = one_of_them_fails(act, tmp_path, "finish")
    api.pass_by()
    assert job.record["state"] == "Running"
    gate.touch()
    assert "no hope" not in job.final("Failed")["log"]
    states = [task["state"] for task in job.tasks()]
    assert states == ["complete", "failed", "complete", "waiting", "waiting"]
    assert job.witness.count() == 3
    assert summary(job) == (2, 0, 2, 1)


@pytest.mark.rule("R19")
def test_after_a_failure_what_runs_is_stopped(act: Act, tmp_path: Path) -> None:
    """`cancel`: TERM, then KILL; no failure of its own is counted."""
    job, _ = one_of_them_fails(act, tmp_path, "cancel")
    job.final("Failed")
    states = [task["state"] for task in job.tasks()]
    assert states == ["complete", "failed", "waiting", "waiting", "waiting"]
    stopped = job.tasks()[2]
    assert (stopped["failed_count"], job.witness.count("term")) == (0, 1)
    assert job.api.attempts(stopped["uuid"])[0]["cause"] == "stopped"


@pytest.mark.rule("R19")
def test_after_a_failure_the_level_goes_on(act: Act, tmp_path: Path) -> None:
    """`continue`: the rest of the sequence runs, nothing of a higher one."""
    job, gate = one_of_them_fails(act, tmp_path, "continue")
    gate.touch()
    job.final("Failed")
    states = [task["state"] for task in job.tasks()]
    assert states == ["complete", "failed", "complete", "complete", "waiting"]


@pytest.mark.rule("R20")
def test_the_output_is_collated_in_order(act: Act) -> None:
    """By sequence, then qsequence, whoever ended first; nothing for null; a newline each."""
    play: list[list[Any]] = [
        ["create", acting(["complete", "last"], sequence=3)],
        ["create", acting(["complete", "first"]), acting(["complete", None])],
        ["create", acting(["complete", "second\n"]), acting(["complete", ""])],
        ["complete", "seed"],
    ]
    whole = "seed\nfirst\nsecond\n\nlast\n"
    job = act(play)
    assert (job.final()["output"], job.record["output_truncated"]) == (whole, False)
    assert job.api.http.get(f"/jobs/{job.uuid}/output").text == whole
    assert act(play, constraints={"output": "last"}).final()["output"] == "last\n"


@pytest.mark.rule("R20")
def test_a_large_output_is_kept_whole_beside_the_record(act: Act) -> None:
    """The attribute has the first MiB and says so."""
    job = act([["create_times", 3, acting(["complete_large", 500_000])], ["complete", None]])
    record = job.final()
    assert (len(record["output"]), record["output_truncated"]) == (2**20, True)
    text = job.api.http.get(f"/jobs/{job.uuid}/output").text
    assert text == ("x" * 500_000 + "\n") * 3


@pytest.mark.rule("R21", "R32")
def test_a_cancel_ends_everything(act: Act, api: Api, tmp_path: Path) -> None:
    """TERM, then KILL of what ignores it; a verdict that was not an end before does not count."""
    never, token = str(tmp_path / "never"), tmp_path / "token"
    quick = acting(["note", "runs"], ["await_file", never])
    stubborn = acting(["ignore_term"], ["complete"], ["note", "runs"], ["await_file", never])
    writes = acting(["leave_file", str(token), "ARVADOS_API_TOKEN"], ["await_file", never])
    waits = acting(["complete"], sequence=2)
    job = act([["create", quick, stubborn, writes, waits], ["complete"]])
    lines = job.noted("runs", 2)
    wait_until("the token", token.exists)
    running = {line.pid: process_identity(line.pid) for line in lines}
    assert all(running.values())
    assert api.post(f"/jobs/{job.uuid}/cancel")["state"] == "Cancelled"
    attempt, third = api.as_token(token.read_text()), job.tasks()[3]["uuid"]
    assert attempt.status("PATCH", f"/job_tasks/{third}", {"success": True}) == 403
    assert attempt.status("POST", "/job_tasks", {}) == 403
    wait_until("the processes' end", lambda: not any(map(process_identity, running)))
    wait_until("the attempts' end", lambda: not summary(job)[1])
    assert (job.witness.count("term"), job.witness.count()) == (1, 4)
    states = [task["state"] for task in job.tasks()]
    assert "complete" not in states[1:] and "failed" not in states
    assert job.record["state"] == "Cancelled" and job.record["success"] is not True
    signals = {api.attempts(line.task)[0]["signal"] for line in lines}
    assert signals == {15, 9}


@pytest.mark.rule("R23")
def test_a_failed_job_is_taken_up_again(act: Act, api: Api, tmp_path: Path) -> None:
    """What was complete is not run again, the seed not made again; what failed starts afresh."""
    gate = tmp_path / "gate"
    needs = acting(["say", "missing"], ["note", "tried"], ["run_if", str(gate)], ["complete"])
    job = act(
        [["create", acting(["complete"]), needs, acting(["complete"], sequence=2)], ["complete"]]
    )
    job.final("Failed")
    failed = job.tasks()[2]
    assert (failed["state"], failed["attempts"]) == ("failed", 3)
    gate.touch()
    assert api.post(f"/jobs/{job.uuid}/retry")["state"] == "Queued"
    job.final()
    tasks = job.tasks()
    assert [task["attempts"] for task in tasks] == [1, 1, 4, 1]
    assert [task["qsequence"] for task in tasks] == [0, 1, 2, 3]
    assert tasks[2]["failed_count"] == 3
    assert job.witness.count() == 7
    assert api.status("POST", f"/jobs/{job.uuid}/retry") == 422


@pytest.mark.rule("R23", "R21")
def test_a_cancelled_job_is_taken_up_again(act: Act, api: Api, tmp_path: Path) -> None:
    """Children of the attempt that was cancelled are gone; the next one creates others."""
    never = str(tmp_path / "never")
    job = act(
        [["create", acting(["complete"])], ["note", "runs"], ["await_file", never]],
        [["create", acting(["complete"])], ["complete"]],
    )
    dead = job.noted("created")[0].more[0]
    job.noted("runs")
    api.post(f"/jobs/{job.uuid}/cancel")
    wait_until("the retry", lambda: api.status("POST", f"/jobs/{job.uuid}/retry") == 200)
    job.final()
    assert api.status("GET", f"/job_tasks/{dead}") == 404
    assert [task["attempts"] for task in job.tasks()] == [2, 1]


@pytest.mark.rule("R24")
def test_who_may_delete(act: Act, api: Api, tmp_path: Path) -> None:
    """A creator its unpublished child; nobody a running task; a job only when it is over."""
    gate, token = tmp_path / "gate", tmp_path / "token"
    child = acting(["complete"])
    job = act(
        [
            *(["create", child, child], ["leave_file", str(token), "ARVADOS_API_TOKEN"]),
            *(["await_file", str(gate)], ["complete"]),
        ]
    )
    wait_until("the token", token.exists)
    seed, unwanted, other = (f"/job_tasks/{task['uuid']}" for task in job.tasks())
    attempt = api.as_token(token.read_text())
    assert [api.status("DELETE", path) for path in (seed, other)] == [403, 403]
    assert api.status("DELETE", f"/jobs/{job.uuid}") == 422
    assert attempt.status("DELETE", seed) == 403
    assert attempt.status("DELETE", unwanted) == 200
    assert attempt.status("DELETE", unwanted) == 404
    gate.touch()
    assert api.final(job.uuid)["state"] == "Complete"
    assert job.witness.count() == 2
    assert api.status("DELETE", other) == 200
    assert api.status("DELETE", f"/jobs/{job.uuid}") == 200
    assert [api.status("GET", path) for path in (f"/jobs/{job.uuid}", seed)] == [404, 404]


@pytest.mark.rule("R27")
def test_so_many_tasks_per_node(act: Act, api: Api, tmp_path: Path) -> None:
    """`max_tasks_per_node` 2 on a node of four slots; other jobs take the free ones."""
    gate = tmp_path / "gate"
    child = acting(["note", "runs"], ["await_file", str(gate)], ["complete"])
    job = act([["create_times", 5, child], ["complete"]], constraints={"max_tasks_per_node": 2})
    job.noted("runs", 2)
    api.pass_by()
    assert summary(job) == (3, 2, 1, 0)
    gate.touch()
    job.final()
    assert job.witness.most_at_once() == 2


def node_memory_kib(api: Api) -> int:
    """Return what the node of this machine may reserve, by asking for more and more."""
    fits, too_much = 0, 2**40
    while too_much - fits > 1:
        middle = (fits + too_much) // 2
        job = api.post("/jobs", {"command": ["true"], "runtime_constraints": reserving(middle)})
        api.pass_by()
        started = api.get(f"/jobs/{job['uuid']}")["state"] != "Queued"
        fits, too_much = (middle, too_much) if started else (fits, middle)
        if not started:
            api.post(f"/jobs/{job['uuid']}/cancel")
    return fits


def reserving(kib: int) -> dict[str, int]:
    """Return the constraint that reserves memory."""
    return {"min_ram_per_task": kib}


@pytest.mark.rule("R28")
def test_memory_is_reserved(act: Act, api: Api, tmp_path: Path) -> None:
    """Three of four tasks that want 30 % each run together; what wants nothing passes them."""
    gate = tmp_path / "gate"
    memory_kib = node_memory_kib(api)
    total_kib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    assert 0 < memory_kib <= 0.96 * total_kib
    child = acting(["note", "runs"], ["await_file", str(gate)], ["complete"])
    job = act(
        [["create_times", 4, child], ["complete"]],
        constraints=reserving(memory_kib * 3 // 10),
    )
    job.noted("runs", 3)
    api.pass_by()
    assert summary(job) == (1, 3, 1, 0)
    gate.touch()
    job.final()
    assert job.witness.most_at_once() == 3


@pytest.mark.rule("R29", "R17")
def test_a_job_too_large_for_every_node_waits(act: Act, api: Api) -> None:
    """Queued, not failed; others go on; it can be cancelled; a task of that size waits alone."""
    large = {"min_ram_per_node": 2**40}
    job = act([["complete"]], constraints=large)
    part = act([["create", acting(runtime_constraints=large), acting(["complete"])], ["complete"]])
    part.noted("said", 2)
    api.pass_by()
    assert (job.record["state"], job.record["started_at"], job.tasks()) == ("Queued", None, [])
    wait_until("the others' end", lambda: summary(part) == (1, 0, 2, 0))
    assert part.record["state"] == "Running"
    assert api.post(f"/jobs/{job.uuid}/cancel")["state"] == "Cancelled"
    assert job.witness.count() == 0


@pytest.mark.rule("R39")
@pytest.mark.parametrize(
    ("command", "constraints", "states"),
    [
        ("exit 0", {}, "Complete"),
        ("exit 3", {}, "Failed 3"),
        ("exit 3", {"max_attempts": 2}, "Failed 3 3"),
        ("test $TASK_ATTEMPT = 2 || exit 75", {}, "Complete 75 0"),
        ("test $TASK_ATTEMPT = 2 || kill -9 $$", {}, "Complete -9 0"),
    ],
)
def test_a_commands_exit_code_is_its_verdict(
    api: Api, command: str, constraints: dict[str, int], states: str
) -> None:
    """0 success; 75 and signals once more; another code fails, or when the attempts are used up."""
    body = {"command": ["sh", "-c", command], "runtime_constraints": constraints}
    job = api.final(api.post("/jobs", body)["uuid"])
    task = api.tasks(job["uuid"])[0]
    ends = [item["exit_code"] or -(item["signal"] or 0) for item in api.attempts(task["uuid"])]
    state, *codes = states.split()
    assert (job["state"], ends) == (state, list(map(int, codes)) or [0])
    assert task["progress"] == (1.0 if state == "Complete" else None)


@pytest.mark.rule("R39")
def test_a_tasks_own_command_goes_before_the_script(act: Act, tmp_path: Path) -> None:
    """And the words are words: no shell splits them."""
    made = tmp_path / "a file; not two"
    job = act([["create", {"command": ["touch", str(made)]}], ["complete"]])
    job.api.final(job.uuid)
    assert made.exists()
    assert json.loads(json.dumps(job.tasks()[1]["command"])) == ["touch", str(made)]
