"""Programs that cannot be run, of every kind: the reason is in the record, the node goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Api

Make = Callable[[Path], None]


def file(text: bytes, mode: int = 0o755) -> Make:
    """Return what makes a file with this content."""

    def make(path: Path) -> None:
        path.write_bytes(text)
        path.chmod(mode)

    return make


def pipe(path: Path) -> None:
    """Make a named pipe that may be executed, as far as its mode says."""
    os.mkfifo(path)
    path.chmod(0o755)


def nothing(path: Path) -> None:
    """Make no file."""


PROGRAMS: dict[str, tuple[Make, str]] = {
    "missing": (nothing, "no such file"),
    "directory": (lambda path: path.mkdir(), "is a directory"),
    "dangling": (lambda path: path.symlink_to("/nowhere/at/all"), "a link that leads nowhere"),
    "pipe": (pipe, "neither a program nor a script"),
    "not-executable": (file(b"#!/bin/sh\n", 0o644), "not executable"),
    "no-first-line": (file(b"echo hello\n"), "exec format error"),
    "empty": (file(b""), "exec format error"),
    "binary": (file(b"\x7fELF\x00\xff" * 9), "exec format error"),
    "bad-interpreter": (file(b"#!/no/such/python -u\n"), "bad interpreter '/no/such/python'"),
    "windows-lines": (file(b"#!/bin/sh\r\nexit 0\r\n"), r"bad interpreter '/bin/sh\r'"),
}
"""What each is, and what the record says of it as a command."""
SEEN = ("missing", "directory", "dangling", "pipe", "not-executable")
"""What the server sees for itself when a job names it as its script."""


@pytest.mark.rule("R13", "R14")
@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_command_that_cannot_be_run(api: Api, tmp_path: Path, kind: str) -> None:
    """One attempt, *unable to start*; the reason names the file; the next job runs."""
    make, reason = PROGRAMS[kind]
    path = tmp_path / kind
    make(path)
    job = api.final(api.post("/jobs", {"command": [str(path)]})["uuid"])
    assert (job["state"], job["success"]) == ("Failed", False)
    [task] = api.tasks(job["uuid"])
    [attempt] = api.attempts(task["uuid"])
    assert attempt["cause"] == "unable_to_start"
    assert reason in attempt["reason"]
    assert str(path) in attempt["reason"]
    assert attempt["reason"] in task["failed_log"]
    assert task["failed_log"].count("\n") == 1
    api.pass_by()


@pytest.mark.rule("R14")
@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_script_that_cannot_be_run(api: Api, tmp_path: Path, kind: str) -> None:
    """What the server can see is refused at once; the rest the attempt tells."""
    make, reason = PROGRAMS[kind]
    make(tmp_path / kind)
    job = {"script": kind, "script_version": str(tmp_path)}
    if kind in SEEN:
        answer = api.http.post("/jobs", json=job)
        assert answer.status_code == 422
        assert f"script {kind} " in answer.json()["errors"][0]
        return
    uuid = api.post("/jobs", job)["uuid"]
    assert api.final(uuid)["state"] == "Failed"
    assert reason in api.tasks(uuid)[0]["failed_log"]
