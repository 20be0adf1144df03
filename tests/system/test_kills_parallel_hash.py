"""The main example under kill -9: its output is that of md5sum, whoever dies in its course."""

from __future__ import annotations

import itertools
import random
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import SCRIPTS, Served, Start, environment
from .killing import SEED, Killer, moments
from .witness import Record, Witness, contradictions

EXAMPLE = SCRIPTS.parents[2] / "examples" / "parallel_hash" / "parallel_hash.py"
FOREIGN = {"site-packages", "dist-packages"}
FILES = 300
FEW = 20
"""The example as it stands takes much longer for each than its light likeness."""
KILLS = 3
"""Of each."""
LIMIT_SECONDS = 500.0


def sources() -> Iterator[Path]:
    """Yield files of the standard library, as they come."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*")):
        if path.is_file() and not path.is_symlink() and not FOREIGN & set(path.parts):
            yield path


def copied(top: Path, count: int) -> str:
    """Copy so many files of the standard library, in their folders; return what the tools of the
    system say about them.
    """
    library = Path(sysconfig.get_path("stdlib"))
    for path in itertools.islice(sources(), count):
        target = top / path.relative_to(library)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    words = f"find '{top}' -type f -print0 | xargs -0 md5sum | LC_ALL=C sort -k2"
    said = subprocess.run(words, shell=True, capture_output=True, text=True, check=True).stdout
    assert len(said.splitlines()) == count
    return said


def jobtasks(state: Path, *words: object) -> str:
    """Run the command line; return what it prints."""
    command = [sys.executable, "-m", "jobtasks.cli.main", *words, "--state", state]
    ended = subprocess.run(
        [str(word) for word in command],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def submitted(served: Served, script: str, tree: Path, witness: Witness) -> str:
    """Submit a script that hashes a tree and tells the witness; return the job's uuid."""
    words: list[object] = ["submit", SCRIPTS / script, "--input", tree]
    for name, value in (("example", EXAMPLE), ("witness", witness.path)):
        words += ["-p", f"{name}={value}"]
    return jobtasks(served.state, *words, "-c", "output=last").strip()


def checked(served: Served, job: str, md5sum: str, witness: Witness) -> list[Record]:
    """Wait for the end; check output, records and witness; return the tasks."""
    assert jobtasks(served.state, "wait", job) == "Complete\n"
    assert jobtasks(served.state, "job", "output", job) == md5sum
    with served.api() as api:
        tasks = api.tasks(job)
        assert len(tasks) == len(md5sum.splitlines()) + 2
        assert contradictions(witness.lines(), tasks, api.attempts) == []
    failed = sum(task["failed_count"] for task in tasks)
    print(f"{witness.count()} processes, {failed} attempts lost")
    return tasks


@pytest.mark.timeout(LIMIT_SECONDS + 20)
@pytest.mark.rule("R4", "R5", "R10", "R20", "R37")
def test_the_output_is_that_of_md5sum(start: Start, tmp_path: Path) -> None:
    """The example as it stands; each task one process."""
    tree = tmp_path / "tree"
    md5sum = copied(tree, FEW)
    served, witness = start("--slots", "4"), Witness(tmp_path / "witness")
    job = submitted(served, "witnessed_hash.py", tree, witness)
    checked(served, job, md5sum, witness)
    assert witness.count() == FEW + 2


@pytest.mark.timeout(LIMIT_SECONDS + 20)
@pytest.mark.rule("R4", "R5", "R10", "R12", "R20", "R36", "R37")
def test_the_output_is_that_of_md5sum_whoever_is_killed(start: Start, tmp_path: Path) -> None:
    """Hundreds of tasks, nine kills: nothing lost, accepted twice or started after acceptance."""
    tree = tmp_path / "tree"
    md5sum = copied(tree, FILES)
    print(f"KILL_SEED={SEED}")
    chance = random.Random(SEED)
    whom = chance.sample(["server", "agent", "keeper"] * KILLS, 3 * KILLS)
    served, witness = start("--slots", "4"), Witness(tmp_path / "witness")
    killer = Killer(start, served, witness)
    job = submitted(served, "light_hash.py", tree, witness)
    for starts, name in zip(moments(chance, len(whom), FILES), whom, strict=True):
        killer.kill_when(starts, name)
    tasks = checked(killer.served, job, md5sum, witness)
    lost = sum(task["failed_count"] for task in tasks)
    assert lost <= 4 * 2 * KILLS, "each kill of agent or keeper costs what its four slots ran"
