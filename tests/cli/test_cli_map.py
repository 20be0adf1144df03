"""`jobtasks map` for real: its own server or one that serves, real commands, crashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobtasks.cli.map import Recipe, write_tasks

COMMAND = [sys.executable, "-m", "jobtasks.cli.main"]
SECONDS_MAX = 200.0
FILES = 200
LINES = 20_000
NEVER = threading.Event()


def eventually(what: str, condition: Callable[[], Any]) -> Any:
    """The condition's first true value; says what was seen last when there is none in time."""
    deadline = time.monotonic() + SECONDS_MAX
    while not (seen := condition()):
        assert time.monotonic() < deadline, f"{what}: last seen {seen!r}"
        NEVER.wait(0.02)
    return seen


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory that does not exist yet."""
    return tmp_path / "state"


@pytest.fixture
def start(state: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """A command as a process of its own, in the test's directory, as Ctrl-C finds it; ended with
    the test, however that ends.
    """
    begun: list[subprocess.Popen[bytes]] = []

    def begin(*words: object, command: str = "map", **more: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*COMMAND, command, "--state", str(state), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            **more,
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=SECONDS_MAX)


Map = Callable[..., tuple[int, bytes, str]]


@pytest.fixture
def run_map(start: Callable[..., subprocess.Popen[bytes]]) -> Map:
    """`jobtasks map` from start to end: exit code, stdout, stderr."""

    def run(*words: object, stdin: bytes = b"", **more: Any) -> tuple[int, bytes, str]:
        process = start(*words, **more)
        out, err = process.communicate(stdin, timeout=SECONDS_MAX)
        print(err.decode(errors="replace"))
        return process.returncode, out, err.decode(errors="replace")

    return run


@pytest.mark.timeout(300)
def test_the_same_as_gnu_parallel_over_hundreds_of_files(run_map: Map, tmp_path: Path) -> None:
    """Byte for byte; names with spaces, quotes, newlines, and such that are no UTF-8."""
    if shutil.which("parallel") is None:
        pytest.skip("the Debian package `parallel` is not installed: `make packages`")
    folder = tmp_path / "files"
    folder.mkdir()
    odd = [b"a b", b"it's", b'"', b"new\nline", b"\xff\xfe", b"-n", b"$HOME", b"\\", "ü".encode()]
    names = [*odd, *(b"%d.bin" % number for number in range(FILES - len(odd)))]
    for number, name in enumerate(names):
        (folder / os.fsdecode(name)).write_bytes(hashlib.sha256(name).digest() * (number % 50))
    listed = b"".join(b"files/%b\0" % name for name in sorted(names))
    theirs = subprocess.run(
        ["parallel", "--will-cite", "--keep-order", "-0", "md5sum {}"],
        input=listed,
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    code, out, _ = run_map("--keep-order", "-0", "md5sum {}", "-", stdin=listed)
    assert (code, out) == (0, theirs.stdout)
    assert out.count(b"\n") == FILES


def test_both_streams_and_what_failed(run_map: Map, state: Path) -> None:
    """stdout to stdout, stderr to stderr, whole; one item fails, the others run; code 1, a hint."""
    command = "echo out {#}; echo err {#} >&2; test {} != 'b c' || exit 7"
    code, out, err = run_map("-k", command, "a", "b c", "d")
    assert (code, out) == (1, b"out 1\nout 2\nout 3\n")
    lines = err.splitlines()
    assert [line for line in lines if line.startswith("err")] == ["err 1", "err 2", "err 3"]
    place = lines.index("1 of 3 items failed:")
    assert lines[place + 1].startswith("  b c: ") and "exit code 7" in lines[place + 1]
    assert lines[place + 2].startswith("look: jobtasks job tasks zzzzz-8i9sb-")
    assert lines[place + 3].endswith(f"--state {state}") and "job retry" in lines[place + 3]


@pytest.mark.rule("R14")
def test_retries(serving: Any, run_map: Map) -> None:
    """Once unless told otherwise; only the last attempt's output is printed."""
    command = 'echo {} $TASK_ATTEMPT; test "$TASK_ATTEMPT" = 2'
    code, out, _ = run_map(command, "a")
    assert (code, out) == (1, b"a 1\n")
    code, out, _ = run_map("--retries", "2", command, "a")
    assert (code, out) == (0, b"a 2\n")
    code, _, err = run_map("kill -9 $$; : {}", "a")
    assert (code, "signal 9" in err) == (1, True)


def test_a_time_limit_and_memory_are_for_items(run_map: Map) -> None:
    """The seed, which takes longer to start than a short limit, has none of it."""
    code, _, err = run_map("--timeout", "0.01", "exec sleep {}", "60")
    assert (code, "ran longer than 0.01 s" in err) == (1, True)
    code, out, err = run_map("--ram", "64M", "--jobs", "1", "echo", "a")
    assert (code, out) == (0, b"a\n")


def test_where_and_how_commands_run(serving: Any, run_map: Map, tmp_path: Path) -> None:
    """In the caller's directory or another; with a variable that is passed; by another shell."""
    (tmp_path / "a dir").mkdir()
    assert run_map("-k", "pwd; :", "x")[1] == f"{tmp_path}\n".encode()
    there = run_map("--workdir", "a dir", "pwd; :", "x")[1]
    assert there == f"{tmp_path}/a dir\n".encode()
    environment = {**os.environ, "WORD": "it's\nhere"}
    words = ["--env", "WORD", "--shell", "bash", 'echo "$WORD" <(:) >/dev/null; echo "$WORD"; :']
    assert run_map(*words, "x", env=environment)[1] == b"it's\nhere\n"
    assert run_map("echo $JOB_PARAMETER_COLOR", "-p", "color=red", "x")[1] == b"red x\n"
    assert run_map("--workdir", "nowhere", "pwd", "x")[0] == 2
    assert run_map("--env", "NO_SUCH", "pwd", "x")[0] == 2


