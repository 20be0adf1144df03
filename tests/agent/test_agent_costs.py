"""What a task costs the agent: calls of the system and of the server, counted, not timed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from .conftest import TOKEN, FakeServer

SLOTS = 4
WAITING = 32
"""What the agent is given at a time, all that it takes beyond its slots among it."""
FEW, MANY = 64, 512


def feed(server: FakeServer, tasks: int) -> int:
    """Have so many tasks run, a stock of them at hand; return how many syncs that took."""
    before = len(server.syncs)
    given = 0
    while not has_ended(server, tasks):
        while given < tasks and given - len(server.ended) < WAITING:
            given += 1
            server.start(given, "true", slot=given % SLOTS + 1)
        wanted = min(given - WAITING // 2 + 1, tasks)
        server.wait(partial(goes_on, server, wanted), "ends")
        for attempt in list(server.refused):
            # Given back on a machine that is busy.
            server.refused.discard(attempt)
            server.start(attempt, "true", slot=attempt % SLOTS + 1)
    return len(server.syncs) - before


def has_ended(server: FakeServer, tasks: int) -> bool:
    """Return whether so many tasks have ended."""
    return len(server.ended) >= tasks


def goes_on(server: FakeServer, tasks: int) -> bool:
    """Return whether so many tasks have ended, or some were given back."""
    return bool(server.refused) or has_ended(server, tasks)


def counted(folder: Path, tasks: int) -> tuple[int, int]:
    """Return how many calls of the system an agent made that ran so many tasks, and its syncs."""
    server = FakeServer()
    folder.mkdir()
    (folder / "token").write_text(TOKEN + "\n")
    counts = folder / "counts"
    command = [
        *("strace", "-c", "-o", str(counts)),
        *(sys.executable, "-m", "jobtasks.agent.main", "--server", server.url),
        *("--token-file", str(folder / "token"), "--node-dir", str(folder / "node")),
        *("--slots", str(SLOTS), "--cgroups", "off"),
    ]
    with subprocess.Popen(command) as process:
        server.wait(lambda: server.syncs, "a first sync")
        syncs = feed(server, tasks)
        server.wait(lambda: server.syncs[-1].ended == [], "all ends are acknowledged")
        agent = subprocess.run(
            ["pgrep", "-P", str(process.pid)], check=True, capture_output=True, text=True
        )
        subprocess.run(["kill", "-TERM", agent.stdout.split()[0]], check=True)
    server.down()
    total = re.search(r"([0-9]+) +[0-9]* *total$", counts.read_text(), re.MULTILINE)
    assert total is not None, counts.read_text()
    return int(total[1]), syncs


@pytest.mark.skipif(not shutil.which("strace"), reason="strace counts them: apt-get install strace")
@pytest.mark.rule("R38")
def test_calls_of_the_system_for_a_task(tmp_path: Path) -> None:
    """Of the agent alone; the start of the process is one, its end two, its pipes three."""
    (few, _), (many, syncs) = (counted(tmp_path / str(tasks), tasks) for tasks in (FEW, MANY))
    for_a_task = (many - few) / (MANY - FEW)
    print(f"{for_a_task:.1f} calls of the system, {syncs / MANY:.2f} of the server")
    assert for_a_task <= 34
    assert syncs / MANY <= 0.5
