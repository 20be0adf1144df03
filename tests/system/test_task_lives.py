"""The life of a task, promise by promise, with real processes on a running server."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from .conftest import Act, Api, acting, wait_until
from .witness import microseconds


@pytest.mark.rule("R1", "R6")
def test_a_job_begins_with_one_task(act: Act) -> None:
    """Sequence 0, qsequence 0, no parameters, no creator."""
    job = act([["complete", "done"]])
    assert job.final()["output"] == "done\n"
    task = job.seed
    assert (task["sequence"], task["qsequence"], task["parameters"]) == (0, 0, {})
    assert task["created_by_job_task_uuid"] is None
    assert len(job.tasks()) == job.witness.count() == 1


@pytest.mark.rule("R2", "R3")
def test_children_wait_for_the_end_of_their_creator(act: Act, api: Api, tmp_path: Path) -> None:
    """Not when it says that it is complete: when its process has ended."""
    gate = tmp_path / "gate"
    child = acting(["complete"])
    job = act([["create", child, child], ["complete"], ["await_file", str(gate)]])
    job.noted("said")
    api.pass_by()
    assert [task["state"] for task in job.tasks()] == ["running", "waiting", "waiting"]
    assert job.witness.count() == 1
    gate.touch()
    job.final()
    seed, *children = job.tasks()
    assert {task["created_by_job_task_uuid"] for task in children} == {seed["uuid"]}
    starts = job.witness.lines("start")
    assert all(line.wall >= microseconds(seed["finished_at"]) for line in starts[1:])


@pytest.mark.rule("R4", "R12")
def test_children_of_a_failed_attempt_are_gone_at_once(act: Act, api: Api, tmp_path: Path) -> None:
    """404, in no list and no count as soon as the failure shows; they never run."""
    gate = tmp_path / "gate"
    child = acting(["complete"])
    job = act(
        [["create", child, child, child], ["end", 1]],
        [["create", child], ["complete"], ["await_file", str(gate)]],
    )
    dead = job.noted("created")[0].more
    wait_until("the failure", lambda: job.seed["failed_count"])
    assert [api.status("GET", f"/job_tasks/{uuid}") for uuid in dead] == [404, 404, 404]
    job.noted("said")
    assert [task["uuid"] for task in job.tasks()[1:]] == list(job.noted("created", 2)[1].more)
    assert job.record["tasks_summary"] == {"todo": 1, "running": 1, "done": 0, "failed": 0}
    gate.touch()
    job.final()
    assert len(job.tasks()) == 2


@pytest.mark.rule("R5")
def test_sequences_run_in_order_also_new_lower_ones(act: Act) -> None:
    """A task that leaves children of a lower sequence: these go before those that wait."""
    late = acting(["complete"], sequence=2)
    job = act(
        [
            ["create", acting(["complete"], sequence=9), acting(["complete"], sequence=7)],
            ["create", acting(["create", late, late], ["complete"], sequence=5)],
            ["create", acting(["complete"], sequence=5)],
            ["complete"],
        ]
    )
    job.final()
    order = [line.sequence for line in job.witness.lines("start")]
    assert order == [0, 5, 5, 2, 2, 7, 9]


@pytest.mark.rule("R5")
def test_one_slow_task_holds_the_next_sequence(act: Act, api: Api, tmp_path: Path) -> None:
    """Though slots are free."""
    gate = tmp_path / "gate"
    slow = acting(["await_file", str(gate)], ["complete"])
    quick = acting(["complete"])
    job = act([["create", slow, quick, quick, {**quick, "sequence": 2}], ["complete"]])
    job.noted("said", 3)
    api.pass_by()
    assert [line.sequence for line in job.witness.lines("start")] == [0, 1, 1, 1]
    gate.touch()
    job.final()


@pytest.mark.rule("R10")
@pytest.mark.parametrize(
    ("last", "exit_code", "number"),
    [(["end", 1], 1, None), (["end", 111], 111, None), (["kill", 9], None, 9)],
)
def test_a_verdict_counts_whatever_ends_the_process(
    act: Act, last: list[object], exit_code: int | None, number: int | None
) -> None:
    """Complete after exit 1, exit 111 and kill -9; what ended it is shown."""
    job = act([["create", acting(["complete"])], ["complete"], last])
    job.final()
    assert (job.seed["state"], job.seed["failed_count"]) == ("complete", 0)
    attempt = job.api.attempts(job.seed["uuid"])[0]
    assert (attempt["exit_code"], attempt["signal"]) == (exit_code, number)


@pytest.mark.rule("R10", "R9")
def test_success_without_all_of_the_progress_is_no_verdict(act: Act) -> None:
    """`success` with a progress below 1 is tried again, though the exit code is 0."""
    job = act([["report", {"success": True, "progress": 0.5}]], [["report", {"success": True}]])
    job.final()
    assert (job.seed["attempts"], job.seed["progress"]) == (2, 1.0)


@pytest.mark.rule("R10")
def test_the_last_write_is_the_verdict(act: Act) -> None:
    """A task that takes its success back has none."""
    job = act([["complete"], ["report", {"success": None}]], [["complete"]])
    assert job.api.final(job.uuid)["state"] == "Complete"
    assert job.seed["attempts"] == 2


@pytest.mark.rule("R11")
def test_a_verdict_of_failure_is_final(act: Act) -> None:
    """`success=false`: no second attempt; exit code 0 changes nothing."""
    job = act([["create", acting(["complete"])], ["fail", "no hope"], ["end", 0]])
    assert "failed" in job.final("Failed")["log"]
    assert (job.seed["attempts"], job.seed["state"], job.seed["success"]) == (1, "failed", False)
    assert (job.seed["failed_log"], len(job.tasks())) == ("no hope\n", 1)


@pytest.mark.rule("R13")
def test_a_failed_attempt_is_on_record(act: Act, api: Api, tmp_path: Path) -> None:
    """What it wrote is cleared for the next; why it failed and its log are kept."""
    gate, before = tmp_path / "gate", time.time()
    job = act(
        [["report", {"progress": 0.5, "output": "half"}], ["say", "alas"], ["kill", 15]],
        [["leave_file", str(tmp_path / "second")], ["await_file", str(gate)], ["complete"]],
    )
    job.noted("start", 2)
    task = job.seed
    assert (task["progress"], task["success"], task["output"]) == (None, None, None)
    assert task["failed_count"] == 1
    assert before <= task["failed_at"] <= time.time()
    said, reason = task["failed_log"].splitlines()
    assert said == "alas"
    assert reason == "[jobtasks] the process ended with signal 15 and no verdict"
    gate.touch()
    job.final()
    first, second = api.attempts(task["uuid"])
    assert (first["number"], first["signal"], first["cause"]) == (1, 15, "exit")
    assert (second["number"], second["exit_code"], second["slot"] > 0) == (2, 0, True)
    assert first["node"] == second["node"]
    assert first["finished_at"] >= first["started_at"]
    assert first["peak_memory_kib"] > 1000
    assert log_of(api, task["uuid"], 1) == "alas\n"
    assert log_of(api, task["uuid"], 2) == ""


def log_of(api: Api, task: str, attempt: int) -> str:
    """Return the log of an attempt, when it has arrived."""
    size = api.attempts(task)[attempt - 1]["log_bytes"]

    def look() -> tuple[str] | None:
        text = api.http.get(f"/job_tasks/{task}/log", params={"attempt": attempt}).text
        return (text,) if len(text) >= size > 0 or not size else None

    return wait_until("the log", look)[0]


@pytest.mark.rule("R13")
def test_of_much_stderr_the_end_is_kept(act: Act) -> None:
    """At most 64 KiB, the reason as its last line; without a failure there is none."""
    job = act([["say", "long line", 20_000], ["end", 1]], [["complete"]])
    job.final()
    failed_log = job.seed["failed_log"]
    assert 60_000 < len(failed_log.encode()) <= 65536
    assert failed_log.splitlines()[-2] == "long line"
    assert failed_log.splitlines()[-1].startswith("[jobtasks] ")
    quiet = act([["complete"]])
    quiet.final()
    assert (quiet.seed["failed_at"], quiet.seed["failed_log"]) == (None, None)


@pytest.mark.rule("R7", "R32")
def test_only_its_own_attempt_writes_to_a_task(act: Act, api: Api, tmp_path: Path) -> None:
    """Not the admin, not another task's attempt; and it does not write to its job."""
    gate, token = tmp_path / "gate", tmp_path / "token"
    job = act([["leave_file", str(token), "ARVADOS_API_TOKEN"], ["await_file", str(gate)]])
    other = act([["await_file", str(gate)], ["complete"]])
    wait_until("the token", token.exists)
    attempt = api.as_token(token.read_text())
    mine, theirs = f"/job_tasks/{job.seed['uuid']}", f"/job_tasks/{other.seed['uuid']}"
    assert api.status("PATCH", mine, {"output": "admin's"}) == 403
    assert attempt.status("PATCH", theirs, {"output": "stolen"}) in (403, 404)
    assert attempt.status("PATCH", f"/jobs/{job.uuid}", {"priority": 9}) == 403
    assert attempt.status("PATCH", mine, {"output": "own", "success": True}) == 200
    gate.touch()
    assert job.api.final(job.uuid)["output"] == "own\n"
    assert attempt.status("PATCH", mine, {"output": "late"}) == 403
    assert attempt.status("POST", "/job_tasks", {"parameters": {}}) == 403
    assert attempt.status("GET", mine) == 403
    assert (job.seed["output"], len(job.tasks())) == ("own", 1)


@pytest.mark.rule("R12")
def test_a_task_that_is_stopped_by_a_signal_is_tried_again(act: Act) -> None:
    """Three ways to end without a verdict, and then it succeeds."""
    job = act([["kill", int(signal.SIGKILL)]], [["end", 0]], [["complete"]])
    job.final()
    assert (job.seed["attempts"], job.seed["failed_count"]) == (3, 2)
