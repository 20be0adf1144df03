"""Start and end of attempts on a real agent, with control groups and without."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from jobtasks.protocol.frames import STDERR, STDOUT
from jobtasks.protocol.messages import EndKind, JobBrief

from .conftest import (
    ATTEMPTS,
    JOB,
    TOKEN,
    AgentProcess,
    FakeServer,
    Launch,
    is_alive,
    marked,
    script,
    wait_for,
    wait_joined,
)

CGROUPS = ("all", "off")
"""A task in a group is started by another process, and ended by the kernel."""
SHOW = (sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))")


def job_of(attempt: int) -> str:
    """Return the uuid of a job that only this attempt is of."""
    return f"zzzzz-8i9sb-{attempt:015d}"


def environment_of(server: FakeServer, attempt: int) -> dict[str, str]:
    found: dict[str, str] = json.loads(server.text_of(attempt))
    return found


def test_exit_code_and_times_are_reported(server: FakeServer, agent: AgentProcess) -> None:
    """An attempt that ends by itself is reported with its exit code and without a signal."""
    server.start(1, "sh", "-c", "exit 3")
    ended = server.end_of(1)
    assert (ended.kind, ended.exit_code, ended.signal) == (EndKind.EXIT, 3, None)
    assert ended.run_seconds is not None and 0 < ended.run_seconds < 10
    assert server.tokens == {f"Bearer {TOKEN}"}


def test_signal_is_reported(server: FakeServer, agent: AgentProcess) -> None:
    """An attempt ended by a signal is reported with it and without an exit code."""
    server.start(1, "sh", "-c", "kill -SEGV $$")
    ended = server.end_of(1)
    assert (ended.kind, ended.exit_code, ended.signal) == (EndKind.EXIT, None, signal.SIGSEGV)


@pytest.mark.rule("R13")
def test_peak_memory_is_reported(server: FakeServer, agent: AgentProcess) -> None:
    """The peak memory of the attempt's processes is measured, in KiB."""
    server.start(1, sys.executable, "-c", "x = b'x' * 200_000_000")
    peak = server.end_of(1).peak_memory_kib
    assert peak is not None and 195_000 < peak < 300_000


@pytest.mark.rule("R14")
def test_killed_beyond_its_reservation_is_out_of_memory(
    server: FakeServer, agent: AgentProcess
) -> None:
    """A KILL that we did not send is out of memory only at a peak of the reservation."""
    program = "x = b'x' * 100_000_000; import os; os.kill(os.getpid(), 9)"
    server.start(1, sys.executable, "-c", program, memory_kib=100_000)
    server.start(2, sys.executable, "-c", program, memory_kib=4_000_000, slot=2)
    assert server.end_of(1).kind is EndKind.OUT_OF_MEMORY
    assert server.end_of(2).kind is EndKind.EXIT


