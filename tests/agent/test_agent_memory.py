"""What an attempt may use (R28, R14): more than its reservation ends it, and the kind says so."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from jobtasks.agent import memory
from jobtasks.protocol.messages import EndKind

from .conftest import AgentProcess, FakeServer, is_alive

RESERVED_KIB = 60_000
USE = f"{sys.executable} -S -c"
HOLD = "import time; x = b'x' * {bytes}; print('holds', flush=True); time.sleep(1000)"


def hold(kib: int) -> str:
    """Return a program that uses so much memory, and stays."""
    return HOLD.format(bytes=kib * 1024)


@pytest.mark.rule("R14", "R28")
def test_more_than_reserved_is_out_of_memory(server: FakeServer, agent: AgentProcess) -> None:
    """A process past its reservation is killed; the peak and both figures are reported."""
    # It may be seen, and ended, before it has all that it wants.
    program = f"print('wants', flush=True); {hold(100_000)}"
    server.start(1, sys.executable, "-c", program, memory_kib=RESERVED_KIB)
    ended = server.end_of(1)
    assert (ended.kind, ended.signal) == (EndKind.OUT_OF_MEMORY, signal.SIGKILL)
    assert ended.peak_memory_kib is not None and RESERVED_KIB < ended.peak_memory_kib < 150_000
    assert f"{RESERVED_KIB} KiB are reserved" in ended.reason
    assert server.text_of(1).startswith("wants\n")


@pytest.mark.rule("R28")
def test_the_whole_tree_counts(server: FakeServer, agent: AgentProcess) -> None:
    """Three processes that are too large together are ended together, orphans included."""
    program = f'{USE} "{hold(30_000)}" & (setsid {USE} "{hold(30_000)}" &); {USE} "{hold(30_000)}"'
    server.start(1, "sh", "-c", program, memory_kib=RESERVED_KIB)
    server.start(2, "sh", "-c", program, slot=2)
    assert server.end_of(1).kind is EndKind.OUT_OF_MEMORY
    assert 2 not in server.ended
    assert is_alive(server.pid_of(2))


@pytest.mark.rule("R28")
def test_what_processes_share_counts_once(server: FakeServer, agent: AgentProcess) -> None:
    """Ten children that read what their parent has made use no more than the parent."""
    program = (
        "import os, time\n"
        f"x = b'x' * {40_000 * 1024}\n"
        "for _ in range(10):\n"
        "    if not os.fork():\n"
        "        time.sleep(2.5); os._exit(0)\n"
        "for _ in range(10): os.wait()\n"
    )
    server.start(1, sys.executable, "-S", "-c", program, memory_kib=2 * RESERVED_KIB)
    ended = server.end_of(1)
    assert (ended.kind, ended.exit_code) == (EndKind.EXIT, 0)


@pytest.mark.rule("R14")
def test_a_shell_whose_command_was_killed_is_out_of_memory(
    server: FakeServer, agent: AgentProcess
) -> None:
    """Its exit code is 137; with a peak of the reservation that means the same as the signal."""
    program = "x = b'x' * 100_000_000; import os; os.kill(os.getpid(), 9)"
    command = ("sh", "-c", f'{sys.executable} -c "{program}"; exit $?')
    server.start(1, *command, memory_kib=100_000)
    server.start(2, *command, memory_kib=4_000_000, slot=2)
    first, second = server.end_of(1), server.end_of(2)
    assert (first.kind, first.exit_code) == (EndKind.OUT_OF_MEMORY, 137)
    assert (second.kind, second.exit_code) == (EndKind.EXIT, 137)


def test_memory_of_a_process_that_is_gone_is_nothing() -> None:
    """Neither resident nor shared; an own figure is counted both ways."""
    assert memory.used_kib([2**22 + 1], 0) == 0
    own = memory.used_kib([os.getpid()], 2**40)
    exact = memory.used_kib([os.getpid()], 0)
    assert 0 < exact <= own * 1.2
