"""Bars and lines."""

from __future__ import annotations

import io
from typing import Any

import pytest

from jobtasks.cli import progress


def level(sequence: int, done: int, total: int, running: int = 0, failed: int = 0) -> Any:
    return {
        "sequence": sequence,
        "todo": total - done - running - failed,
        "running": running,
        "done": done,
        "failed": failed,
    }


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Now and then a line for what runs, one for each level that is done, nothing twice."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stream = io.StringIO()
    with progress.meter(stream) as meter:
        meter.show([level(0, 1, 1), level(1, 2, 10, running=2, failed=1)])
        meter.show([level(0, 1, 1), level(1, 3, 10, running=2)])
        now[0] += progress.LINE_SECONDS
        meter.show([level(0, 1, 1), level(1, 9, 10, running=1)])
        meter.show([level(0, 1, 1), level(1, 10, 10)])
        meter.say("away")
        meter.say("away")
    assert stream.getvalue().splitlines() == [
        "level 0: 1 of 1 done",
        "level 1: 2 of 10 done, 2 running, 1 failed",
        "level 1: 9 of 10 done, 1 running",
        "level 1: 10 of 10 done",
        "away",
    ]


def test_bars_on_a_terminal() -> None:
    """A bar per level, with counts, and what is said above them."""
    stream = Terminal()
    with progress.meter(stream) as meter:
        meter.say("job J")
        meter.show([level(0, 1, 1), level(1, 2, 10, running=2)])
    text = stream.getvalue()
    assert "job J" in text
    assert "level 0" in text and "1/1" in text
    assert "level 1" in text and "2/10" in text and "2 running" in text


@pytest.mark.parametrize(
    ("done", "shown"), [(0, range(12)), (2, range(12)), (20, range(17, 29)), (40, range(28, 40))]
)
def test_of_many_levels_those_at_work_are_shown(done: int, shown: range) -> None:
    """A screenful around the first level that is not done."""
    levels = [level(n, 1 if n < done else 0, 1) for n in range(40)]
    assert [item["sequence"] for item in progress.near_the_work(levels)] == list(shown)
