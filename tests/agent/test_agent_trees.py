"""The tree of an attempt is gone when the attempt is over (R36): nasty programs, all endings."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from jobtasks.agent import births
from jobtasks.protocol.messages import EndKind

from .conftest import (
    ATTEMPTS,
    AgentProcess,
    FakeServer,
    Launch,
    is_alive,
    wait_for,
    wait_joined,
)
from .zoo import COUNT, ZOO, command, pids

CGROUPS = ("all", "off")
KEEPER = "jobtasks.agent.keeper"


def gone(found: list[int]) -> bool:
    return not any(is_alive(pid) for pid in found)


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    return tmp_path / "witness"


@pytest.mark.rule("R36")
@pytest.mark.parametrize("name", ZOO)
def test_tree_is_gone_when_the_end_is_reported(
    standing: FakeServer, witness: Path, name: str
) -> None:
    """The attempt ends by itself and leaves processes: they are gone before the end is reported."""
    wait_ready = f'while [ "$(wc -l < "$1")" -lt {COUNT.get(name, 1)} ]; do sleep 0.01; done'
    attempt = next(ATTEMPTS)
    standing.start(attempt, *command(name, witness, f'touch "$1"; {wait_ready}; exit 3'))
    ended = standing.end_of(attempt)
    assert gone(pids(witness, name))
    assert (ended.kind, ended.exit_code) == (EndKind.EXIT, 3)


@pytest.mark.rule("R36", "R21")
@pytest.mark.parametrize("name", ZOO)
def test_tree_is_gone_after_a_stop(standing: FakeServer, witness: Path, name: str) -> None:
    """The attempt is stopped: its whole tree is gone before the end is reported."""
    attempt = next(ATTEMPTS)
    standing.start(attempt, *command(name, witness, "sleep 1000"))
    found = pids(witness, name)
    standing.stop(attempt)
    assert standing.end_of(attempt).kind is EndKind.STOPPED
    assert gone(found)


@pytest.mark.rule("R36")
@pytest.mark.parametrize("name", ["child", "double fork", "nothing to know it by", "storm"])
@pytest.mark.parametrize("leader_stays", [True, False])
def test_tree_is_gone_after_the_agent_was_killed(
    server: FakeServer, launch: Launch, witness: Path, name: str, leader_stays: bool
) -> None:
    """kill -9 of the agent: the keeper ends every process before the next agent joins."""
    launch(module=KEEPER)
    then = "sleep 1000" if leader_stays else "exec env -i sleep 1000"
    server.start(1, *command(name, witness, then))
    found = [*pids(witness, name), server.pid_of(1)]
    os.kill(agent_of(server.pid_of(1)), signal.SIGKILL)
    server.wait(lambda: len(server.joins) == 2, "the next agent's join")
    assert gone(found)


@pytest.mark.rule("R36")
@pytest.mark.parametrize("name", ["child", "double fork", "nothing to know it by", "storm"])
def test_tree_is_gone_after_the_keeper_was_killed(
    server: FakeServer, launch: Launch, witness: Path, name: str
) -> None:
    """kill -9 of the keeper: the agent ends its attempts' trees and itself."""
    keeper = launch(module=KEEPER)
    server.start(1, *command(name, witness, "sleep 1000"))
    found = [*pids(witness, name), server.pid_of(1)]
    found.append(agent_of(server.pid_of(1)))
    keeper.process.kill()
    keeper.process.wait()
    wait_for(lambda: gone(found), "agent and trees are gone")


@pytest.mark.rule("R36", "R37")
@pytest.mark.parametrize("name", ["child", "double fork", "session", "no environment", "storm"])
def test_next_agent_ends_survivors_before_it_joins(
    server: FakeServer, launch: Launch, witness: Path, name: str
) -> None:
    """Keeper and agent killed at once: the next agent ends what survived, then joins."""
    keeper = launch(module=KEEPER)
    server.start(1, *command(name, witness, "exec env -i sleep 1000"))
    found = [*pids(witness, name), server.pid_of(1)]
    kill_both(keeper, agent_of(server.pid_of(1)))
    assert not gone(found)
    launch(module=KEEPER)
    server.wait(lambda: len(server.joins) == 2, "the next agent's join")
    assert gone(found)


