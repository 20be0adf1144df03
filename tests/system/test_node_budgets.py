"""What failures cost on one node (R12, R14, R15): causes, budgets, delays."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from pathlib import Path

import pytest

from .conftest import QUICK, SCRIPTS, Act, Acted, Api, Play, Start, acting, agent_of, wait_until
from .witness import Record, microseconds


def causes(job: Acted, task: Record) -> list[str]:
    """Return the cause of each attempt's end."""
    return [attempt["cause"] for attempt in job.api.attempts(task["uuid"])]


@pytest.mark.rule("R12", "R14")
def test_a_task_may_fail_three_times_by_itself(act: Act) -> None:
    """Exit 1 three times: failed for good, with the reason."""
    job = act([["say", "alas"], ["end", 1]])
    assert "3 of 3 attempts failed" in job.final("Failed")["log"]
    task = job.seed
    assert (task["success"], task["state"], task["failed_count"]) == (False, "failed", 3)
    assert causes(job, task) == ["exit"] * 3
    last = task["failed_log"].splitlines()[-1]
    assert last.startswith("[jobtasks] ") and "not tried again" in last


@pytest.mark.rule("R14")
def test_a_job_may_give_another_number(act: Act) -> None:
    """`max_attempts` of job or task, the stricter of both."""
    job = act([["end", 1]], constraints={"max_attempts": 2})
    job.final("Failed")
    assert job.seed["attempts"] == 2
    strict = acting(["end", 1], runtime_constraints={"max_attempts": 1})
    job = act([["create", strict], ["complete"]], constraints={"max_attempts": 2})
    job.final("Failed")
    assert [task["attempts"] for task in job.tasks()] == [1, 1]


@pytest.mark.rule("R14")
@pytest.mark.parametrize("exit_code", [75, 111])
def test_asking_for_another_attempt_has_a_budget_of_ten(act: Act, exit_code: int) -> None:
    """By exit code, without a verdict."""
    job = act([["end", exit_code]])
    job.final("Failed")
    assert causes(job, job.seed) == ["asked_for_retry"] * 10


@pytest.mark.rule("R14")
def test_budgets_are_counted_apart(act: Act) -> None:
    """Twice its own fault and four times asked for are not too much."""
    asked, failed = [["end", 75]], [["end", 2]]
    job = act(asked, failed, asked, asked, failed, asked, [["complete"]])
    job.final()
    assert (job.seed["attempts"], job.seed["failed_count"]) == (7, 6)


@pytest.mark.rule("R14")
def test_a_time_limit_ends_the_process(act: Act, tmp_path: Path) -> None:
    """`max_run_seconds`: the cause is kept, and it counts as own fault."""
    limits = {"max_run_seconds": 1, "max_attempts": 2}
    job = act([["await_file", str(tmp_path / "never")]], constraints=limits)
    job.final("Failed")
    assert causes(job, job.seed) == ["time_limit", "time_limit"]
    assert job.api.attempts(job.seed["uuid"])[0]["signal"] == signal.SIGTERM


@pytest.mark.rule("R14", "R28")
def test_memory_grows_only_after_out_of_memory(act: Act) -> None:
    """A task that needs three times its reservation gets there; another failure adds nothing."""
    reserved = 50_000
    enough = ["use_memory", 3 * reserved]
    little = ["use_memory", reserved + 10_000]
    job = act(
        [little, ["wait_for_the_end"]],
        [["end", 1]],
        [enough, ["wait_for_the_end"]],
        [enough, ["complete"]],
        constraints={"min_ram_per_task": reserved},
    )
    job.final()
    assert causes(job, job.seed) == ["out_of_memory", "exit", "out_of_memory", "exit"]
    found = job.api.attempts(job.seed["uuid"])
    first, second, third, fourth = (attempt["memory_kib"] for attempt in found)
    assert first == reserved
    assert 2 * found[0]["peak_memory_kib"] == second == third < 3 * reserved
    # The third may have been seen, and ended, before it had all that it wanted.
    assert 2 * found[2]["peak_memory_kib"] == fourth > 2 * third
    assert "are reserved for it" in found[0]["reason"]


