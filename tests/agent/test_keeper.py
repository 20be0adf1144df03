"""The keeper: starts agents, ends what they leave, goes when told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import AgentProcess, FakeServer, Launch, is_alive, wait_for, wait_joined

KEEPER = "jobtasks.agent.keeper"


@pytest.fixture
def keeper(server: FakeServer, launch: Launch) -> AgentProcess:
    found = launch(module=KEEPER)
    wait_joined(server, found)
    return found


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_keeper_can_be_found(keeper: AgentProcess, tmp_path: Path) -> None:
    """keeper.pid has pid and start time, so that a server knows a surviving keeper."""
    pid, started = (tmp_path / "node/keeper.pid").read_text().split()
    assert int(pid) == keeper.process.pid
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19] == started


def test_keeper_passes_its_options_on(keeper: AgentProcess) -> None:
    """The agent gets the keeper's own options."""
    (agent,) = children(keeper.process.pid)
    words = Path(f"/proc/{agent}/cmdline").read_bytes().decode().split("\0")
    assert words[words.index("--slots") + 1] == "4"
    assert words[words.index("--keeper") + 1] == str(keeper.process.pid)


def test_agent_is_started_again(server: FakeServer, keeper: AgentProcess) -> None:
    """An agent that dies is followed by another, on the same node."""
    for count in (2, 3):
        (agent,) = children(keeper.process.pid)
        os.kill(agent, signal.SIGKILL)
        wait_joined(server, keeper, count)
    assert len({join.node for join in server.joins}) == 1
    assert len({join.incarnation for join in server.joins}) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_keeper_ends_in_good_order(
    server: FakeServer, keeper: AgentProcess, number: signal.Signals
) -> None:
    """TERM, INT and HUP: the agent says goodbye, both end with 0."""
    (agent,) = children(keeper.process.pid)
    keeper.process.send_signal(number)
    assert keeper.wait() == 0
    assert server.left and not is_alive(agent)


def test_keeper_that_cannot_start_an_agent_goes_on(
    server: FakeServer, launch: Launch, tmp_path: Path
) -> None:
    """An agent that ends at once is tried again, and again; TERM still ends the keeper."""
    found = launch("--server", "nonsense", module=KEEPER)
    wait_for(lambda: found.said().count("not an address") >= 3, "three tries")
    assert found.end() in (0, 1)
    assert server.joins == []


def test_second_keeper_is_kept_away(keeper: AgentProcess, launch: Launch) -> None:
    """Two keepers on one node: the second ends with 125 and says why."""
    second = launch(module=KEEPER)
    assert second.wait() == 125
    assert "another keeper has the node" in second.said()


def test_agents_files_are_private(keeper: AgentProcess, tmp_path: Path) -> None:
    """Nobody else can read the node's directory."""
    assert (tmp_path / "node").stat().st_mode & 0o777 == 0o700


def test_agent_inherits_no_descriptors(keeper: AgentProcess) -> None:
    """The agent has none of the keeper's files: its locks are its own."""
    (agent,) = children(keeper.process.pid)
    names = [os.readlink(path) for path in Path(f"/proc/{agent}/fd").iterdir() if path.is_symlink()]
    assert not [name for name in names if name.endswith("keeper.pid")]


def test_keeper_imports_nothing_of_the_agent() -> None:
    """The keeper stays small: none of ours but its package, freezer and groups, no msgspec."""
    program = (
        "import sys, jobtasks.agent.keeper as keeper\n"
        "print(sorted(n for n in sys.modules if n.startswith(('jobtasks.', 'msgspec'))))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == str(
        [
            "jobtasks.agent",
            "jobtasks.agent.freezer",
            "jobtasks.agent.group_files",
            "jobtasks.agent.keeper",
        ]
    )
