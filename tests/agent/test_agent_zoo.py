"""The zoo: twelve nasty programs at once, five endings, and nobody is left (R36)."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.rounds import note, rounds

from .conftest import (
    AgentProcess,
    FakeServer,
    Launch,
    is_alive,
    launching,
    marked,
    serving,
    wait_joined,
)
from .zoo import ZOO, command, pids

CGROUPS = ("all", "off")
"""With control groups where the kernel has them, and without."""
SURVIVE_SECONDS_MAX = 10.0


class Zoo:
    """All programs of the zoo on one node, each an attempt of its own."""

    def __init__(self, server: FakeServer, keeper: AgentProcess, folder: Path) -> None:
        self.server = server
        self.keeper = keeper
        self.gate = folder / "gate"
        wait = f"while [ ! -e {self.gate} ]; do sleep 0.05; done"
        witnesses = {name: folder / f"witness-{slot}" for slot, name in enumerate(ZOO, 1)}
        for attempt, (name, witness) in enumerate(witnesses.items(), 1):
            server.start(attempt, *command(name, witness, wait), slot=attempt)
        found = [pids(witness, name) for name, witness in witnesses.items()]
        self.leaders = [server.pid_of(attempt) for attempt in range(1, len(ZOO) + 1)]
        self.pids = [*itertools.chain(*found), *self.leaders]
        stat = Path(f"/proc/{self.leaders[0]}/stat").read_text()
        self.agent = int(stat.rpartition(")")[2].split()[1])

    def survivors(self) -> list[int]:
        """Return who is still alive: of those that told their pid, and whoever has a mark."""
        told = [pid for pid in self.pids if is_alive(pid)]
        return sorted({*told, *marked(self.keeper.node)})


def finish(zoo: Zoo) -> None:
    zoo.gate.touch()


def cancel(zoo: Zoo) -> None:
    for attempt in range(1, len(ZOO) + 1):
        zoo.server.stop(attempt)


def term_agent(zoo: Zoo) -> None:
    os.kill(zoo.agent, signal.SIGTERM)


def kill_agent(zoo: Zoo) -> None:
    os.kill(zoo.agent, signal.SIGKILL)


def kill_keeper(zoo: Zoo) -> None:
    zoo.keeper.process.kill()
    zoo.keeper.process.wait()


ENDINGS: list[Callable[[Zoo], None]] = [finish, cancel, term_agent, kill_agent, kill_keeper]


@pytest.mark.timeout(300)
@pytest.mark.rule("R36")
def test_nobody_survives(tmp_path: Path) -> None:
    """However the attempts end, ten seconds later none of their processes lives."""
    assert (len(ZOO), len(ENDINGS)) == (12, 5)
    watched = 0
    for number in rounds("orphan zoo", 2, 20):
        mode = CGROUPS[number % len(CGROUPS)]
        for ending in ENDINGS:
            folder = tmp_path / f"{number}-{ending.__name__}"
            folder.mkdir()
            with serving() as server, launching(server, folder, mode) as launch:
                watched += end_all(server, launch, folder, ending)
    note("orphan zoo", processes=watched, survivors=0)


def end_all(server: FakeServer, launch: Launch, folder: Path, ending: Callable[[Zoo], None]) -> int:
    """Start every program, end it in one of the ways; return how many processes are gone."""
    keeper = launch("--slots", str(len(ZOO)), module="jobtasks.agent.keeper")
    wait_joined(server, keeper)
    zoo = Zoo(server, keeper, folder)
    watched = len(zoo.survivors())
    assert watched >= 2 * len(ZOO)
    ending(zoo)
    limit = time.monotonic() + SURVIVE_SECONDS_MAX
    while left := zoo.survivors():
        assert time.monotonic() < limit, (
            ending.__name__,
            subprocess.run(
                ["ps", "-o", "pid,ppid,sid,stat,args", *map(str, left)],
                capture_output=True,
                text=True,
            ).stdout,
        )
        time.sleep(0.05)
    if ending in (finish, cancel):
        for attempt in range(1, len(ZOO) + 1):
            server.end_of(attempt)
    return watched
