"""The main example: its output is that of md5sum, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "parallel_hash" / "parallel_hash.py"

Run = Callable[..., Any]


def md5sum(top: Path) -> bytes:
    """What the tools of the system print."""
    return subprocess.run(
        f"find '{top}' -type f -print0 | xargs -0 md5sum | LC_ALL=C sort -k2",
        shell=True,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files with names and contents that are easy to get wrong, and things that are no files."""
    top = tmp_path / "tree"
    (top / "sub" / "sub").mkdir(parents=True)
    (top / "empty folder").mkdir()
    names = ["a b", "ü", "new\nline", "back\\slash", "return\r", "-", "sub/Z", "sub/sub/a", "sub.x"]
    for number, name in enumerate(names):
        (top / name).write_bytes(name.encode() * number)
    (top / "large").write_bytes(os.urandom(3 * 1024 * 1024 + 1))
    (top / "link").symlink_to("large")
    (top / "folder link").symlink_to("sub")
    os.mkfifo(top / "pipe")
    return top


@pytest.mark.rule("R5", "R20")
def test_the_output_is_that_of_md5sum(run: Run, tree: Path) -> None:
    """Every regular file once, sorted, names escaped as md5sum does."""
    ended = run(SCRIPT, "--input", tree)
    assert ended.returncode == 0
    assert ended.stdout == md5sum(tree)
    assert b"level 2: 1 of 1 done" in ended.stderr


def test_a_long_listing_is_said_in_parts(run: Run, tmp_path: Path) -> None:
    """An output has a limit; a listing longer than it is whole all the same."""
    folder = tmp_path.joinpath(*["x" * 200] * 10)
    folder.mkdir(parents=True)
    for number in range(600):
        (folder / f"{number:0200}").write_text("")
    ended = run(SCRIPT, "--input", tmp_path / ("x" * 200), "-p", "files_per_task=100")
    assert ended.stdout == md5sum(tmp_path / ("x" * 200))
    assert len(ended.stdout) > 1024 * 1024
    assert b"level 3: 2 of 2 done" in ended.stderr


def test_an_empty_directory(run: Run, tmp_path: Path) -> None:
    """Nothing to hash is no failure and no output."""
    (tmp_path / "empty").mkdir()
    ended = run(SCRIPT, "--input", tmp_path / "empty")
    assert (ended.returncode, ended.stdout) == (0, b"")


@pytest.mark.rule("R11")
def test_a_name_that_is_no_text_fails_the_job_at_once(run: Run, tmp_path: Path) -> None:
    """An output is text: such a file is not left out in silence."""
    (tmp_path / "in").mkdir()
    (Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/\xff"))).write_text("")
    ended = run(SCRIPT, "--input", tmp_path / "in")
    assert ended.returncode == 1
    assert b"names that are not UTF-8" in ended.stderr
    assert b"after 1 attempt" in ended.stderr


def test_the_demo_checks_what_it_shows(tmp_path: Path, environment: dict[str, str]) -> None:
    """What ``make run`` calls ends with the checked result and what to try next."""
    folder = Path(sysconfig.get_path("stdlib")) / "json"
    ended = subprocess.run(
        [sys.executable, SCRIPT.parent / "demo.py", folder, "--state", tmp_path / "state"],
        env=environment,
        capture_output=True,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    count = len(list(folder.glob("*.py")))
    assert f"checked: {count} files, identical to md5sum" in ended.stdout.decode()
    assert "What to try next" in ended.stdout.decode()
