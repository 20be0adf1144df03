"""What attempts write on a real agent: marked, capped, followed, and never in the way."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from jobtasks.protocol.frames import NOTE, STDOUT

from .conftest import AgentProcess, FakeServer, Launch, wait_for


@pytest.mark.rule("R13")
def test_report_carries_the_last_64_kib_of_stderr(server: FakeServer, agent: AgentProcess) -> None:
    """The end report has the end of stderr, at most 64 KiB."""
    program = "import sys; sys.stderr.write('a' * 300_000 + 'b' * 65_536)"
    server.start(1, sys.executable, "-c", program)
    assert server.end_of(1).stderr_tail == b"b" * 65_536


def test_live_tail_of_stderr_goes_with_renewals(server: FakeServer, agent: AgentProcess) -> None:
    """The last 4 KiB of stderr go along with a renewal, and only when they changed."""
    server.start(1, "sh", "-c", "head -c 5000 /dev/zero | tr '\\0' x >&2; sleep 1000")
    tail = server.wait(lambda: server.tails.get(1), "the live end of stderr")
    server.wait(lambda: server.tails[1] == b"x" * 4096, "all of it")
    count = len(server.syncs)
    server.wait(lambda: len(server.syncs) > count + 2, "more renewals")
    assert tail and server.syncs[-1].running[0].stderr_tail is None


@pytest.mark.rule("R38")
def test_log_cap_keeps_first_and_last_half(
    server: FakeServer, launch: Launch, tmp_path: Path
) -> None:
    """Past the cap first and last half are kept, a note between them counts what was dropped."""
    server.joined.log_bytes_max = 1_000_000
    launch()
    program = "import sys\nfor n in range(300_000): sys.stdout.write('%09d\\n' % n)"
    server.start(1, sys.executable, "-c", program)
    frames = server.frames_of(1)
    ended = server.end_of(1)
    notes = [data for stream, data in frames if stream == NOTE]
    text = b"".join(data for stream, data in frames if stream == STDOUT)
    assert text.startswith(b"000000000\n000000001\n") and text.endswith(b"000299999\n")
    assert ended.log_bytes == len(text) and 950_000 < len(text) <= 1_000_000
    assert ended.log_bytes + ended.log_dropped_bytes == 3_000_000
    assert notes == [
        f"[{ended.log_dropped_bytes} bytes were dropped here: the log is over its limit]\n".encode()
    ]
    wait_for(lambda: os.listdir(tmp_path / "node/logs") == [], "the files are gone")


@pytest.mark.rule("R38")
def test_endless_output_is_bounded(server: FakeServer, launch: Launch, tmp_path: Path) -> None:
    """`yes` in every slot and a line without an end: memory and disk stay within bounds."""
    server.joined.log_bytes_max = 4_000_000
    found = launch()
    endless = "import os\nwhile True: os.write(1, b'x' * 1_000_000)"
    for attempt in (1, 2, 3):
        server.start(attempt, "yes", slot=attempt)
    server.start(4, sys.executable, "-c", endless, slot=4)
    for attempt in (1, 2, 3, 4):
        server.pid_of(attempt)
    logs = tmp_path / "node/logs"
    wait_for(lambda: len(os.listdir(logs)) >= 4 * 17, "every log is over its limit")
    count = len(server.syncs)
    server.wait(lambda: len(server.syncs) > count + 2, "renewals go on")
    status = Path(f"/proc/{found.process.pid}/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0])
    assert peak < 100_000
    for attempt in (1, 2, 3, 4):
        server.stop(attempt)
    for attempt in (1, 2, 3, 4):
        ended = server.end_of(attempt)
        assert ended.log_dropped_bytes > 0 and ended.log_bytes <= 4_000_000


@pytest.mark.rule("R38")
def test_followed_log_is_pushed_while_the_attempt_runs(
    server: FakeServer, agent: AgentProcess
) -> None:
    """When somebody follows a log the server gets what there is before the attempt ends."""
    server.start(1, "sh", "-c", "echo first; read x < /dev/zero")
    server.pid_of(1)
    server.follow = [1]
    server.tell()
    server.wait(lambda: b"first\n" in server.logs.get(1, b""), "the followed log")
    assert not server.final
    server.follow = []
    server.stop(1)
    assert server.text_of(1) == "first\n"


def test_no_file_without_output(server: FakeServer, agent: AgentProcess, tmp_path: Path) -> None:
    """An attempt without output leaves no file and no call for its log."""
    server.start(1, "/bin/true")
    server.end_of(1)
    server.start(2, "echo", "x")
    server.text_of(2)
    assert 1 not in server.logs
    wait_for(lambda: os.listdir(tmp_path / "node/logs") == [], "the files are gone")


def test_disk_that_takes_no_log_ends_nothing(
    server: FakeServer, agent: AgentProcess, tmp_path: Path
) -> None:
    """Output that cannot be written is dropped and counted; the attempt goes on."""
    (tmp_path / "node/logs").rmdir()
    server.start(1, "sh", "-c", "echo lost; exit 4")
    ended = server.end_of(1)
    assert (ended.exit_code, ended.log_bytes, ended.log_dropped_bytes) == (4, 0, 5)
