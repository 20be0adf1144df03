"""State directories that no server can use: one clear line, exit code 125, nothing changed."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Served, Start
from .small_disk import Disk, disk

__all__ = ["disk"]
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
Spoil = Callable[[Path], None]


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory that has served, with a job on record."""
    folder = tmp_path_factory.mktemp("used")
    served = Served(folder / "state", "--no-agent", stderr=folder / "stderr")
    with served.api() as api:
        for number in range(200):
            api.post("/jobs", {"command": ["echo", "x" * 500], "description": str(number)})
    assert served.end()[0] == 0
    return served.state


@pytest.fixture
def state(used: Path, tmp_path: Path) -> Path:
    """A copy of it for one test, where `start` looks."""
    return shutil.copytree(used, tmp_path / "state")


def content(path: Path) -> dict[str, str]:
    """Return what is in every file below a path."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def refusal(served: Served) -> str:
    """Check that it did not start, and return its one line."""
    out, err = served.rest()
    assert served.process.returncode == 125, err
    assert (served.first_line, out) == ("", "")
    assert len(err.splitlines()) == 1, err
    assert err.startswith("jobtasks serve: ")
    return err


def cut(share: float) -> Spoil:
    """Return what cuts a file off at a part of its length."""
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


def scribble(first: int, last: int) -> Spoil:
    """Return what writes random bytes into a part of a file."""

    def spoil(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(first)
            file.write(random.Random(1).randbytes(last - first))

    return spoil


DAMAGE = {
    "random": scribble(0, 100_000),
    "header": scribble(0, 100),
    "schema": scribble(100, 20_000),
    "half": cut(0.5),
    "one page": lambda path: os.truncate(path, 4096),
    "cut within a page": lambda path: os.truncate(path, 1000),
    "empty": cut(0),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_database(start: Start, state: Path, kind: str) -> None:
    """It is named, and left as it is for whoever repairs it."""
    DAMAGE[kind](state / "jobtasks.db")
    before = content(state)
    line = refusal(start("--no-agent"))
    assert f"cannot use {state / 'jobtasks.db'}: " in line
    assert content(state) == before


@pytest.mark.parametrize("name", ["admin.token", "agent.token", "secret.key"])
def test_a_damaged_secret(start: Start, state: Path, name: str) -> None:
    """Empty, or no text: it is named, and no other is made in its place."""
    for text in (b"", b"\xff\xfe\x00"):
        (state / name).write_bytes(text)
        before = content(state)
        assert str(state / name) in refusal(start("--no-agent"))
        assert content(state) == before


@pytest.fixture
def as_nobody(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """What makes a command run as a user who owns nothing; needs root."""
    if os.geteuid() != 0:
        pytest.skip("only root may run a server as another user")
    for path in (tmp_path, *tmp_path.parents):
        if not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)
    yield AS_NOBODY


def test_a_directory_of_somebody_else(
    start: Start, state: Path, as_nobody: tuple[str, ...]
) -> None:
    """It is private to its owner: another user's server cannot use it."""
    before = content(state)
    line = refusal(start("--no-agent", before=as_nobody))
    assert line == f"jobtasks serve: cannot use {state}: Permission denied\n"
    assert content(state) == before


def test_a_directory_that_can_only_be_read(
    start: Start, state: Path, as_nobody: tuple[str, ...]
) -> None:
    """Readable for all, writable for nobody."""
    for path in (state, *state.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    before = content(state)
    line = refusal(start("--no-agent", before=as_nobody))
    assert line == f"jobtasks serve: cannot use {state}: Permission denied\n"
    assert content(state) == before


def test_a_file_system_that_can_only_be_read(start: Start, used: Path, disk: Disk) -> None:
    """Mounted so: also root cannot use it."""
    state = shutil.copytree(used, disk.path / "state")
    subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)
    line = refusal(start("--no-agent", state=state))
    assert line == f"jobtasks serve: cannot use {state}: Read-only file system\n"


@pytest.mark.parametrize("is_new", [True, False])
def test_a_full_directory_at_start(start: Start, used: Path, disk: Disk, is_new: bool) -> None:
    """Nothing is begun, whether it has served before or not; with space it starts."""
    state = disk.path / "state"
    if not is_new:
        shutil.copytree(used, state)
    disk.fill()
    before = content(state)
    line = refusal(start("--no-agent", state=state))
    assert "full" in line or "No space left on device" in line, line
    assert str(state) in line
    left = content(state)
    assert {name: left.get(name) for name in before} == before
    assert not [name for name in left if name.startswith(".")]
    disk.free()
    served = start("--no-agent", state=state)
    with served.api() as api:
        assert api.get("/jobs")["items_available"] == (0 if is_new else 200)
    assert served.end()[0] == 0
