"""``--watch``: how a job goes on until its end, and lists that stay up to date."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import click
import pytest

from jobtasks.cli import output, progress, watching

from .conftest import JOB, TASK

Run = Callable[..., Any]
OTHER = JOB[:-1] + "k"
LEVELS = {"items": [{"sequence": 0, "todo": 0, "running": 0, "done": 1, "failed": 0}]}


def job(state: str, uuid: str = JOB, done: int = 0) -> dict[str, Any]:
    summary = {"todo": 1 - done, "running": 0, "done": done, "failed": 0}
    return {"uuid": uuid, "state": state, "tasks_summary": summary, "script": "a.py"}


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are read again at once."""
    monkeypatch.setattr(watching, "LIST_SECONDS", 0)


@pytest.mark.parametrize(("state", "code"), [("Complete", 0), ("Failed", 1), ("Cancelled", 4)])
def test_submit_and_watch(jobtasks: Run, written: Any, state: str, code: int) -> None:
    """The uuid on stdout at once, progress on stderr, the exit code of the job."""
    written.says("POST", "/jobs", (200, job("Queued")))
    written.says("GET", f"/jobs/{JOB}", (200, job("Running")), (200, job(state)))
    written.says("GET", f"/jobs/{JOB}/levels", (200, LEVELS))
    written.says("GET", "/job_tasks", (200, {"items": []}))
    ended = jobtasks("submit", "--watch", "--", "true")
    assert (ended.code, ended.out) == (code, f"{JOB}\n")
    assert ended.err.splitlines()[:2] == [f"job {JOB}", "level 0: 1 of 1 done"]
    assert ("failed" in ended.err, "cancelled" in ended.err) == (code == 1, code == 4)


def test_wait_and_watch(jobtasks: Run, written: Any) -> None:
    """The state on stdout, as without; a job that failed says which task and why."""
    task = {"uuid": TASK, "sequence": 1, "failed_log": "boom\n"}
    written.says("GET", f"/jobs/{JOB}", (200, job("Running")), (200, job("Failed")))
    written.says("GET", f"/jobs/{JOB}/levels", (200, LEVELS))
    written.says("GET", "/job_tasks", (200, {"items": [task]}))
    written.says("GET", f"/job_tasks/{TASK}/attempts", (200, {"items": []}))
    ended = jobtasks("wait", JOB, "--watch")
    assert (ended.code, ended.out) == (1, "Failed\n")
    assert "| boom" in ended.err
    written.says("GET", f"/jobs/{JOB}", (200, job("Running")))
    assert jobtasks("wait", JOB, "--watch", "--timeout", "0").code == 124


def test_show_and_watch(jobtasks: Run, written: Any) -> None:
    """The record as it is at the end."""
    written.says("GET", "/jobs", (200, {"items": []}))
    answers = [(200, job(state)) for state in ("Queued", "Running", "Complete")]
    written.says("GET", f"/jobs/{JOB}", *answers)
    written.says("GET", f"/jobs/{JOB}/levels", (200, LEVELS))
    ended = jobtasks("job", "show", JOB, "--watch", "-o", "json")
    assert json.loads(ended.out)["state"] == "Complete"
    assert "level 0: 1 of 1 done" in ended.err


def pages(written: Any) -> None:
    """A job begins, another joins, one after the other ends."""
    states = [
        [job("Queued")],
        [job("Running"), job("Queued", OTHER)],
        [job("Running"), job("Queued", OTHER)],
        [job("Complete", done=1), job("Cancelled", OTHER)],
    ]
    written.says("GET", "/jobs", *[(200, {"items": items}) for items in states])


def test_a_watched_list_says_what_is_new(jobtasks: Run, written: Any) -> None:
    """Without a terminal: a line, a record or a uuid for each change, until all are over."""
    pages(written)
    ended = jobtasks("job", "list", "--watch")
    assert [line.split()[:3] for line in ended.out.splitlines()] == [
        [JOB, "Queued", "0/1"],
        [JOB, "Running", "0/1"],
        [OTHER, "Queued", "0/1"],
        [JOB, "Complete", "1/1"],
        [OTHER, "Cancelled", "0/1"],
    ]
    pages(written)
    lines = jobtasks("job", "list", "--watch", "-o", "jsonl").out.splitlines()
    assert [json.loads(line)["state"] for line in lines[-2:]] == ["Complete", "Cancelled"]
    assert len(lines) == 5
    pages(written)
    assert jobtasks("job", "list", "--watch", "-o", "id").out.split() == [JOB, OTHER]
    assert jobtasks("job", "list", "--watch", "-o", "json").code == 2


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_a_watched_list_stays_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the table is drawn over itself; no line is wider than the terminal."""
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("COLUMNS", "44")
    monkeypatch.setenv("TERM", "xterm")
    states = iter([[job("Running")], [job("Complete", done=1)]])
    columns = [(name, output.key(name)) for name in ("uuid", "state", "script", "tasks_summary")]
    watching.watch_list(
        lambda: next(states), columns, "table", lambda each: bool(each["state"] == "Running")
    )
    text = screen.getvalue()
    assert "Runni…" in text and "Compl…" in text and "\x1b[2K" in text
    assert max(map(output.width_of, click.unstyle(text).splitlines())) <= 44 + len("\r") * 2


def test_a_terminal_that_cannot_go_back_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a pipe get bars; NO_COLOR takes the colours away, not the bars."""
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress.meter(Screen()), progress.Lines)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(progress.meter(io.StringIO()), progress.Lines)
    monkeypatch.setenv("NO_COLOR", "1")
    screen = Screen()
    with progress.meter(screen) as shown:
        shown.show([dict(LEVELS["items"][0])])
    assert "1/1" in screen.getvalue()
    assert "\x1b[3" not in screen.getvalue() and "\x1b[38" not in screen.getvalue()


def test_long_values_of_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is empty is left out; on a terminal the middle of a long text is, too, and counted."""
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    text = "\n".join(map(str, range(100)))
    output.print_record({"href": "/x", "none": None, "empty": {}, "output": text}, "table")
    lines = click.unstyle(screen.getvalue()).split("\n")
    assert (lines[0], len(lines)) == ("output  0", output.LINES_MAX + 2)
    assert "        … 88 more lines" in lines
