"""A job as one file (web/report.py, ``jobtasks job report``): whole without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from jobtasks.web.report import render_report

NOW = 1_764_150_000 * 1_000_000
EVIL = "</script><script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"
JOB: dict[str, Any] = {
    "uuid": "zzzzz-8i9sb-0mwxcs7q1108s0k",
    "state": "Failed",
    "description": EVIL,
    "command": ["echo", EVIL],
    "script": None,
    "script_version": None,
    "script_parameters": {"a": EVIL},
    "runtime_constraints": {},
    "output": EVIL,
    "output_truncated": False,
    "log": EVIL,
    "created_at": "2025-11-26T09:00:00.000000000Z",
    "started_at": "2025-11-26T09:00:01.000000000Z",
    "finished_at": "2025-11-26T09:10:01.000000000Z",
    "cancelled_at": None,
    "tasks_summary": {"todo": 0, "running": 0, "done": 3, "failed": 1},
}
LEVELS = [{"sequence": 0, "todo": 0, "running": 0, "done": 3, "failed": 1}]
SAMPLE = {
    "job_task_uuid": "zzzzz-ot0gb-0mwxcs7q1108s0k",
    "sequence": 0,
    "qsequence": 3,
    "number": 2,
    "reason": EVIL,
    "message": EVIL,
    "node": EVIL,
    "memory_kib": 1024,
    "peak_memory_kib": 2048,
    "run_seconds": 1.5,
    "log_bytes": 10,
}
FAMILIES = [
    {
        "family": "f",
        "cause": "exit",
        "exit_code": 1,
        "signal": None,
        "message": "a message " + EVIL,
        "attempts": 1200,
        "tasks": 1,
        "first_at": "2025-11-26T09:05:00.000000000Z",
        "last_at": "2025-11-26T09:06:00.000000000Z",
        "sample": SAMPLE,
    }
]
TIMELINE = {
    "from": "2025-11-26T09:00:00.000000000Z",
    "until": "2025-11-26T09:10:01.000000000Z",
    "first_at": "2025-11-26T09:00:00.000000000Z",
    "last_at": "2025-11-26T09:10:01.000000000Z",
    "now": "2025-11-26T09:20:00.000000000Z",
    "is_behind": False,
    "attempts_read": 1,
    "rows": [{"node": "zzzzz-7ekkf-0mwxcs7q1108s0k", "hostname": EVIL, "slot": 1, "nodes": 1}],
    "bars": [
        {
            "row": 0,
            "from": "2025-11-26T09:01:00.000000000Z",
            "until": "2025-11-26T09:05:00.000000000Z",
            "state": "failed",
            "cause": "exit",
            "sequence": 0,
            "qsequence": 3,
            "number": 2,
            "job_task_uuid": "zzzzz-ot0gb-0mwxcs7q1108s0k",
            "slot": 1,
        }
    ],
    "cells": None,
    "column_seconds": None,
}


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(
        render_report(JOB, LEVELS, FAMILIES, TIMELINE, "http://127.0.0.1:7070", NOW),
        encoding="utf-8",
    )
    return path


def test_a_report_needs_no_server(report: Path, browser: Browser) -> None:
    """It opens as a file, asks for nothing, draws the timeline, and shows texts as they are."""
    context = browser.new_context(offline=True)
    page = context.new_page()
    troubles: list[str] = []
    asked: list[str] = []
    page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.locator("time-line[data-ready=yes]").wait_for()
    assert page.locator("time-line [role=status]").inner_text().startswith("1 attempts, 1 failed")
    assert page.title() == f"{EVIL[:80]} – JobTasks report"
    assert page.locator("h1").inner_text() == EVIL
    assert page.locator(".family .many").inner_text() == "1\u202f200"
    page.locator("time-line canvas").press("+")
    page.locator("time-line canvas").press("0")
    assert asked == [report.as_uri()]
    assert troubles == []
    context.close()


def test_nothing_but_its_own_script_runs(report: Path, browser: Browser) -> None:
    """Its policy allows what it was made with, by hash."""
    page = browser.new_page()
    text = report.read_text(encoding="utf-8")
    report.write_text(text.replace("</main>", "<script>document.title='ran'</script></main>"))
    page.goto(report.as_uri())
    page.locator("time-line[data-ready=yes]").wait_for()
    assert page.title() != "ran"
    page.close()
