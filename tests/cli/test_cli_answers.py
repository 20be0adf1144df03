"""What the commands make of a server's answers: text, JSON, exit codes, one-line errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import JOB, TASK

RECORD = {
    "uuid": JOB,
    "state": "Running",
    "script": "a.py",
    "tasks_summary": {"todo": 2, "running": 1, "done": 3, "failed": 0},
    "created_at": "2026-01-01T00:00:00Z",
    "finished_at": None,
}

Run = Callable[..., Any]


def test_table_and_json_come_from_the_same_values(jobtasks: Run, written: Any) -> None:
    """A table for people, the records for programs."""
    written.says("GET", "/jobs", (200, {"items": [RECORD], "items_available": 1}))
    table = jobtasks("job", "list")
    assert table.code == 0
    assert re.fullmatch(rf"{JOB}  Running  3/6   \d+[a-z]  -     a.py", table.out.splitlines()[1])
    assert json.loads(jobtasks("job", "list", "-o", "json").out) == [RECORD]
    written.says("GET", f"/jobs/{JOB}", (200, RECORD))
    assert json.loads(jobtasks("job", "show", JOB, "-o", "json").out) == RECORD
    assert "state          Running" in jobtasks("job", "show", JOB).out


def test_filters_of_lists(jobtasks: Run, written: Any) -> None:
    """--only, --failed, --level become filters; a job that does not exist is not an empty list."""
    written.says("GET", "/jobs", (200, {"items": []}))
    jobtasks("job", "list", "--only", "failed")
    assert json.loads(written.calls[-1].query["filters"]) == [["state", "=", "Failed"]]
    assert jobtasks("job", "tasks", JOB).code == 3
    written.says("GET", f"/jobs/{JOB}", (200, RECORD))
    written.says("GET", "/job_tasks", (200, {"items": [{"uuid": TASK}], "items_available": 9}))
    ended = jobtasks("job", "tasks", JOB, "--failed", "--level", "2", "--limit", "1")
    assert json.loads(written.calls[-1].query["filters"]) == [
        ["job_uuid", "=", JOB],
        ["success", "=", False],
        ["sequence", "=", 2],
    ]
    assert ended.err == "(8 more: --offset 1)\n"


def test_control_characters_do_not_reach_the_terminal(jobtasks: Run, written: Any) -> None:
    """A name that would move the cursor is shown, not obeyed."""
    written.says("GET", "/jobs", (200, {"items": [{**RECORD, "script": "a\x1b[2Jb\n"}]}))
    assert r"a\x1b[2Jb\n" in jobtasks("job", "list").out


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, 2),
        (401, 125),
        (403, 2),
        (404, 3),
        (405, 2),
        (413, 2),
        (422, 2),
        (500, 125),
        (503, 125),
    ],
)
def test_refusals_are_one_line_and_an_exit_code(
    jobtasks: Run, written: Any, status: int, code: int
) -> None:
    """What the server says is shown in one line; a hint may follow; no traceback."""
    written.says("POST", f"/jobs/{JOB}/cancel", (status, {"errors": ["it\nsays", "no"]}))
    ended = jobtasks("job", "cancel", JOB)
    assert ended.code == code
    lines = ended.err.splitlines()
    assert lines[0].startswith("jobtasks: ") and lines[0].endswith("it says; no")
    assert all(line.startswith("hint: ") for line in lines[1:])
    assert len(lines) <= 2


def test_debug_shows_the_traceback(
    jobtasks: Run, written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JOBTASKS_DEBUG=1 is for the developer."""
    monkeypatch.setenv("JOBTASKS_DEBUG", "1")
    assert "Traceback" in jobtasks("job", "show", JOB).err


