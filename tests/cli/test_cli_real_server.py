"""The command line against real servers: its own child, and one that serves by itself."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
COMMAND = [sys.executable, "-m", "jobtasks.cli.main"]
SECONDS_MAX = 40.0
NEVER = threading.Event()


def eventually(what: str, condition: Callable[[], Any]) -> Any:
    """The condition's first true value; says what was seen last when there is none in time."""
    deadline = time.monotonic() + SECONDS_MAX
    while not (seen := condition()):
        assert time.monotonic() < deadline, f"{what}: last seen {seen!r}"
        NEVER.wait(0.02)
    return seen


def start(*words: object) -> subprocess.Popen[bytes]:
    """A command as a process of its own, as Ctrl-C finds it."""
    return subprocess.Popen(
        [*COMMAND, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a process that ends by itself."""
    out, err = process.communicate(timeout=SECONDS_MAX)
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory that does not exist yet."""
    return tmp_path / "state"


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The gated script waits until this file exists."""
    return tmp_path / "gate"


@pytest.fixture
def gated(tmp_path: Path, gate: Path) -> Path:
    """Two tasks that say that they have started, and wait for the gate."""
    script = tmp_path / "gated.py"
    script.write_text(
        f"#!{sys.executable}\n"
        "import os, pathlib, time\n"
        "from jobtasks_sdk import current_task\n"
        "task = current_task()\n"
        "if task.sequence == 0:\n"
        "    task.create_many([{'parameters': {'n': n}} for n in (1, 2)])\n"
        "    task.complete()\n"
        "else:\n"
        f"    here = pathlib.Path({str(tmp_path)!r})\n"
        "    number = task.parameters['n']\n"
        "    (here / f'started-{number}').touch()\n"
        "    while not (here / 'gate').exists():\n"
        "        time.sleep(0.02)\n"
        "    task.complete(f'number {number}')\n"
    )
    script.chmod(0o755)
    return script


@pytest.fixture
def serving(state: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server on the state directory."""
    process = start("serve", "--state", state, "--listen", "127.0.0.1:0", "--slots", "2")
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"ready http://127.0.0.1:")
    yield process
    process.send_signal(signal.SIGTERM)
    finish(process)


def test_serve_as_scripts_rely_on_it(state: Path, serving: Any, jobtasks: Run) -> None:
    """One line `ready URL`, a private token; a second server is refused in one line; TERM ends."""
    url = (state / "url").read_text().strip()
    assert stat.S_IMODE((state / "admin.token").stat().st_mode) == 0o600
    for words in (["--state", state], ["--state", f"{state}-2", "--listen", url[7:]]):
        second = start("serve", *words)
        code, out, err = finish(second)
        assert (code, out, len(err.splitlines())) == (125, "", 1), err
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(SECONDS_MAX) == 0
    assert serving.stdout.read() == b""


def test_a_job_from_submit_to_output(state: Path, serving: Any, jobtasks: Run, gated: Path) -> None:
    """submit, wait with a time limit, show, list, tasks, attempts, log, output."""
    at = ("--state", state)
    submitted = jobtasks("submit", gated, *at, "--description", "two numbers")
    job = submitted.out.strip()
    assert re.fullmatch(r"zzzzz-8i9sb-[0-9a-z]{15}", job), submitted.err
    assert jobtasks("wait", job, "--timeout", "0.2", *at).code == 124
    (gated.parent / "gate").touch()
    assert jobtasks("wait", job, *at) == (0, "Complete\n", "")
    shown = json.loads(jobtasks("job", "show", job, *at, "-o", "json").out)
    assert (shown["state"], shown["description"]) == ("Complete", "two numbers")
    assert job in jobtasks("job", "list", *at, "--only", "complete").out
    assert job not in jobtasks("job", "list", *at, "--only", "failed").out
    tasks = json.loads(jobtasks("job", "tasks", job, *at, "-o", "json").out)
    assert [task["sequence"] for task in tasks] == [0, 1, 1]
    task = tasks[1]["uuid"]
    assert json.loads(jobtasks("task", "show", task, *at, "-o", "json").out)["uuid"] == task
    assert "exit code 0" in jobtasks("task", "attempts", task, *at).out
    assert jobtasks("task", "log", task, *at).code == 0
    assert jobtasks("job", "output", job, *at).out == "number 1\nnumber 2\n"


def test_cancel_then_retry(state: Path, serving: Any, jobtasks: Run, gated: Path) -> None:
    """Cancelled is exit code 4; retry runs what is not complete."""
    at = ("--state", state)
    job = jobtasks("submit", gated, *at).out.strip()
    eventually("started", (gated.parent / "started-1").exists)
    assert jobtasks("job", "cancel", job, *at).out == f"{job} Cancelled\n"
    assert jobtasks("wait", job, *at).code == 4
    (gated.parent / "gate").touch()
    retried = eventually("retried", lambda: _ended_well(jobtasks("job", "retry", job, *at)))
    assert retried.out == f"{job} Queued\n"
    assert jobtasks("wait", job, *at).code == 0


def _ended_well(ended: Any) -> Any:
    """Retry is refused while a cancelled attempt is still ending."""
    return ended if ended.code == 0 else None


def test_not_found_and_refused(state: Path, serving: Any, jobtasks: Run, gated: Path) -> None:
    """3 for what does not exist; 2 for what the rules refuse."""
    at = ("--state", state)
    nothing = "zzzzz-8i9sb-000000000000000"
    for words in (
        ["job", "show"],
        ["job", "tasks"],
        ["job", "output"],
        ["job", "cancel"],
        ["wait"],
    ):
        assert jobtasks(*words, nothing, *at).code == 3, words
    for words in (["task", "show"], ["task", "log"], ["task", "attempts"]):
        assert jobtasks(*words, "zzzzz-ot0gb-000000000000000", *at).code == 3, words
    assert jobtasks("submit", gated, "-c", "max_attempts=many", *at).code == 2


def test_run_uses_the_server_that_serves(
    state: Path, serving: Any, jobtasks: Run, gated: Path, gate: Path
) -> None:
    """No second server is tried; the one that serves goes on afterwards."""
    gate.touch()
    assert jobtasks("run", gated, "--state", state).out == "number 1\nnumber 2\n"
    assert serving.poll() is None
    assert not (state / "server.log").exists()


@pytest.mark.rule("R14")
def test_ctrl_c_leaves_a_job_that_resume_takes_up(
    state: Path, gated: Path, gate: Path, jobtasks: Run
) -> None:
    """130 and a command to go on with; the job is unfinished, not failed; then it completes."""
    process = start("run", gated, "--state", state)
    eventually("started", (gated.parent / "started-1").exists)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, out) == (130, "")
    assert f"jobtasks run --resume --state {state}" in err
    assert "Traceback" not in err
    job = json.loads(jobtasks("job", "list", "--state", state, "-o", "json").out)[0]
    assert job["state"] == "Running"
    gate.touch()
    resumed = jobtasks("run", "--resume", "--state", state)
    assert (resumed.code, resumed.out) == (0, "number 1\nnumber 2\n")
    assert job["uuid"] in resumed.err
    tasks = json.loads(jobtasks("job", "tasks", job["uuid"], "--state", state, "-o", "json").out)
    assert [task["failed_count"] for task in tasks] == [0, 0, 0]
    assert jobtasks("run", "--resume", "--state", state).code == 3