@pytest.mark.rule("R14")
def test_a_script_without_its_interpreter_fails_once(act: Act, tmp_path: Path) -> None:
    """One attempt on the only node, and a reason that names the file."""
    script = tmp_path / "odd.sh"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    assert "odd.sh" in unable_to_start(act([], script=script))


@pytest.mark.rule("R14")
def test_a_script_that_the_server_cannot_see_fails_once(act: Act, tmp_path: Path) -> None:
    """The directory is on no disk of the server's: the agent tells."""
    assert "elsewhere" in unable_to_start(act([], script=tmp_path / "no" / "elsewhere.sh"))


def unable_to_start(job: Acted) -> str:
    """Check that its seed was tried once, could not be started, and return why."""
    job.final("Failed")
    assert causes(job, job.seed) == ["unable_to_start"]
    reason: str = job.seed["failed_log"]
    return reason


@pytest.mark.rule("R14")
def test_a_script_that_may_not_be_executed_any_more(act: Act, tmp_path: Path) -> None:
    """It could be when the job was created: the seed's children fail, once each."""
    for name in ("actor.py", "note.py", "witnessed.py"):
        shutil.copy(SCRIPTS / name, tmp_path / name)
    play = [["create", acting()], ["disable_script"], ["complete"]]
    job = act(play, script=tmp_path / "actor.py")
    job.final("Failed")
    assert [task["state"] for task in job.tasks()] == ["complete", "failed"]
    assert causes(job, job.tasks()[1]) == ["unable_to_start"]


@pytest.mark.rule("R14")
def test_a_script_that_is_seen_to_be_unfit_is_refused(api: Api, tmp_path: Path) -> None:
    """Missing in a directory that is there, a directory, not executable: 422."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    for name in ("missing", "folder", "plain"):
        job = {"script": name, "script_version": str(tmp_path)}
        assert api.status("POST", "/jobs", job) == 422, name


@pytest.mark.rule("R12", "R13", "R14")
def test_an_agent_that_dies_costs_nothing_of_the_tasks_own(start: Start, tmp_path: Path) -> None:
    """kill -9: cause agent_lost, the same node again, and three own failures are left."""
    served = start("--slots", "2")
    with served.api() as api:
        gate = tmp_path / "gate"
        failing: Play = [["await_file", str(gate)], ["end", 1]]
        job = Acted(api, tmp_path, failing, failing, failing, [["complete"]])
        job.noted("start")
        os.kill(wait_until("an agent", lambda: agent_of(served.state)), signal.SIGKILL)
        gate.touch()
        job.final()
        assert causes(job, job.seed) == ["agent_lost", "exit", "exit", "exit"]
        assert job.seed["failed_count"] == 3


@pytest.mark.rule("R14")
def test_a_task_that_kills_its_agent_stops_by_itself(start: Start, tmp_path: Path) -> None:
    """Its budget for lost attempts is spent; other jobs go on."""
    served = start("--slots", "2", settings={**QUICK, "attempts_lost_max": 3})
    with served.api() as api:
        job = Acted(api, tmp_path, [["kill_agent"]])
        assert "3 of 3 attempts lost" in job.final("Failed")["log"]
        assert causes(job, job.seed) == ["agent_lost"] * 3
        api.pass_by()


@pytest.mark.rule("R15")
def test_attempts_wait_longer_each_time(start: Start, tmp_path: Path) -> None:
    """The delay doubles, ± 25 %, up to its maximum; as the attempts' times show."""
    delays = {"delay_seconds": 0.2, "delay_seconds_max": 0.6}
    served = start("--slots", "1", settings={**QUICK, **delays})
    with served.api() as api:
        failed: Play = [["end", 75]]
        job = Acted(api, tmp_path, failed, failed, failed, failed, [["complete"]])
        job.final()
        attempts = api.attempts(job.seed["uuid"])
    waits = [
        (microseconds(later["assigned_at"]) - microseconds(sooner["finished_at"])) / 1e6
        for sooner, later in itertools.pairwise(attempts)
    ]
    for waited, delay in zip(waits, (0.2, 0.4, 0.6, 0.6), strict=True):
        assert min(0.75 * delay, 0.6) <= waited < 1.25 * delay + 5.0, waits
