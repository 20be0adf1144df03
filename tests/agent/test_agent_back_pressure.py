"""Logs that the server does not take wait on the node's disk, not in the agent's memory (R40)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .conftest import FakeServer, Launch, wait_for, wait_joined

SLOTS = 8
WARM = 16
TASKS = 176
STDERR_BYTES = 120_000
"""Of each task; as much as an agent keeps of one that runs."""
GROWTH_KIB_MAX = 8 * 1024
"""Less than half of what all tasks say."""


def memory_kib(pid: int) -> int:
    """Return what a process has of memory."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0])


def run_all(server: FakeServer, attempts: range) -> None:
    """Run so many tasks that have much to say, a few at a time."""
    for first in range(attempts.start, attempts.stop, SLOTS):
        batch = range(first, min(first + SLOTS, attempts.stop))
        for slot, attempt in enumerate(batch, 1):
            server.start(attempt, "sh", "-c", f"head -c {STDERR_BYTES} /dev/zero >&2", slot=slot)
        for attempt in batch:
            server.end_of(attempt)


@pytest.mark.rule("R40")
@pytest.mark.parametrize("status", [429, 503])
def test_logs_that_are_put_off_take_no_memory(
    server: FakeServer, launch: Launch, tmp_path: Path, status: int
) -> None:
    """An overloaded server, or one whose disk is full: work goes on, and all arrives at last."""
    agent = launch("--slots", str(SLOTS))
    wait_joined(server, agent)
    server.log_status = status
    run_all(server, range(1, WARM + 1))
    before = memory_kib(agent.process.pid)
    run_all(server, range(WARM + 1, TASKS + 1))
    grown = memory_kib(agent.process.pid) - before
    assert len(os.listdir(tmp_path / "node/logs")) == TASKS
    assert grown < GROWTH_KIB_MAX
    server.log_status = 200
    server.wait(lambda: len(server.final) == TASKS, "all logs", seconds=60)
    assert {len(server.text_of(attempt)) for attempt in server.logs} == {STDERR_BYTES}
    wait_for(lambda: os.listdir(tmp_path / "node/logs") == [], "the files are gone")