def test_on_a_terminal_the_output_follows_the_bars(state: Path, gated: Path, gate: Path) -> None:
    """Bars and output on the same terminal do not mix: the cursor is back before the output."""
    gate.touch()
    ours, theirs = os.openpty()
    command = [*COMMAND, "run", str(gated), "--state", str(state)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b"".join(iter(lambda: _read_terminal(ours), b""))
    os.close(ours)
    assert process.wait(SECONDS_MAX) == 0
    bars, cursor_shown, output = shown.rpartition(b"\x1b[?25h")
    assert cursor_shown and b"level 1" in bars
    assert output == b"number 1\r\nnumber 2\r\n"


def _read_terminal(terminal: int) -> bytes:
    """What comes next; nothing when the other side is closed, which a terminal calls an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


@pytest.mark.rule("R37")
def test_run_starts_a_server_that_was_killed_again(state: Path, gated: Path, gate: Path) -> None:
    """kill -9 of its server is not noticed in output and exit code; the address stays."""
    process = start("run", gated, "--state", state)
    eventually("started", (gated.parent / "started-1").exists)
    url = (state / "url").read_text()
    os.kill(server_of(process.pid), signal.SIGKILL)
    eventually("another server", lambda: (state / "server.log").read_text().count("serving") > 1)
    gate.touch()
    code, out, err = finish(process)
    assert (code, out) == (0, "number 1\nnumber 2\n"), err
    assert (state / "server.log").read_text().count(url.strip()) > 1


def test_the_server_ends_with_a_run_that_was_killed(
    state: Path, gated: Path, jobtasks: Run
) -> None:
    """kill -9 of `run` leaves no server behind; the job can be resumed."""
    process = start("run", gated, "--state", state)
    eventually("started", (gated.parent / "started-1").exists)
    server = server_of(process.pid)
    process.kill()
    finish(process)
    eventually("the server's end", lambda: not Path(f"/proc/{server}").exists())
    (gated.parent / "gate").touch()
    assert jobtasks("run", "--resume", "--state", state).out == "number 1\nnumber 2\n"


def server_of(pid: int) -> int:
    """The process id of the server that a `run` has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == 1, children
    return int(children[0])


def test_what_was_run_can_be_looked_at_without_a_server(
    state: Path, gated: Path, gate: Path, jobtasks: Run
) -> None:
    """After `run`, commands that look start a server for the moment; it runs no task."""
    gate.touch()
    assert jobtasks("run", gated, "--state", state).code == 0
    listed = jobtasks("job", "list", "--state", state)
    assert "Complete  3/3" in listed.out
    ended = jobtasks("submit", gated, "--state", state)
    assert ended.code == 125
    assert "jobtasks serve --state" in ended.err


def test_a_server_that_cannot_start_is_said_in_one_line(tmp_path: Path, jobtasks: Run) -> None:
    """Its own line is shown, and where its log is."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "jobtasks.db").write_text("this is no database" * 1000)
    ended = jobtasks("run", "--state", state, "--", "true")
    assert ended.code == 125
    assert ended.err.startswith("jobtasks: the server did not start: jobtasks serve: ")
    assert f"hint: see {state}/server.log" in ended.err