@pytest.mark.rule("R36")
def test_orphan_of_a_live_attempt_is_left_alone(
    server: FakeServer, agent: AgentProcess, witness: Path, tmp_path: Path
) -> None:
    """A daemon of an attempt that still runs outlives the ends of others, and goes with its own."""
    other = tmp_path / "other"
    server.start(1, *command("double fork", witness, "sleep 1000"))
    server.start(2, *command("nothing to know it by", other, "sleep 1000"), slot=2)
    known, unknown = pids(witness, "double fork"), pids(other, "nothing to know it by")
    for attempt in range(3, 8):
        server.start(attempt, "sh", "-c", "sleep 1000 & exit 0", slot=3)
        server.end_of(attempt)
    assert all(is_alive(pid) for pid in known + unknown)
    server.stop(2)
    server.end_of(2)
    assert gone(unknown)
    assert all(is_alive(pid) for pid in known)
    server.stop(1)
    server.end_of(1)
    assert gone(known)


@pytest.mark.rule("R36")
def test_what_cannot_be_told_ends_with_its_last_candidate(
    server: FakeServer, agent: AgentProcess, witness: Path
) -> None:
    """An orphan that nothing tells apart is ended when all attempts that it may be of are over."""
    server.start(1, "sleep", "1000")
    server.pid_of(1)
    name = "nothing to know it by"
    server.start(2, *command(name, witness, 'while [ ! -s "$1" ]; do sleep 0.01; done'), slot=2)
    server.end_of(2)
    found = pids(witness, name)
    server.stop(1)
    server.end_of(1)
    assert gone(found)


@pytest.mark.rule("R36")
def test_dead_orphans_are_reaped_while_the_attempt_runs(
    server: FakeServer, agent: AgentProcess
) -> None:
    """Orphans that die while their attempt goes on do not pile up as zombies."""
    program = "for i in $(seq 50); do (true &); done; echo done; sleep 1000"
    server.start(1, "sh", "-c", program)
    server.pid_of(1)
    children = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children")
    server.follow = [1]
    server.tell()
    server.wait(lambda: b"done" in server.logs.get(1, b""), "all orphans are dead")
    # Beside the attempt's first process there may be the one that starts them.
    wait_for(lambda: len(tasks_of(children)) == 1, "one child is left")


@pytest.mark.rule("R36")
def test_held_pipe_delays_no_end(server: FakeServer, agent: AgentProcess) -> None:
    """A grandchild that holds stdout open delays no end; what was written is in the log."""
    server.start(1, "sh", "-c", "(trap '' TERM; sleep 1000) & echo said; exit 0")
    ended = server.end_of(1)
    # Not a thousand.
    assert ended.run_seconds is not None and ended.run_seconds < 20
    assert server.text_of(1) == "said\n"


@pytest.mark.rule("R36")
def test_shell_that_stands_in_a_work_directory_is_spared(
    server: FakeServer, launch: Launch, tmp_path: Path
) -> None:
    """A process with a terminal whose directory is a slot's is somebody's shell: left alone."""
    first = launch()
    wait_joined(server, first)
    first.end()
    main, side = pty.openpty()
    try:
        shell = subprocess.Popen(
            ["setsid", "-c", "sleep", "1000"],
            cwd=tmp_path / "node" / "work" / "slot-1",
            stdin=side,
            stdout=side,
            stderr=side,
        )
        agent = launch()
        wait_joined(server, agent, 2)
        assert shell.poll() is None
        shell.kill()
        shell.wait()
    finally:
        os.close(main)
        os.close(side)


def tasks_of(children: Path) -> list[str]:
    """Return an agent's children, but for its spawner."""
    spawner = str(births.words(0)[3]).encode()
    found = []
    for pid in children.read_text().split():
        # It may have been reaped since.
        with contextlib.suppress(OSError):
            if spawner not in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def agent_of(leader: int) -> int:
    """Return the parent of an attempt's first process."""
    return int(Path(f"/proc/{leader}/stat").read_text().rpartition(")")[2].split()[1])


def kill_both(keeper: AgentProcess, agent: int) -> None:
    """Kill keeper and agent so that neither sees the other die."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        os.kill(agent, number)
        os.kill(keeper.process.pid, number)
    keeper.process.wait()
    wait_for(lambda: not is_alive(agent), "the agent is dead")