@pytest.mark.rule("R38")
def test_environment_of_a_task(
    server: FakeServer, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task finds what R38 lists, and nothing of the operator's but what it inherits."""
    monkeypatch.setenv("TASKS_MAY_SEE", "this")
    monkeypatch.setenv("SECRET_OF_MINE", "that")
    monkeypatch.setenv("ARVADOS_API_HOST_INSECURE", "1")
    launch("--pass-env", "TASKS_MAY_SEE", "--slots", "2")
    server.briefs[JOB] = JobBrief(JOB, script_parameters='{"in-put": "a b", "list": [1, {"x": 2}]}')
    server.start(5, *SHOW, slot=2, number=3, sequence=4, parameters={"file": "f", "n": 1.5})
    found = environment_of(server, 5)
    node = tmp_path / "node"
    work = node / "work"
    expected = {
        "JOB_UUID": JOB, "TASK_UUID": "zzzzz-ot0gb-000000000000005", "TASK_ATTEMPT": "3",
        "TASK_SEQUENCE": "4", "TASK_QSEQUENCE": "5", "JOB_PARAMETER_IN_PUT": "a b",
        "JOB_PARAMETER_LIST": '[1,{"x":2}]', "TASK_PARAMETER_FILE": "f",
        "TASK_PARAMETER_N": "1.5", "JOBTASKS_URL": server.url,
        "ARVADOS_API_HOST": f"127.0.0.1:{server.port}", "ARVADOS_API_TOKEN": "token-5",
        "JOB_WORK": f"{node}/jobs/{JOB}", "TASK_WORK": str(work / "slot-2"),
        "TASK_SLOT_NUMBER": "2", "CRUNCH_NODE_SLOTS": "2", "TASK_NODES": os.uname().nodename,
        "TASK_SLOT_NODE": os.uname().nodename, "PYTHONPATH": f"{node}/sdk",
        "PATH": os.environ["PATH"], "TASKS_MAY_SEE": "this",
    }  # fmt: skip
    assert {name: found.get(name) for name in expected} == expected
    assert not {"SECRET_OF_MINE", "ARVADOS_API_HOST_INSECURE", "JOB_SCRIPT"} & found.keys()
    assert os.listdir(node / "sdk") == ["jobtasks_sdk"]


@pytest.mark.rule("R14")
@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        (None, 0, "no such file: {path}"),
        ("#!/bin/sh\n", 0o644, "not executable: {path}"),
        ("#!/no/such/python -u\n", 0o755, "bad interpreter '/no/such/python' in the first line"),
        ("#!/bin/sh\r\n", 0o755, r"bad interpreter '/bin/sh\r' in the first line"),
        ("echo no first line\n", 0o755, "exec format error: {path}"),
    ],
)
def test_script_that_cannot_start(
    standing: FakeServer,
    tmp_path: Path,
    text: str | None,
    mode: int,
    reason: str,
) -> None:
    """A script that cannot be executed is *unable to start*, with one line that says why."""
    if text is not None:
        script(tmp_path, text, mode)
    server, attempt = standing, next(ATTEMPTS)
    server.briefs[job_of(attempt)] = JobBrief(job_of(attempt), "task", str(tmp_path))
    server.start(attempt, job=job_of(attempt))
    ended = server.end_of(attempt)
    assert ended.kind is EndKind.UNABLE_TO_START
    assert reason.format(path=tmp_path / "task") in ended.reason
    assert "\n" not in ended.reason


@pytest.mark.rule("R14")
@pytest.mark.parametrize(
    ("script_name", "command", "reason"),
    [
        ("../task", (), "not below script_version"),
        ("/bin/true", (), "not below script_version"),
        ("a/../../task", (), "not below script_version"),
        (None, ("no-such-program-anywhere",), "no such file: no-such-program-anywhere"),
        (None, ("/etc",), "not executable: /etc is a directory"),
        (None, ("/bin/true", "nul\0byte"), "not a command line"),
        (None, (), "neither task nor job"),
        (None, ("/bin/true", "x" * 3_000_000), "too large"),
    ],
)
def test_command_that_cannot_start(
    standing: FakeServer,
    tmp_path: Path,
    script_name: str | None,
    command: tuple[str, ...],
    reason: str,
) -> None:
    """So is a script outside of its directory, a missing command, a line too long."""
    server, attempt, next_one = standing, next(ATTEMPTS), next(ATTEMPTS)
    server.briefs[job_of(attempt)] = JobBrief(job_of(attempt), script_name, str(tmp_path))
    server.start(attempt, *command, job=job_of(attempt))
    ended = server.end_of(attempt)
    assert ended.kind is EndKind.UNABLE_TO_START
    assert reason in ended.reason
    server.start(next_one, "/bin/true")
    assert server.end_of(next_one).exit_code == 0


@pytest.mark.rule("R14")
def test_time_limit(server: FakeServer, agent: AgentProcess) -> None:
    """Past max_run_seconds the tree gets TERM, then KILL after the grace; the kind says so."""
    server.start(1, "sleep", "1000", max_run_seconds=0.2)
    # Long enough that the trap is set on any machine.
    server.start(
        2, "sh", "-c", "trap '' TERM; sleep 1000 & wait; sleep 1000", slot=2, max_run_seconds=2.5
    )
    first, second = server.end_of(1), server.end_of(2)
    assert (first.kind, first.signal) == (EndKind.TIME_LIMIT, signal.SIGTERM)
    assert (second.kind, second.signal) == (EndKind.TIME_LIMIT, signal.SIGKILL)
    assert first.reason == "it ran longer than 0.2 s"


