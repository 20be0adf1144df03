"""Exclusive attempts stand still while their node is cut off (R34): real processes, each cause."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobtasks.agent.freezer import Held, State, now
from jobtasks.protocol.messages import EndKind

from .conftest import AgentProcess, FakeServer, Launch, is_alive, is_frozen, wait_for, wait_joined

CGROUPS = ("all", "off")
KEEPER = "jobtasks.agent.keeper"
FREEZE_SECONDS = 1.0

STEP = f"""exec {sys.executable} -S -E -c '
import os, sys, time
file = open(sys.argv[1], "ab", buffering=0)
while True:
    file.write(b"%d\\n" % os.getpid())
    time.sleep(0.01)
' "$1" """
"""A process that notes each of its steps in the file $1."""


class Stepping:
    """An attempt whose processes take steps, and the file in which they note them."""

    def __init__(self, server: FakeServer, path: Path, attempt: int, **fields: object) -> None:
        self.path = path
        self.attempt = attempt
        path.touch()
        # One is an orphan, in a session of its own; of what is exclusive not even marked.
        clean = "env -i" if fields.get("exclusive") else ""
        program = f"(cd /; {clean} setsid sh -c '{self.quoted}' sh \"$1\" &); {STEP}"
        command = ("sh", "-c", program, "sh", str(path))
        server.start(attempt, *command, slot=attempt, **fields)
        wait_for(lambda: len(set(self.steps())) == 2, "two processes that take steps")

    quoted = STEP.replace("'", "'\\''")

    def steps(self) -> list[bytes]:
        """Return who took each step so far."""
        return self.path.read_bytes().split()

    def goes_on(self) -> bool:
        """Wait until both processes have taken another step."""
        count = len(self.steps())
        return bool(wait_for(lambda: len(set(self.steps()[count:])) == 2, "steps of both"))

    def stands(self) -> int:
        """Wait until no process can take another step; return how many there were."""
        wait_for(lambda: all(map(is_stopped, set(self.steps()))), "all are stopped")
        return len(self.steps())


def is_stopped(pid: bytes) -> bool:
    """Whether a process stands still: stopped, or in a control group that is frozen."""
    state = Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "T" or is_frozen(int(pid))


@pytest.fixture
def keeper(server: FakeServer, launch: Launch) -> Iterator[AgentProcess]:
    server.joined.freeze_seconds = FREEZE_SECONDS
    found = launch(module=KEEPER)
    wait_joined(server, found)
    yield found
    found.process.send_signal(signal.SIGCONT)


def agent_of(keeper: AgentProcess) -> int:
    pid = keeper.process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


@pytest.fixture
def stepping(server: FakeServer, keeper: AgentProcess, tmp_path: Path) -> Stepping:
    """An exclusive attempt on a node with keeper and agent."""
    return Stepping(server, tmp_path / "steps", 1, exclusive=True)


@pytest.mark.rule("R34")
def test_without_contact_only_the_exclusive_stand_still(
    server: FakeServer, stepping: Stepping, tmp_path: Path
) -> None:
    """The line is cut: exclusive attempts are frozen, others go on; in contact again, both do."""
    other = Stepping(server, tmp_path / "other", 2)
    before = set(stepping.steps())
    server.down()
    stood = stepping.stands()
    assert other.goes_on()
    assert len(stepping.steps()) == stood
    server.up()
    assert stepping.goes_on() and other.goes_on()
    assert set(stepping.steps()) == before
    assert server.ended == {}


@pytest.mark.rule("R34")
@pytest.mark.parametrize("stopped", ["agent", "keeper"])
def test_one_of_keeper_and_agent_is_enough(
    server: FakeServer, keeper: AgentProcess, stepping: Stepping, stopped: str
) -> None:
    """The agent is stopped, or the keeper while the line is cut: what is exclusive is frozen."""
    pid = agent_of(keeper) if stopped == "agent" else keeper.process.pid
    os.kill(pid, signal.SIGSTOP)
    if stopped == "keeper":
        server.down()
    stepping.stands()
    os.kill(pid, signal.SIGCONT)
    if stopped == "keeper":
        server.up()
    assert stepping.goes_on()


def not_known(server: FakeServer) -> None:
    server.rejoin = True


def not_named(server: FakeServer) -> None:
    server.stop(1, "it is not on record", discard=True)


