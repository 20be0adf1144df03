"""What the end of an attempt means: verdicts, temporary failures, commands (R10–R13, R39)."""

from __future__ import annotations

from typing import Any

import pytest

from jobtasks.core.errors import StaleAttempt
from jobtasks.core.states import AttemptState, TaskState
from jobtasks.protocol.messages import STDERR_TAIL_BYTES_MAX, EndKind
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

HOWS: list[tuple[EndKind, dict[str, Any]]] = [
    (EndKind.EXIT, {"exit_code": 0}),
    (EndKind.EXIT, {"exit_code": 3}),
    (EndKind.EXIT, {"exit_code": 111}),
    (EndKind.EXIT, {"signal": 11}),
    (EndKind.STOPPED, {"signal": 15}),
    (EndKind.TIME_LIMIT, {"signal": 9}),
    (EndKind.OUT_OF_MEMORY, {"signal": 9, "peak_memory_kib": 5000}),
    (EndKind.AGENT_LOST, {}),
]
CAUSES = {
    EndKind.EXIT: "exit",
    EndKind.STOPPED: "stopped",
    EndKind.TIME_LIMIT: "time_limit",
    EndKind.OUT_OF_MEMORY: "out_of_memory",
    EndKind.AGENT_LOST: "agent_lost",
}


@pytest.mark.rule("R10")
@pytest.mark.parametrize(("kind", "how"), HOWS)
def test_a_complete_record_is_complete_whatever_ended_the_process(
    service: LocalService, agent: SimulatedAgent, kind: EndKind, how: dict[str, Any]
) -> None:
    """What ended it is kept and shown."""
    job = service.started_job()
    seed = agent.take_one()
    agent.write(seed, success=True, output="42")
    agent.end(seed, kind, **how)
    task = service.task(seed.task)
    assert (task.state, task.progress, task.success) == (TaskState.COMPLETE, 1.0, 1)
    assert (task.output, task.failed_count) == ("42", 0)
    (attempt,) = service.attempts(seed.task)
    assert (attempt.exit_code, attempt.signal) == (how.get("exit_code"), how.get("signal"))
    asked = how.get("exit_code") == 111
    assert attempt.cause == ("asked_for_retry" if asked else CAUSES[kind])
    assert service.job(job).state == "Complete"


