"""Start and end of attempts on a real agent."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from jobtasks.protocol.frames import NOTE, STDERR, STDOUT
from jobtasks.protocol.messages import EndKind, JobBrief

from .conftest import JOB, TOKEN, AgentProcess, FakeServer, Launch, is_alive, marked, wait_for

CGROUPS = ("all", "off")
SHOW = (sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))")


def script(directory: Path, text: str, mode: int = 0o755) -> str:
    path = directory / "task"
    path.write_text(text)
    path.chmod(mode)
    return path.name


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


@pytest.mark.rule("R38")
def test_sdk_alone_is_importable(server: FakeServer, agent: AgentProcess) -> None:
    """PYTHONPATH gives a script the SDK and nothing else of ours."""
    program = (
        "import jobtasks_sdk\ntry:\n import jobtasks.agent\nexcept ImportError: print('alone')"
    )
    # -S: without the packages that are installed here, ours among them.
    server.start(1, sys.executable, "-S", "-c", program)
    assert server.text_of(1) == "alone\n"


@pytest.mark.rule("R38")
def test_work_directory_is_current_and_empty(
    server: FakeServer, agent: AgentProcess, tmp_path: Path
) -> None:
    """TASK_WORK is the current directory, mode 0700, and empty whatever the attempt before left."""
    nasty = (
        "mkdir -p a/b/c; touch a/b/f .hidden 'new\nline'; ln -s /etc link; mkfifo p;"
        "chmod 000 a/b; chmod 500 a; i=0; mkdir deep; cd deep;"
        "while [ $i -lt 1500 ]; do mkdir d; cd ./d 2>/dev/null || break; i=$((i+1)); done; exit 0"
    )
    look = 'test "$PWD" = "$TASK_WORK" || exit 9; stat -c %a .; ls -A; exit 0'
    server.start(1, "sh", "-c", nasty)
    # It starts 1,500 processes.
    server.end_of(1, 100)
    server.start(2, "sh", "-c", look)
    assert server.text_of(2) == "700\n"
    assert server.end_of(2).exit_code == 0
    wait_for(
        lambda: (
            os.listdir(tmp_path / "node/work") == [f"slot-{n}" for n in range(1, 5)]
            or len(os.listdir(tmp_path / "node/work")) == 4
        ),
        "what was set aside is removed",
    )


@pytest.mark.rule("R38")
@pytest.mark.parametrize(
    "spoil", ['rmdir "$TASK_WORK"', 'mv "$TASK_WORK" "$TASK_WORK.x"', 'chmod 000 "$TASK_WORK"']
)
def test_spoilt_work_directory_is_made_anew(
    server: FakeServer, agent: AgentProcess, spoil: str
) -> None:
    """Also when an attempt removes, moves or closes its TASK_WORK, the next one finds its own."""
    server.start(1, "sh", "-c", spoil)
    server.end_of(1)
    server.start(2, "sh", "-c", 'cd "$TASK_WORK" && stat -c %a . && touch x && ls')
    assert server.text_of(2) == "700\nx\n"


@pytest.mark.rule("R38")
def test_job_work_is_shared_and_removed_with_the_job(
    server: FakeServer, agent: AgentProcess, tmp_path: Path
) -> None:
    """JOB_WORK is shared by a job's attempts on the node and goes when the job is over."""
    server.start(1, "sh", "-c", 'echo kept > "$JOB_WORK/file"')
    server.end_of(1)
    server.start(2, "sh", "-c", 'cat "$JOB_WORK/file"', slot=2)
    assert server.text_of(2) == "kept\n"
    server.jobs_over.append(JOB)
    server.tell()
    wait_for(lambda: os.listdir(tmp_path / "node/jobs") == [], "JOB_WORK is gone")
    server.wait(lambda: server.syncs[-1].jobs_known == [], "the job is forgotten")