@pytest.mark.rule("R34")
@pytest.mark.parametrize("lost", [not_known, not_named])
@pytest.mark.parametrize("stopped", [True, False])
def test_who_lost_its_lease_takes_no_step(
    server: FakeServer,
    keeper: AgentProcess,
    stepping: Stepping,
    lost: Callable[[FakeServer], None],
    stopped: bool,
) -> None:
    """The server gave the task away meanwhile: the processes are ended without being thawed."""
    agent = agent_of(keeper)
    if stopped:
        os.kill(agent, signal.SIGSTOP)
    else:
        server.down()
    stood = stepping.stands()
    pids = set(stepping.steps())
    # An answer that the agent has not read yet may prolong its time, never beyond this.
    cut_off_at = now()
    wait_for(lambda: now() > cut_off_at + FREEZE_SECONDS, "its last renewal is too old")
    lost(server)
    if stopped:
        os.kill(agent, signal.SIGCONT)
    else:
        server.up()
    wait_for(lambda: not any(is_alive(int(pid)) for pid in pids), "all are gone")
    assert len(stepping.steps()) == stood


@pytest.mark.rule("R34")
def test_patience_ends_without_a_thaw(server: FakeServer, launch: Launch, tmp_path: Path) -> None:
    """When it is over a frozen attempt is killed, and has taken no step."""
    # So long after patience the keeper takes the agent, which looks once a second, for dead.
    server.joined.freeze_seconds = 4.0
    server.joined.patience_seconds = 6.0
    wait_joined(server, launch(module=KEEPER))
    found = Stepping(server, tmp_path / "steps", 1, exclusive=True)
    server.down()
    stood = found.stands()
    wait_for(lambda: not any(map(is_alive_word, found.steps())), "it is ended")
    assert len(found.steps()) == stood
    server.up()
    ended = server.end_of(1)
    assert (ended.kind, ended.signal) == (EndKind.AGENT_LOST, signal.SIGKILL)


@pytest.mark.rule("R34", "R21")
def test_a_stop_while_cut_off_has_no_grace(
    server: FakeServer, keeper: AgentProcess, stepping: Stepping
) -> None:
    """To act on TERM it would have to run: the agent that is told to go kills it."""
    server.down()
    stood = stepping.stands()
    keeper.process.terminate()
    wait_for(lambda: not any(map(is_alive_word, stepping.steps())), "it is ended")
    assert len(stepping.steps()) == stood
    # Without a server it would try for seconds to say goodbye.
    server.up()


def is_alive_word(pid: bytes) -> bool:
    return is_alive(int(pid))


@pytest.mark.rule("R34")
def test_an_agent_that_hangs_is_replaced(
    server: FakeServer, launch: Launch, tmp_path: Path
) -> None:
    """Stopped for longer than patience with something exclusive: the keeper kills it."""
    # Not so short that it seems to hang when it waits for its turn.
    server.joined.freeze_seconds = 1.0
    server.joined.patience_seconds = 2.5
    keeper = launch(module=KEEPER)
    wait_joined(server, keeper)
    found = Stepping(server, tmp_path / "steps", 1, exclusive=True)
    os.kill(agent_of(keeper), signal.SIGSTOP)
    stood = found.stands()
    wait_joined(server, keeper, 2)
    assert not any(map(is_alive_word, found.steps()))
    assert len(found.steps()) == stood


@pytest.mark.rule("R34")
def test_nothing_exclusive_starts_unseen(server: FakeServer, keeper: AgentProcess) -> None:
    """A keeper that does not listen: exclusive work is given back, other work is started."""
    os.kill(keeper.process.pid, signal.SIGSTOP)
    for attempt in range(1, 1000):
        server.start(attempt, "true", exclusive=True)
        server.wait(
            lambda a=attempt: a in server.refused or a in server.ended,  # type: ignore[misc]
            "an end or a refusal",
        )
        if attempt in server.refused:
            break
    server.start(2000, "true", slot=2)
    assert server.end_of(2000).exit_code == 0
    os.kill(keeper.process.pid, signal.SIGCONT)

    def started() -> bool:
        nonlocal attempt
        attempt += 1
        server.start(attempt, "true", exclusive=True, slot=3)
        server.wait(lambda: attempt in server.refused or attempt in server.ended, "an answer")
        return attempt in server.ended

    wait_for(started, "an exclusive attempt runs")


def test_states_are_told_whole() -> None:
    """What the agent tells is what the keeper takes; nonsense is refused."""
    state = State(5.0, 25.0, 900.0, (Held("zzzzz-ot0gb-1", 2, 17), Held("zzzzz-ot0gb-2", 1)))
    assert State.decode(state.encode()) == state
    for message in (b"", b"{}", b"[1, 2]", b"\xff"):
        with pytest.raises((ValueError, TypeError)):
            State.decode(message)


def test_time_goes_on_while_the_machine_sleeps() -> None:
    """The clock of freezing is the one since boot, and what is left counts from the sending."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= now() <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 9 < State(now(), 10.0, 20.0).left_seconds() <= 10
    late = State(now() - 31, 10.0, 20.0)
    assert late.left_seconds() < -20
    assert not late.is_given_up()
    assert late._replace(held=(Held("a", 1),)).is_given_up()