def test_binary_output_is_printed_as_it_is(run_map: Map) -> None:
    """NUL, bytes that are no text, no newline at the end, and more than a pipe holds."""
    code, out, _ = run_map("-k", "printf '\\377\\0'; head -c 300000 /dev/zero; :", "a", "b")
    assert (code, out) == (0, (b"\xff\0" + b"\0" * 300000) * 2)


def test_nothing_to_do(run_map: Map, state: Path) -> None:
    """Empty input is no failure and makes no job; no items at all is a mistake."""
    assert run_map("echo", "-") == (0, b"", "no items: nothing to do\n")
    assert not state.exists()
    assert run_map("echo")[0] == 2
    assert run_map()[0] == 2
    assert run_map("--resume")[0] == 3


def test_a_dry_run_prints_the_commands(run_map: Map, state: Path) -> None:
    """And does nothing."""
    code, out, err = run_map("--dry-run", "gzip {} {.}", "a b.c", "-", stdin=b"d\n")
    assert (code, out, err) == (0, b"gzip 'a b.c' 'a b'\ngzip d d\n", "")
    assert not state.exists()


def test_ctrl_c_and_resume(
    start: Callable[..., subprocess.Popen[bytes]], run_map: Map, state: Path, tmp_path: Path
) -> None:
    """130 and what to do; what was complete is not done again; the output is that of all."""
    command = "echo {} >> ran; test {#} -le 10 || while [ ! -e gate ]; do sleep 0.02; done; echo {}"
    process = start("-k", command, *range(20))
    ran = tmp_path / "ran"
    eventually("more than ten", lambda: ran.exists() and len(ran.read_text().split()) > 10)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 130
    assert f"jobtasks map --resume --state {state}" in err.decode()
    expected = b"".join(b"%d\n" % number for number in range(20))
    assert expected.startswith(out)
    (tmp_path / "gate").touch()
    code, out, _ = run_map("-k", "--resume")
    assert (code, out) == (0, expected)
    assert all(ran.read_text().split().count(str(number)) == 1 for number in range(10))
    assert run_map("--resume")[0] == 3


@pytest.mark.rule("R37")
def test_kill_9_of_the_server_is_not_noticed(
    start: Callable[..., subprocess.Popen[bytes]], state: Path, tmp_path: Path
) -> None:
    """In the middle, while outputs are read: each is printed once, in order."""
    process = start("-k", "echo {}", *range(200))
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), 65536)  # As communicate reads: past any buffer.
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    out, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0, err.decode()
    assert first + out == b"".join(b"%d\n" % number for number in range(200))
    assert (state / "server.log").read_text().count("serving") == 2


@pytest.fixture
def serving(start: Callable[..., subprocess.Popen[bytes]]) -> Iterator[subprocess.Popen[bytes]]:
    """A server on the state directory, which runs one task at a time."""
    process = start("--listen", "127.0.0.1:0", "--slots", "1", command="serve")
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"ready ")
    yield process
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=SECONDS_MAX)


def test_with_a_server_that_serves(serving: Any, run_map: Map, state: Path) -> None:
    """By state directory or by address; failed items are tried again; a cancel is told."""
    assert run_map("-k", "echo", "a", "b")[:2] == (0, b"a\nb\n")
    token = (state / "admin.token").read_text().strip()
    url = (state / "url").read_text().strip()
    environment = {**os.environ, "JOBTASKS_URL": url, "JOBTASKS_TOKEN": token}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    client = [*COMMAND, "map", "test -e now || exit 3; echo", "a"]
    folder = state.parent
    failed = subprocess.run(client, env=environment, cwd=folder, capture_output=True, timeout=100)
    assert failed.returncode == 1, failed.stderr
    job = failed.stderr.decode().split()[1]
    (folder / "now").touch()
    retry = [*COMMAND, "job", "retry", job]
    assert subprocess.run(retry, env=environment, capture_output=True, timeout=100).returncode == 0
    again = [*COMMAND, "map", "--resume", job]
    ended = subprocess.run(again, env=environment, capture_output=True, timeout=100)
    assert (ended.returncode, ended.stdout) == (0, b"a\n"), ended.stderr
    listed = subprocess.run(
        [*COMMAND, "job", "list"], env=environment, capture_output=True, timeout=100
    )
    assert b"map 'test -e now || exit 3; echo': 1 item" in listed.stdout
    assert serving.poll() is None


def test_the_list_is_written_as_it_is_read() -> None:
    """20,000 lines need no more memory than a thousand."""

    class Sink:
        size = lines = 0

        def write(self, data: bytes) -> None:
            self.size += len(data)
            self.lines += 1
            self.last = data

    sink: Any = Sink()
    recipe = Recipe("md5sum {}", constraints={"max_attempts": 1})
    tracemalloc.start()
    try:
        items = (f"/some/where/file number {number}" for number in range(LINES))
        assert write_tasks(sink, recipe, items) == LINES
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sink.lines == LINES
    assert peak < sink.size / 8, f"{peak} bytes for a list of {sink.size}"
    last = json.loads(sink.last)
    assert last["parameters"] == {"item": f"/some/where/file number {LINES - 1}"}
    assert last["command"] == ["sh", "-c", f"md5sum '/some/where/file number {LINES - 1}'"]
    assert last["runtime_constraints"] == {"max_attempts": 1}
