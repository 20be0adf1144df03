"""The smaller examples, and the scripts that the documentation shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

Run = Callable[..., Any]


def promised(readme: Path) -> str:
    """The output that a README shows: its second block."""
    return readme.read_text().split("```\n")[3]


@pytest.mark.rule("R4", "R12", "R13")
def test_flaky_ends_as_its_readme_says(run: Run) -> None:
    """Temporary failures are tried again; children of a dead attempt never run."""
    ended = run(EXAMPLES / "flaky" / "flaky.py", "-c", "output=all", "-p", "hopeless=false")
    assert ended.returncode == 0
    assert ended.stdout.decode() == promised(EXAMPLES / "flaky" / "README.md")


@pytest.mark.rule("R11", "R19")
def test_a_permanent_failure_fails_the_job_and_is_explained(run: Run) -> None:
    """Exit code 1; the task, its reason, the command to look further; the last level never ran."""
    ended = run(EXAMPLES / "flaky" / "flaky.py")
    assert (ended.returncode, ended.stdout) == (1, b"")
    text = ended.stderr.decode()
    assert '(level 3, {"role": "hopeless"}) failed for good' in text
    assert "after 1 attempt" in text
    assert "| the input is corrupt: no attempt will make it better" in text
    assert re.search(r"more: jobtasks task log zzzzz-ot0gb-\w{15} --state /", text)
    assert "level 4" not in text


@pytest.mark.rule("R2", "R38")
def test_shell_needs_curl_only(run: Run) -> None:
    """sh and curl create tasks with one call and report."""
    ended = run(EXAMPLES / "shell" / "squares.sh", "-p", "count=5", "-c", "output=all")
    assert ended.returncode == 0
    assert ended.stdout.decode() == promised(EXAMPLES / "shell" / "README.md")


@pytest.mark.rule("R39")
def test_a_command_needs_no_script(run: Run) -> None:
    """The exit code of a plain command is the verdict."""
    assert run("--", "true").returncode == 0
    ended = run("--", "sh", "-c", "echo because >&2; exit 3")
    assert ended.returncode == 1
    assert b"| because" in ended.stderr
    assert b"exit code 3" in ended.stderr