@pytest.mark.rule("R21")
def test_stop_is_term_then_kill(server: FakeServer, launch: Launch) -> None:
    """A stop is TERM to the tree, KILL after the grace for what ignores it."""
    # What the first does with TERM takes two processes' turns on a machine that is busy.
    server.joined.grace_seconds = 2.0
    wait_joined(server, launch())
    server.start(
        1,
        "sh",
        "-c",
        "trap 'echo got it; exit 5' TERM; echo set; sleep 1000 & while :; do wait; done",
    )
    server.start(2, "sh", "-c", "trap '' TERM; echo set; while :; do sleep 1000; done", slot=2)
    server.wait_said(1, "set")
    server.wait_said(2, "set")
    server.stop(1, "because")
    server.stop(2)
    first, second = server.end_of(1), server.end_of(2)
    assert (first.kind, first.exit_code, first.reason) == (EndKind.STOPPED, 5, "because")
    assert (second.kind, second.signal) == (EndKind.STOPPED, signal.SIGKILL)
    assert server.text_of(1) == "set\ngot it\n"
    assert second.run_seconds is not None and second.run_seconds >= server.joined.grace_seconds


@pytest.mark.rule("R21")
def test_discarded_attempt_is_not_reported(server: FakeServer, agent: AgentProcess) -> None:
    """A stop with discard ends the attempt without a report; its slot is offered again."""
    server.start(1, "sleep", "1000")
    pid = server.pid_of(1)
    server.stop(1, discard=True)
    wait_for(lambda: not is_alive(pid), "the process is gone")
    server.wait(lambda: server.syncs[-1].free_slots == [1, 2, 3, 4], "the slot is free")
    assert not server.ended


@pytest.mark.rule("R38")
def test_streams_are_marked(server: FakeServer, agent: AgentProcess, tmp_path: Path) -> None:
    """stdout and stderr are in one log in order of arrival, marked by stream."""
    # Each write waits until the agent has taken the one before: that is what arrival means.
    program = (
        "import os, pathlib, sys, time\n"
        "log = pathlib.Path(sys.argv[1])\n"
        "for n in range(6):\n"
        " word = b'%s%d\\n' % ((b'out', b'err')[n % 2], n // 2)\n"
        " os.write(1 + n % 2, word)\n"
        " while not (log.exists() and word in log.read_bytes()): time.sleep(0.001)\n"
    )
    server.start(1, sys.executable, "-c", program, str(tmp_path / "node/logs/1.log"))
    assert server.frames_of(1) == [
        (STDOUT, b"out0\n"), (STDERR, b"err0\n"), (STDOUT, b"out1\n"), (STDERR, b"err1\n"),
        (STDOUT, b"out2\n"), (STDERR, b"err2\n"),
    ]  # fmt: skip
    ended = server.end_of(1)
    assert ended.stderr_tail == b"err0\nerr1\nerr2\n"
    assert ended.log_bytes == 30


def test_output_mode_does_not_pass_to_the_next_attempt(
    server: FakeServer, agent: AgentProcess
) -> None:
    """A task that makes its stdout non-blocking does not change that of the next."""
    server.start(1, sys.executable, "-c", "import os; os.set_blocking(1, False)")
    server.end_of(1)
    server.start(2, sys.executable, "-c", "import os; print(os.get_blocking(1))")
    assert server.text_of(2) == "True\n"


def test_task_starts_with_default_signals(server: FakeServer, agent: AgentProcess) -> None:
    """A task inherits no ignored or blocked signal, and no descriptor but its three."""
    program = "grep -E 'Sig(Ign|Blk)' /proc/self/status; ls /proc/self/fd | wc -l"
    server.start(1, "sh", "-c", program)
    lines = server.text_of(1).split()
    ignored = int(lines[3], 16)
    # 32 and 33 are the C library's own; it resets them itself. ls has the directory open.
    assert (lines[1], ignored & ~(3 << 31), lines[4]) == ("0" * 16, 0, "4")


def test_many_short_attempts(server: FakeServer, agent: AgentProcess, tmp_path: Path) -> None:
    """Hundreds of attempts through four slots: each ends once, none is left."""

    def run(attempt: int) -> None:
        slot = attempt % 4 + 1
        server.wait(lambda: server.syncs and slot in server.syncs[-1].free_slots, "a free slot")
        server.start(attempt, "sh", "-c", f"echo {attempt}", slot=slot)
        server.wait(lambda: attempt in server.pids.keys() | server.ended.keys(), "the start")

    for attempt in range(1, 301):
        run(attempt)
    for attempt in range(1, 301):
        assert server.end_of(attempt).exit_code == 0
    assert server.text_of(300) == "300\n"
    assert marked(tmp_path / "node") == []
