"""The examples `map` and `grid_search`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
GRID_SEARCH = ROOT / "examples" / "grid_search" / "grid_search.py"
WORDS = ROOT / "examples" / "map" / "words.sh"
PLAIN = r"""find "$1" -type f -name '*.md' -exec cat {} + |
tr -cs '[:alpha:]' '\n' | tr '[:upper:]' '[:lower:]' |
grep . | sort | uniq -c | sort -k1,1nr -k2 | head -n 10"""

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.mark.parametrize("options", [[], ["--keep-order", "-j", "1"]])
def test_the_words_are_those_of_a_plain_pipeline(
    options: list[str], tmp_path: Path, environment: dict[str, str]
) -> None:
    """One task per file, names with spaces and quotes too; the README shows the same pipeline."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for number, name in enumerate(["a b", "it's", "c", "é"]):
        text = "The tasks wait. Tasks run: the job, the " + "end " * number
        (folder / f"{name}.md").write_text(text + "\n")
    (folder / "ignored.txt").write_text("ignored")
    environment = {**environment, "XDG_DATA_HOME": str(tmp_path / "data")}
    ended = subprocess.run(
        [WORDS, folder, *options], env=environment, capture_output=True, timeout=100
    )
    print(ended.stderr.decode())
    plain = subprocess.run(["sh", "-c", PLAIN, "sh", folder], capture_output=True, check=True)
    assert ended.stdout == plain.stdout
    assert ended.stdout.split()[:2] == [b"12", b"the"]
    readme = (WORDS.parent / "README.md").read_text()
    assert WORDS.read_text().splitlines()[-1].strip() in readme


@pytest.mark.rule("R5", "R20")
def test_the_best_combination_comes_first(run: Run) -> None:
    """Each combination once, sorted by what cross-validation says."""
    grid = {"C": [1, 0.001], "gamma": [0.05]}
    ended = run(GRID_SEARCH, "-p", f"grid={json.dumps(grid)}", "-p", "folds=3")
    assert ended.returncode == 0
    results: list[Any] = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [(result["C"], result["gamma"]) for result in results] == [(1, 0.05), (0.001, 0.05)]
    assert results[0]["accuracy"] > 0.9 > results[1]["accuracy"]


@pytest.mark.rule("R11")
def test_what_the_model_refuses_is_not_tried_again(run: Run) -> None:
    """A value out of range fails for good, with scikit-learn's own words."""
    ended = run(GRID_SEARCH, "-p", 'grid={"C": [-1]}')
    assert ended.returncode == 1
    assert b"The 'C' parameter of" in ended.stderr
    assert b"after 1 attempt" in ended.stderr


def test_without_scikit_learn_it_says_so(run: Run, tmp_path: Path) -> None:
    """Before any task is made; here it looks for a package that nobody has."""
    text = GRID_SEARCH.read_text()
    missing = text.replace('find_spec("sklearn")', 'find_spec("no_such_package")')
    assert missing != text
    script = tmp_path / "grid_search.py"
    script.write_text(missing)
    script.chmod(0o755)
    ended = run(script)
    assert ended.returncode == 1
    assert b"this Python has no scikit-learn" in ended.stderr