@pytest.mark.rule("R10")
def test_a_lease_that_runs_out_does_not_undo_a_verdict(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """The record as its last accepted write left it counts, also when the node is lost."""
    job = service.started_job()
    seed = agent.take_one()
    agent.write(seed, success=True)
    service.pass_seconds(31)
    assert service.job(job).state == "Complete"
    assert service.attempts(seed.task)[0].state == AttemptState.ENDED


@pytest.mark.rule("R10")
def test_the_last_write_counts(service: LocalService, agent: SimulatedAgent) -> None:
    """A verdict may be taken back until the process ends."""
    service.started_job()
    seed = agent.take_one()
    agent.write(seed, success=True)
    agent.write(seed, success=None, progress=0.5)
    agent.end(seed)
    assert service.task(seed.task).failed_count == 1


@pytest.mark.rule("R10", "R32")
def test_nothing_is_accepted_after_the_end_is_recorded(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """A late write gets 403 and leaves no trace; before the record it is accepted."""
    service.started_job()
    seed = agent.take_one()
    agent.end(seed, exit_code=1, sync=False)
    agent.write(seed, progress=0.5)
    agent.sync(free_slots=[])
    before = service.task(seed.task)
    with pytest.raises(StaleAttempt):
        agent.write(seed, success=True)
    assert service.task(seed.task) == before


@pytest.mark.rule("R11")
@pytest.mark.parametrize(("kind", "how"), HOWS)
def test_success_false_is_permanent(
    service: LocalService, agent: SimulatedAgent, kind: EndKind, how: dict[str, Any]
) -> None:
    """Whatever ended the process, nothing is retried."""
    job = service.started_job()
    seed = agent.take_one()
    agent.write(seed, success=False, progress=1.0, output="bad input")
    agent.end(seed, kind, **how)
    task = service.task(seed.task)
    assert (task.state, task.success, task.failed_count) == (TaskState.FAILED, 0, 1)
    now = service.job(job)
    assert (now.state, now.failed) == ("Failed", 1)
    service.pass_seconds(1000)
    assert agent.take() == []


@pytest.mark.rule("R12")
@pytest.mark.parametrize(
    "body", [{}, {"progress": 1.0}, {"success": True, "progress": 0.9}, {"progress": 0.0}]
)
def test_no_verdict_is_a_temporary_failure(
    service: LocalService, agent: SimulatedAgent, body: dict[str, Any]
) -> None:
    """Exit code 0 says nothing for a script: its task is tried again, later."""
    service.started_job()
    seed = agent.take_one()
    agent.write(seed, **body)
    agent.end(seed, exit_code=0)
    assert service.task(seed.task).state == TaskState.WAITING
    assert agent.take() == []
    service.pass_seconds(1)
    again = agent.take_one()
    assert (again.task, again.number) == (seed.task, 2)


@pytest.mark.rule("R12")
def test_a_task_waits_for_no_node_that_has_left(service: LocalService) -> None:
    """It avoided the node for the sake of another; with that gone it does not wait."""
    first, other = SimulatedAgent(service, "n1"), SimulatedAgent(service, "n2")
    service.started_job()
    first.crash(first.take_one())
    other.sync(leaving=True)
    service.pass_seconds(2, first)
    assert len(first.take()) == 1


@pytest.mark.rule("R12")
def test_the_next_attempt_avoids_the_node(service: LocalService) -> None:
    """It waits for another fitting node at most 5 minutes after its delay, then any will do."""
    here, there = (SimulatedAgent(service, node) for node in ("n1", "n2"))
    service.started_job()
    here.crash(here.take_one())
    service.pass_seconds(1)
    assert here.take() == []
    service.pass_seconds(300 - 0.001, here, there)
    assert here.take() == []
    service.clock.advance(0.001)
    assert here.take_one().number == 2


@pytest.mark.rule("R12")
def test_another_node_takes_it_at_once(service: LocalService) -> None:
    """And after failures on both, both are avoided, that is: none is left, so any will do."""
    here, there = (SimulatedAgent(service, node) for node in ("n1", "n2"))
    service.started_job()
    here.crash(here.take_one())
    service.pass_seconds(1)
    assert here.take() == []
    there.crash(there.take_one())
    service.pass_seconds(3)
    assert here.take_one().number == 3


@pytest.mark.rule("R12")
@pytest.mark.parametrize("memory_kib", [500, 5000])
def test_a_node_that_is_too_small_is_no_other_node(service: LocalService, memory_kib: int) -> None:
    """Where no other fitting node exists the task waits for none."""
    here = SimulatedAgent(service, "n1", memory_kib=5000)
    SimulatedAgent(service, "n2", memory_kib=memory_kib)
    service.started_job(runtime_constraints={"min_ram_per_task": 1000})
    here.crash(here.take_one())
    service.pass_seconds(1)
    assert len(here.take()) == (1 if memory_kib == 500 else 0)


@pytest.mark.rule("R12", "R14")
def test_an_attempt_lost_with_its_node_does_not_count_against_it(service: LocalService) -> None:
    """The agent restarts on the same node: the task may start there again at once (R15)."""
    here, _ = (SimulatedAgent(service, node) for node in ("n1", "n2"))
    service.started_job()
    first = here.take_one()
    here.join()
    again = here.take_one()
    assert (again.task, again.number) == (first.task, 2)
    assert service.task(first.task).failed_count == 1


@pytest.mark.rule("R12", "R14")
def test_a_stop_does_not_forget_where_the_task_failed(service: LocalService) -> None:
    """Stopped on one node, it still avoids the other, where it failed."""
    here, there = (SimulatedAgent(service, node) for node in ("n1", "n2"))
    service.started_job()
    here.crash(here.take_one())
    service.pass_seconds(1)
    there.end(there.take_one(), EndKind.STOPPED)
    assert here.take() == []
    assert there.take_one().number == 3


@pytest.mark.rule("R13")
def test_a_failure_is_recorded_and_the_record_cleared(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Count, time, log; progress, success, output are empty for the next attempt."""
    service.started_job()
    seed = agent.take_one()
    agent.write(seed, progress=0.7, output="half")
    fresh = service.task(seed.task)
    assert (fresh.failed_count, fresh.failed_at, fresh.failed_log) == (0, None, None)
    service.clock.advance(5)
    agent.crash(seed, exit_code=7, stderr_tail=b"first\nlast", peak_memory_kib=9, log_bytes=10)
    task = service.task(seed.task)
    assert (task.progress, task.success, task.output, task.started_at) == (None,) * 4
    assert (task.failed_count, task.failed_at) == (1, service.clock.now)
    reason = "[jobtasks] the process ended with exit code 7 and no verdict"
    assert task.failed_log == f"first\nlast\n{reason}\n"
    service.pass_seconds(1)
    agent.complete(agent.take_one())
    task = service.task(seed.task)
    assert (task.failed_count, task.success) == (1, 1)
    assert task.failed_log and task.failed_log.startswith("first\n")


@pytest.mark.rule("R13")
def test_every_attempt_stays_on_record(service: LocalService, agent: SimulatedAgent) -> None:
    """Number, node, slot, times, exit code or signal, cause, peak memory, size of log."""
    service.started_job()
    seed = agent.take_one()
    begun = service.clock.now
    service.clock.advance(5)
    facts: dict[str, Any] = {"peak_memory_kib": 9, "log_bytes": 10, "run_seconds": 4.5}
    agent.crash(seed, exit_code=7, log_dropped_bytes=3, **facts)
    ended = service.clock.now
    service.pass_seconds(1)
    agent.take_one()
    first, second = service.attempts(seed.task)
    assert (first.number, first.node, first.slot) == (1, "n1.example", 1)
    assert (first.started_at, first.ended_at, first.run_seconds) == (begun, ended, 4.5)
    assert (first.exit_code, first.signal, first.cause) == (7, None, "exit")
    assert (first.peak_memory_kib, first.log_bytes, first.log_dropped_bytes) == (9, 10, 3)
    assert (second.number, second.state, second.ended_at) == (2, AttemptState.RUNNING, None)


TAILS: list[tuple[bytes, str]] = [
    (b"x" * 200_000, ""),
    ("ä".encode() * 100_000, ""),
    (b"\xff" * STDERR_TAIL_BYTES_MAX, ""),
    (b"\0" * STDERR_TAIL_BYTES_MAX, "the agent's own line"),
    (b"x" * (STDERR_TAIL_BYTES_MAX - 1) + b"\n", "the agent's own line"),
    (b"", "the agent's own line"),
    (b"short", "the agent's own line"),
    (b"short", "r" * 100_000),
    (b"short", "two\nlines\n"),
]


@pytest.mark.rule("R13", "R42")
@pytest.mark.parametrize(("stderr", "reason"), TAILS, ids=range(len(TAILS)))
def test_the_failures_log_is_bounded(
    service: LocalService, agent: SimulatedAgent, stderr: bytes, reason: str
) -> None:
    """At most 64 KiB: the end of stderr, our reason as one marked last line."""
    service.started_job()
    seed = agent.take_one()
    agent.crash(seed, stderr_tail=stderr, reason=reason)
    log = service.task(seed.task).failed_log
    assert log is not None
    assert len(log.encode()) <= STDERR_TAIL_BYTES_MAX
    last = log.splitlines()[-1]
    assert last.startswith("[jobtasks] ")
    if reason:
        assert " ".join(reason.split())[:40] in last
    if stderr:
        assert len(log.splitlines()) == 2
        assert len(log.encode()) > min(len(stderr), STDERR_TAIL_BYTES_MAX) - 10


@pytest.mark.rule("R13")
def test_a_lost_attempts_log_is_what_was_seen_last(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """The live end of stderr that went along with a renewal, and the reason."""
    service.started_job()
    seed = agent.take_one()
    alive = agent.message().running
    alive[0].stderr_tail = b"so far\n"
    agent.sync(running=alive)
    service.pass_seconds(31)
    log = service.task(seed.task).failed_log
    assert log is not None
    assert log.splitlines() == ["so far", "[jobtasks] its node was not heard for 30 s"]


COMMANDS: list[tuple[dict[str, Any], TaskState, str]] = [
    ({"exit_code": 0}, TaskState.COMPLETE, "Complete"),
    ({"exit_code": 1}, TaskState.FAILED, "Failed"),
    ({"exit_code": 255}, TaskState.FAILED, "Failed"),
    ({"exit_code": 111}, TaskState.WAITING, "Running"),
    ({"exit_code": 75}, TaskState.WAITING, "Running"),
    ({"signal": 9}, TaskState.WAITING, "Running"),
]


@pytest.mark.rule("R39")
@pytest.mark.parametrize(("how", "state", "job_state"), COMMANDS)
def test_the_agent_is_a_commands_worker(
    service: LocalService,
    agent: SimulatedAgent,
    how: dict[str, Any],
    state: TaskState,
    job_state: str,
) -> None:
    """0 completes; 111, 75 and signals ask again; another code fails for good."""
    job = service.started_job(command=["sh", "-c", "work"])
    seed = agent.take_one()
    agent.end(seed, **how)
    assert (service.task(seed.task).state, service.job(job).state) == (state, job_state)


@pytest.mark.rule("R39", "R14")
@pytest.mark.parametrize("where", ["job", "task"])
def test_a_commands_failures_are_retried_when_attempts_are_given(
    service: LocalService, agent: SimulatedAgent, where: str
) -> None:
    """No verdict until they are used up, then success=false."""
    limit = {"max_attempts": 2}
    service.started_job(runtime_constraints=limit if where == "job" else {})
    agent.grow({"command": ["sh"], "runtime_constraints": limit if where == "task" else {}})
    first = agent.take_one()
    agent.end(first, exit_code=9)
    assert service.task(first.task).state == TaskState.WAITING
    service.pass_seconds(1)
    agent.end(agent.take_one(), exit_code=9)
    task = service.task(first.task)
    assert (task.state, task.success, task.attempts) == (TaskState.FAILED, 0, 2)


@pytest.mark.rule("R39")
@pytest.mark.parametrize(
    ("job", "task", "is_command"),
    [("script", None, False), ("script", ["x"], True), ("command", None, True)],
)
def test_a_tasks_own_command_wins_then_the_script_then_the_jobs_command(
    service: LocalService,
    agent: SimulatedAgent,
    job: str,
    task: list[str] | None,
    is_command: bool,
) -> None:
    """Exit code 0 completes a command, and says nothing for a script."""
    both = {"script": "run", "script_version": "/srv", "command": ["jobs"]}
    service.started_job(**(both if job == "script" else {"command": ["jobs"]}))
    seed = agent.take_one()
    agent.create(seed, {"command": task})
    agent.complete(seed)
    child = agent.take_one()
    assert child.command == task
    agent.end(child, exit_code=0)
    assert (service.task(child.task).state == TaskState.COMPLETE) is is_command


@pytest.mark.rule("R39")
@pytest.mark.parametrize("success", [True, False])
def test_a_commands_own_verdict_stands(
    service: LocalService, agent: SimulatedAgent, success: bool
) -> None:
    """A command that writes to its task over the API is judged by that."""
    job = service.started_job(command=["x"])
    seed = agent.take_one()
    agent.write(seed, success=success)
    agent.end(seed, exit_code=1 if success else 0)
    assert service.job(job).state == ("Complete" if success else "Failed")
