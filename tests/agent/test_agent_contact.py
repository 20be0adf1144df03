"""Sync with the server: what is repeated, what is refused, what happens when it is away."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from jobtasks.protocol.messages import EndKind, JobBrief

from .conftest import JOB, AgentProcess, FakeServer, Launch, is_alive, wait_for, wait_joined

KEEPER = "jobtasks.agent.keeper"


def append(path: Path) -> tuple[str, ...]:
    return ("sh", "-c", f"echo x >> {path}")


def test_join_presents_the_node(server: FakeServer, agent: AgentProcess, tmp_path: Path) -> None:
    """A join carries the lasting id, what the machine has, and nothing running."""
    join = server.joins[0]
    assert join.node == (tmp_path / "node/node.id").read_text().strip()
    assert (join.slots, join.cores) == (4, len(os.sched_getaffinity(0)))
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    assert 0 < join.memory_kib <= total * 0.95 + 1
    assert join.scratch_mb > 0
    assert (join.running, join.ended) == ([], [])


@pytest.mark.rule("R37")
def test_repeated_assignment_starts_once(
    server: FakeServer, agent: AgentProcess, tmp_path: Path
) -> None:
    """An assignment that is repeated in many answers starts one process, even after its end."""
    server.repeat_always = True
    server.start(1, *append(tmp_path / "witness"))
    server.start(2, "sh", "-c", f"echo x >> {tmp_path}/witness; sleep 1000", slot=2)
    server.pid_of(2)
    witness = tmp_path / "witness"
    wait_for(lambda: witness.exists() and witness.read_text() == "x\nx\n", "both have run")
    count = len(server.syncs)
    server.wait(lambda: len(server.syncs) > count + 10, "ten more answers with the assignment")
    assert witness.read_text() == "x\nx\n"
    assert server.end_of(1).exit_code == 0


@pytest.mark.rule("R33")
def test_late_assignment_is_refused(
    server: FakeServer, agent: AgentProcess, tmp_path: Path
) -> None:
    """An assignment that arrives after its time is not started, and named as refused."""
    # The time counts from the sending of the sync plus what the server held it, not from arrival.
    server.held_seconds = 0.0
    server.wait(lambda: len(server.syncs) > 1, "a sync that waits")
    server.joined.renew_seconds = 5.0
    time_waited = server.syncs[-1].wait_seconds
    assert time_waited == 0.3
    server.start(1, *append(tmp_path / "witness"), start_within_seconds=-0.001)
    server.wait(lambda: 1 in server.refused, "the refusal")
    server.start(2, *append(tmp_path / "witness"), start_within_seconds=20.0)
    server.end_of(2)
    assert (tmp_path / "witness").read_text() == "x\n"
    assert 1 not in server.ended


def test_assignment_for_a_taken_slot_is_refused(server: FakeServer, agent: AgentProcess) -> None:
    """A slot never has two attempts, whatever the server says; nor one that does not exist."""
    server.start(1, "sleep", "1000", slot=1)
    server.pid_of(1)
    server.start(2, "true", slot=1)
    server.start(3, "true", slot=99)
    server.wait(lambda: {2, 3} <= server.refused, "the refusals")
    assert is_alive(server.pids[1])


def test_asked_attempt_that_is_unknown(server: FakeServer, agent: AgentProcess) -> None:
    """The agent says of what it is asked: running, or unknown."""
    server.start(1, "sleep", "1000")
    server.pid_of(1)
    server.ask(1)
    server.ask(77)
    server.wait(lambda: 77 in server.unknown, "the answer")
    assert server.unknown == {77}


@pytest.mark.rule("R37")
def test_ends_are_repeated_until_acknowledged(server: FakeServer, agent: AgentProcess) -> None:
    """An end goes along with every sync until the server has it on record."""
    server.acknowledges = False
    server.start(1, "true")
    server.wait(lambda: server.reports.count(1) > 3, "the end again and again")
    server.acknowledges = True
    server.tell()
    server.wait(lambda: server.syncs[-1].ended == [], "the end is forgotten")
    assert server.syncs[-1].free_slots == [1, 2, 3, 4]


def test_end_is_told_beside_a_waiting_sync(server: FakeServer, launch: Launch) -> None:
    """While one sync waits at the server, an end is reported at once in another."""
    server.joined.renew_seconds = 60.0
    launch()
    server.start(1, "sh", "-c", "read x < /dev/zero")
    pid = server.pid_of(1)
    os.kill(pid, signal.SIGKILL)
    server.end_of(1, server.joined.renew_seconds / 3)


@pytest.mark.rule("R33", "R34")
def test_server_away_and_back_ends_nothing(server: FakeServer, agent: AgentProcess) -> None:
    """An outage ends no attempt; what ended meanwhile is told afterwards, new tokens are read."""
    server.start(1, "sleep", "1000")
    server.start(2, "sh", "-c", "read x < /dev/zero; exit 7", slot=2)
    first, second = server.pid_of(1), server.pid_of(2)
    agent.token_file.write_text("another\n")
    server.down()
    os.kill(second, signal.SIGTERM)
    wait_for(lambda: not is_alive(second), "the end during the outage")
    wait_for(lambda: "no contact with" in agent.said(), "the agent notices")
    count = len(server.syncs)
    server.up()
    assert server.end_of(2).signal == signal.SIGTERM
    server.wait(lambda: len(server.syncs) > count + 2, "renewals go on")
    assert is_alive(first) and server.syncs[-1].running[0].attempt == 1
    assert len(server.joins) == 1
    assert "Bearer another" in server.tokens


@pytest.mark.rule("R34")
def test_patience_is_over(server: FakeServer, launch: Launch) -> None:
    """Without an acknowledged renewal for `patience` the attempts are ended."""
    # Within so long it must be heard while the server is there.
    server.joined.patience_seconds = 1.5
    launch()
    server.start(1, "sleep", "1000")
    pid = server.pid_of(1)
    server.down()
    wait_for(lambda: not is_alive(pid), "the attempt is ended")
    server.up()
    ended = server.end_of(1)
    assert (ended.kind, ended.reason) == (EndKind.AGENT_LOST, "no contact with the server")


@pytest.mark.rule("R34")
def test_patience_counts_only_while_something_runs(server: FakeServer, launch: Launch) -> None:
    """An outage of an idle node does not shorten the patience of what starts after it."""
    # The agent must be heard so often on any machine.
    server.joined.patience_seconds = 3.0
    server.joined.renew_seconds = 0.1
    found = launch()
    wait_joined(server, found)
    server.down()
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > 3.2, "an outage longer than the patience")
    server.up()
    server.start(1, "sh", "-c", "sleep 1; exit 3")
    assert server.end_of(1).exit_code == 3


def test_server_error_is_an_outage(server: FakeServer, agent: AgentProcess) -> None:
    """Answers with a status other than 200 end nothing; the agent says once what it got."""
    server.start(1, "sleep", "1000")
    pid = server.pid_of(1)
    server.status = 503
    wait_for(lambda: "status 503: no" in agent.said(), "the agent's word")
    server.status = 200
    count = len(server.syncs)
    server.wait(lambda: len(server.syncs) > count + 2, "renewals go on")
    assert is_alive(pid)


def test_server_moves(server: FakeServer, agent: AgentProcess, tmp_path: Path) -> None:
    """A server that comes back at another address is found by the file it writes (hand-over)."""
    server.start(1, "sleep", "1000")
    pid = server.pid_of(1)
    server.down()
    server.up(port=0)
    (tmp_path / "node/server.url").write_text(server.url + "\n")
    count = len(server.syncs)
    server.wait(lambda: len(server.syncs) > count + 2, "syncs at the new address")
    assert is_alive(pid) and len(server.joins) == 1
    server.start(2, "sh", "-c", "echo $JOBTASKS_URL", slot=2)
    assert server.text_of(2) == server.url + "\n"


@pytest.mark.rule("R35")
def test_rejoin_ends_what_runs_and_reports_it(server: FakeServer, agent: AgentProcess) -> None:
    """A server that does not know the agent gets the ends of what ran with a new join."""
    server.start(1, "sleep", "1000")
    pid = server.pid_of(1)
    server.rejoin = True
    server.tell()
    wait_joined(server, agent, 2)
    assert not is_alive(pid)
    assert [(ended.attempt, ended.kind) for ended in server.joins[1].ended] == [
        (1, EndKind.AGENT_LOST)
    ]
    server.start(2, "true")
    assert server.end_of(2).exit_code == 0


@pytest.mark.rule("R14")
def test_term_drains(server: FakeServer, launch: Launch, tmp_path: Path) -> None:
    """TERM: nothing new starts, attempts end as stopped, their logs arrive, then goodbye."""
    # The second holds out until the third has been ordered and refused.
    server.joined.grace_seconds = 60.0
    gate = tmp_path / "gate"
    keeper = launch(module=KEEPER)
    server.start(
        1, "sh", "-c", "trap 'echo bye; exit 6' TERM; echo set; sleep 1000 & while :; do wait; done"
    )
    deaf = f"trap '' TERM; echo set; while [ ! -e {gate} ]; do sleep 0.02; done; kill -9 $$"
    server.start(2, "sh", "-c", deaf, slot=2)
    server.wait_said(1, "set")
    server.wait_said(2, "set")
    keeper.process.terminate()
    server.wait(lambda: server.syncs[-1].free_slots == [], "no slot is offered")
    server.start(3, "true", slot=3)
    server.wait(lambda: 3 in server.refused, "the third is refused")
    gate.touch()
    assert keeper.wait() == 0
    ends = {attempt: (end.kind, end.exit_code) for attempt, end in server.ended.items()}
    assert ends == {1: (EndKind.STOPPED, 6), 2: (EndKind.STOPPED, None)}
    assert server.left and server.syncs[-1].leaving
    assert server.text_of(1) == "set\nbye\n"


@pytest.mark.rule("R14", "R37")
def test_term_while_the_server_is_away(server: FakeServer, launch: Launch, tmp_path: Path) -> None:
    """A drain without a server is bounded in time; the next agent tells the ends as it joins."""
    server.joined.grace_seconds = 0.1
    found = launch()
    server.start(1, "sh", "-c", "echo told >&2; exec sleep 1000")
    server.wait(lambda: server.tails.get(1), "its output")
    server.down()
    # Within the time that this waits.
    assert found.end() == 0
    server.up()
    wait_joined(server, launch(), 2)
    (ended,) = server.joins[1].ended
    assert (ended.attempt, ended.kind) == (1, EndKind.STOPPED)
    assert ended.stderr_tail == b"told\n"
    assert server.text_of(1) == "told\n"


@pytest.mark.rule("R14")
@pytest.mark.parametrize("is_answered", [True, False], ids=["answered", "cut"])
def test_term_before_the_join_is_answered(
    server: FakeServer, launch: Launch, is_answered: bool
) -> None:
    """Who is told to go while he joins says goodbye as soon as he is known, if ever he is."""
    server.join_gate.clear()
    agent = launch()
    wait_joined(server, agent)
    agent.process.terminate()
    wait_for(lambda: "leaving" in agent.said(), "it is told to go")
    if not is_answered:
        server.down()
    server.join_gate.set()
    assert agent.wait() == 0
    assert server.left == is_answered


@pytest.mark.rule("R37")
def test_journal_outlives_the_agent(server: FakeServer, launch: Launch) -> None:
    """kill -9 of an agent with unacknowledged ends: the next one brings them with its join."""
    server.acknowledges = False
    found = launch(module=KEEPER)
    server.start(1, "sh", "-c", "exit 5")
    server.end_of(1)
    server.start(2, "sleep", "1000", slot=2)
    parent = int(Path(f"/proc/{server.pid_of(2)}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    wait_joined(server, found, 2)
    assert [(e.attempt, e.exit_code) for e in server.joins[1].ended] == [(1, 5)]
    assert server.joins[1].running == []
    server.acknowledges = True
    server.tell()
    server.wait(lambda: server.syncs[-1].ended == [], "the end is acknowledged at last")


@pytest.mark.rule("R37")
def test_left_over_log_is_pushed(server: FakeServer, launch: Launch, tmp_path: Path) -> None:
    """The log of an attempt that was lost with its agent is pushed by the next agent."""
    found = launch(module=KEEPER)
    server.start(1, "sh", "-c", "echo before; exec sleep 1000")
    pid = server.pid_of(1)
    logs = tmp_path / "node/logs"
    wait_for(lambda: any(log.stat().st_size for log in logs.glob("1.log")), "the log's file")
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    wait_joined(server, found, 2)
    assert server.text_of(1) == "before\n"
    wait_for(lambda: os.listdir(tmp_path / "node/logs") == [], "the file is gone")


def test_briefs_outlive_the_agent(server: FakeServer, launch: Launch) -> None:
    """A new agent on the node still knows the jobs it names, so it needs no brief again."""
    server.briefs[JOB] = JobBrief(JOB, script_parameters='{"x": "kept"}')
    first = launch()
    server.start(1, "sh", "-c", "echo x > $JOB_WORK/file")
    server.end_of(1)
    first.end()
    wait_joined(server, launch(), 2)
    server.wait(lambda: server.syncs[-1].jobs_known == [JOB], "the job is named")
    del server.briefs[JOB]
    server.start(2, "sh", "-c", "echo $JOB_PARAMETER_X; ls $JOB_WORK")
    assert server.text_of(2) == "kept\nfile\n"


def test_second_agent_is_kept_away(
    server: FakeServer, agent: AgentProcess, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node's lock keeps a second agent away; one line says why, exit code 125."""
    second = launch()
    assert second.wait() == 125
    assert "another agent has the node" in second.said()
    assert len(server.joins) == 1


def test_agent_that_cannot_work_says_why(launch: Launch, tmp_path: Path) -> None:
    """A directory that cannot be used, an address that is none: one line, exit code 125."""
    (tmp_path / "node").write_text("a file")
    found = launch()
    assert found.wait() == 125
    assert "cannot use the node's directory" in found.said()
    (tmp_path / "node").unlink()
    found = launch("--server", "ftp://somewhere")
    assert found.wait() == 125
    assert "not an address" in found.said()
    assert "Traceback" not in found.said()


def test_unacknowledged_end_is_not_lost_by_a_restart(server: FakeServer, launch: Launch) -> None:
    """What the join does not acknowledge stays in the syncs."""
    server.acknowledges = False
    first = launch()
    server.start(1, "true")
    server.end_of(1)
    first.process.kill()
    first.process.wait()
    count = len(server.syncs)
    wait_joined(server, launch(), 2)
    server.wait(
        lambda: any(ended.attempt == 1 for sync in server.syncs[count:] for ended in sync.ended),
        "the end in a sync",
    )
    server.acknowledges = True