def test_no_server(jobtasks: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server, or with one that is gone: which one was looked for, and what to do."""
    ended = jobtasks("job", "list", "--state", tmp_path / "none")
    assert ended.code == 125
    assert f"no server serves {tmp_path}/none" in ended.err
    assert f"`jobtasks serve --state {tmp_path}/none`" in ended.err
    monkeypatch.setenv("JOBTASKS_URL", "http://127.0.0.1:9")
    assert "JOBTASKS_TOKEN is not" in jobtasks("job", "list").err
    monkeypatch.setenv("JOBTASKS_TOKEN", "t")
    ended = jobtasks("job", "list")
    assert ended.code == 125
    assert "http://127.0.0.1:9 cannot be reached" in ended.err


def test_a_state_directory_that_was_named_goes_before_the_environment(
    jobtasks: Run, written: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the user typed wins; url and token are read from the directory."""
    written.says("GET", "/jobs", (200, {"items": []}))
    (tmp_path / "url").write_text(f"{written.url}\n")
    (tmp_path / "admin.token").write_text("of-the-directory\n")
    monkeypatch.setenv("JOBTASKS_URL", "http://127.0.0.1:9")
    assert jobtasks("job", "list", "--state", tmp_path).code == 0
    assert written.calls[-1].token == "Bearer of-the-directory"


def test_an_unreadable_directory_is_one_line(jobtasks: Run, tmp_path: Path) -> None:
    """A file where a directory should be, and such, are no internal errors."""
    (tmp_path / "file").write_text("")
    ended = jobtasks("job", "list", "--state", tmp_path / "file")
    assert ended.code == 125
    assert len(ended.err.splitlines()) == 1
    assert "Not a directory" in ended.err


@pytest.mark.parametrize(
    ("state", "code"), [("Complete", 0), ("Failed", 1), ("Cancelled", 4), ("Running", 124)]
)
def test_wait_ends_with_the_jobs_exit_code(
    jobtasks: Run, written: Any, state: str, code: int
) -> None:
    """0, 1, 4, and 124 when the time is over."""
    written.says("GET", f"/jobs/{JOB}", (200, {"uuid": JOB, "state": state}))
    assert jobtasks("wait", JOB, "--timeout", "0") == (code, f"{state}\n", "")


def test_wait_outlasts_a_server_that_is_away(jobtasks: Run, written: Any) -> None:
    """A restart in the middle of a wait goes unnoticed."""
    written.says(
        "GET",
        f"/jobs/{JOB}",
        (503, {"errors": []}),
        (502, ""),
        (200, {"uuid": JOB, "state": "Failed"}),
    )
    assert jobtasks("wait", JOB).code == 1
    assert len(written.calls) == 3


def test_a_failed_run_says_which_task_and_why(jobtasks: Run, written: Any, script: Path) -> None:
    """The failed task, its parameters, what ended it, its last stderr lines, what to type next."""
    failed = {"uuid": JOB, "state": "Failed", "log": "1 task failed"}
    task = {
        "uuid": TASK,
        "sequence": 1,
        "parameters": {"file": "/a"},
        "failed_log": "".join(f"line {n}\n" for n in range(20)) + "boom\n",
    }
    attempt = {"number": 3, "exit_code": 3, "signal": None, "cause": "own_fault", "reason": None}
    written.says("POST", "/jobs", (200, failed))
    written.says("GET", f"/jobs/{JOB}", (200, failed))
    written.says("GET", f"/jobs/{JOB}/levels", (200, {"items": []}))
    written.says("GET", "/job_tasks", (200, {"items": [task], "items_available": 3}))
    written.says("GET", f"/job_tasks/{TASK}/attempts", (200, {"items": [attempt] * 3}))
    ended = jobtasks("run", script)
    assert (ended.code, ended.out) == (1, "")
    assert f'task {TASK} (level 1, {{"file": "/a"}}) failed for good' in ended.err
    assert "after 3 attempts: own fault, exit code 3" in ended.err
    assert "| boom" in ended.err and "| line 13" in ended.err and "| line 12" not in ended.err
    assert f"jobtasks task log {TASK}" in ended.err
    assert f"2 more: jobtasks job tasks {JOB} --failed" in ended.err


def test_a_log_is_printed_as_it_is(jobtasks: Run, written: Any) -> None:
    """Bytes go through untouched; options become the query."""
    written.says("GET", f"/job_tasks/{TASK}/log", (200, b"\x00 line\r\n"))
    ended = jobtasks("task", "log", TASK, "--attempt", "2", "--stream", "stderr")
    assert ended.out == "\x00 line\r\n"
    assert written.calls[-1].query == {"attempt": "2", "stream": "stderr"}


def test_help_lists_every_command_without_importing_it(jobtasks: Run) -> None:
    """Every command and every exit code is in the help."""
    text = jobtasks("--help").out
    for word in ("run", "submit", "wait", "job", "task", "serve", "agent", "125 infrastructure"):
        assert word in text


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("lgos", "`jobtasks logs`"),
        ("cancel", "`jobtasks job cancel`"),
        ("attempts", "`jobtasks task attempts` or `jobtasks node attempts`"),
    ],
)
def test_a_wrong_command_is_told_what_was_meant(jobtasks: Run, word: str, meant: str) -> None:
    """One that is spelled alike, or that belongs to a noun."""
    ended = jobtasks(word)
    assert ended.code == 2
    assert f"No such command '{word}'. Did you mean {meant}?" in ended.err
    assert "Did you mean" not in jobtasks("xyzzy").err
