"""`make torture` tries rows one by one, writes down what each reached, and ends in good order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.promises import ROOT, ROWS, Row, read_records
from tests.torture import Interrupt, Tried, keep, main, try_row

LIMIT_SECONDS = 60.0
SHARED = Row("a toy", "It plays.", ("R1",), processes=2)
ALONE = Row("a toy", "It plays.", ("R1",))


def toy(folder: Path, body: str) -> list[str]:
    """Write a test; return it as pytest targets."""
    path = folder / "test_toy.py"
    text = f"import pytest\nfrom tests.rounds import note, rounds, seconds\n\n\n{body}\n"
    path.write_text(text)
    return [str(path)]


def test_rounds_are_shared_and_their_figures_added_up(tmp_path: Path) -> None:
    """Two processes take every second one each."""
    targets = toy(
        tmp_path,
        "def test_toy():\n"
        "    for number in rounds('a toy', 1, 5):\n"
        "        note('a toy', total=number)\n"
        "    assert seconds(1, 1e9) == 90",
    )
    last = try_row(SHARED, targets, 90, Interrupt())
    assert last["passed"]
    assert last["figures"] == {"rounds": 5, "wanted": 5, "total": 10}


def test_time_is_up_after_the_round_that_runs(tmp_path: Path) -> None:
    """At least one; what was reached is less than what was wanted."""
    targets = toy(
        tmp_path, "def test_toy():\n    for _ in rounds('a toy', 1, 10**15):\n        pass"
    )
    last = try_row(ALONE, targets, 0.2, Interrupt())
    assert last["passed"]
    assert 0 < last["figures"]["rounds"] < last["figures"]["wanted"] == 10**15


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def test_toy():\n    next(rounds('a toy', 1, 5))\n    assert 1 == 2", "assert 1 == 2"),
        ("def test_toy():\n    pytest.skip('not here')", "nothing was noted"),
        ("import no_such_module", "no_such_module"),
    ],
    ids=["fails", "skipped", "broken"],
)
def test_what_proves_nothing_has_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, said: str
) -> None:
    """It says so, and why."""
    last = try_row(ALONE, toy(tmp_path, body), 30, Interrupt())
    assert not last["passed"]
    assert said in capsys.readouterr().out


def test_what_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has failed; nothing of it is left."""
    monkeypatch.setattr("tests.torture.HANGS_SECONDS", 0.0)
    targets = toy(tmp_path, "def test_toy():\n    import signal\n    signal.pause()")
    tried = Tried(ALONE, targets, 1.0, tmp_path)
    tried.start()
    assert not tried.wait(Interrupt())
    assert tried.processes[0].returncode is not None


def test_a_failure_does_not_keep_the_others_from_being_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row's result is kept, the page says which is unproven, the exit code is 1."""
    tried = []

    def play(row: Row, targets: list[str], seconds: float, _: Interrupt) -> dict[str, Any]:
        tried.append((row.name, seconds))
        passed = row.name != "two managers"
        return {
            "date": "2026-01-31", "passed": passed, "seconds": 1.0, "cores": 2,
            "python": "3.11.2", "figures": {"rounds": 1},
        }  # fmt: skip

    monkeypatch.setattr("tests.torture.try_row", play)
    records = tmp_path / "figures.json"
    words = ["--records", str(records), "--minutes", "0.5"]
    assert main([*words, "--row", "two managers", "--row", "clocks"]) == 1
    assert tried == [("two managers", 30.0), ("clocks", 30.0)]
    rows = read_records(records)["rows"]
    assert [name for name, row in rows.items() if row["last"]] == ["two managers", "clocks"]
    page = records.with_suffix(".md").read_text()
    assert page.count("*unproven*: failed on 2026-01-31") == 1
    assert main([*words, "--row", "clocks"]) == 0
    assert read_records(records)["rows"]["two managers"]["last"]["passed"] is False


def test_ctrl_c_keeps_what_was_finished(tmp_path: Path) -> None:
    """130; the row that was running is ended with what it had started, and not recorded."""
    records = tmp_path / "figures.json"
    row = next(row for row in ROWS if row.name == "two managers")
    last = {
        "date": "2026-01-31", "passed": True, "seconds": 1.0, "cores": 2, "python": "3.11.2",
        "figures": {"rounds": 1},
    }  # fmt: skip
    keep(row, last, records, records.with_suffix(".md"))
    before = records.read_text()
    command = [sys.executable, "-m", "tests.torture", "--records", str(records)]
    with subprocess.Popen(
        [*command, "--row", "two managers"], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().startswith("two managers: ")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        limit = time.monotonic() + LIMIT_SECONDS
        while not (found := children.read_text().split()):
            assert time.monotonic() < limit
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
        assert process.wait(LIMIT_SECONDS) == 130, said
    assert "the rows before this one are kept" in said
    assert json.loads(records.read_text()) == json.loads(before)
    assert not any(Path(f"/proc/{pid}").exists() for pid in found)