@pytest.mark.rule("R39")
def test_command_wins_over_script_and_script_over_the_jobs_command(
    server: FakeServer, agent: AgentProcess, tmp_path: Path
) -> None:
    """The task's own command, else the job's script, else the job's command."""
    name = script(tmp_path, "#!/bin/sh\necho script $JOB_SCRIPT\n")
    with_script = "zzzzz-8i9sb-00000000000000s"
    with_command = "zzzzz-8i9sb-00000000000000c"
    server.briefs[with_script] = JobBrief(with_script, name, str(tmp_path), ["echo", "never"])
    server.briefs[with_command] = JobBrief(with_command, command=["echo", "the job's"])
    server.start(1, "echo", "the task's", job=with_script)
    server.start(2, job=with_script, slot=2)
    server.start(3, job=with_command, slot=3)
    texts = [server.text_of(attempt) for attempt in (1, 2, 3)]
    assert texts == ["the task's\n", "script task\n", "the job's\n"]


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
    server: FakeServer,
    agent: AgentProcess,
    tmp_path: Path,
    text: str | None,
    mode: int,
    reason: str,
) -> None:
    """A script that cannot be executed is *unable to start*, with one line that says why."""
    if text is not None:
        script(tmp_path, text, mode)
    server.briefs[JOB] = JobBrief(JOB, "task", str(tmp_path))
    server.start(1)
    ended = server.end_of(1)
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
    server: FakeServer,
    agent: AgentProcess,
    tmp_path: Path,
    script_name: str | None,
    command: tuple[str, ...],
    reason: str,
) -> None:
    """So is a script outside of its directory, a missing command, a line too long."""
    server.briefs[JOB] = JobBrief(JOB, script_name, str(tmp_path))
    server.start(1, *command)
    ended = server.end_of(1)
    assert ended.kind is EndKind.UNABLE_TO_START
    assert reason in ended.reason
    server.start(2, "/bin/true")
    assert server.end_of(2).exit_code == 0


def test_slot_is_free_again_with_the_end(server: FakeServer, agent: AgentProcess) -> None:
    """The sync that reports an end offers the slot again; while it ran it was not offered."""
    server.start(1, "sh", "-c", "read x < /dev/zero", slot=3)
    server.pid_of(1)
    assert server.syncs[-1].free_slots == [1, 2, 4]
    server.stop(1)
    server.end_of(1)
    server.wait(lambda: server.syncs[-1].free_slots == [1, 2, 3, 4], "the slot is free")


@pytest.mark.rule("R33")
def test_renewals_go_on_without_news(server: FakeServer, agent: AgentProcess) -> None:
    """The agent is heard at least every renew_seconds, naming what runs."""
    server.start(1, "sleep", "1000")
    server.pid_of(1)
    count = len(server.syncs)
    server.wait(lambda: len(server.syncs) >= count + 4, "four more renewals")
    assert all(sync.running[0].attempt == 1 for sync in server.syncs[count:])
    assert server.syncs[-1].wait_seconds == server.joined.renew_seconds


@pytest.mark.rule("R14")
def test_time_limit(server: FakeServer, agent: AgentProcess) -> None:
    """Past max_run_seconds the tree gets TERM, then KILL after the grace; the kind says so."""
    server.start(1, "sleep", "1000", max_run_seconds=0.2)
    server.start(
        2, "sh", "-c", "trap '' TERM; sleep 1000 & wait; sleep 1000", slot=2, max_run_seconds=1.0
    )
    first, second = server.end_of(1), server.end_of(2)
    assert (first.kind, first.signal) == (EndKind.TIME_LIMIT, signal.SIGTERM)
    assert (second.kind, second.signal) == (EndKind.TIME_LIMIT, signal.SIGKILL)
    assert first.reason == "it ran longer than 0.2 s"


@pytest.mark.rule("R21")
def test_stop_is_term_then_kill(server: FakeServer, agent: AgentProcess) -> None:
    """A stop is TERM to the tree, KILL after the grace for what ignores it."""
    server.start(1, "sh", "-c", "trap 'echo got it; exit 5' TERM; echo set; sleep 1000 & wait")
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
