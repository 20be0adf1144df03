"""The witness itself: what it finds in stories that were made wrong on purpose."""

from __future__ import annotations

from typing import Any

import pytest

from .witness import Line, Record, contradictions

SEED, CHILD, LAST = "task-0", "task-1", "task-2"


def at(second: int) -> str:
    """Return a time of the API."""
    return f"2026-01-01T00:00:{second:02}.000000000Z"


def wall(second: float) -> int:
    """Return the same in microseconds."""
    return int((1767225600 + second) * 1_000_000)


def task(uuid: str, sequence: int, creator: str | None, end: int, attempts: int = 1) -> Record:
    return {
        "uuid": uuid,
        "sequence": sequence,
        "created_by_job_task_uuid": creator,
        "state": "complete",
        "finished_at": at(end),
        "attempts": attempts,
    }


STORY = [task(SEED, 0, None, 2), task(CHILD, 1, SEED, 6, attempts=2), task(LAST, 2, SEED, 8)]


def line(what: str, uuid: str, second: float, attempt: int = 1, *more: str) -> Line:
    sequence = {SEED: 0, CHILD: 1, LAST: 2}.get(uuid, 1)
    return Line(what, uuid, attempt, 100, int(second * 1e9), wall(second), sequence, more)


LINES = [
    line("start", SEED, 1),
    line("created", SEED, 1, 1, CHILD, LAST),
    line("said", SEED, 1.5),
    line("start", CHILD, 3),
    line("created", CHILD, 3, 1, "gone"),
    line("start", CHILD, 5, 2),
    line("said", CHILD, 5.5, 2),
    line("start", LAST, 7),
    line("said", LAST, 7.5),
]


def attempts(uuid: str) -> list[Record]:
    """Each attempt is given to its node in the second in which it starts."""
    return [
        {"number": item.attempt, "assigned_at": at((item.wall - wall(0)) // 1_000_000)}
        for item in LIES + LINES
        if item.what == "start" and item.task == uuid
    ]


LIES: list[Line] = []


def found(*lies: Line, **changes: Any) -> list[str]:
    """Return what is found when lines are added, or the child's record is changed."""
    LIES[:] = lies
    story = [{**item, **changes} if item["uuid"] == CHILD else item for item in STORY]
    return contradictions([*LINES, *lies], story, attempts)


def test_a_true_story_has_no_contradiction() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("lie", "what"),
    [
        (line("start", "gone", 4), "a task that does not exist ran"),
        (line("start", SEED, 1.7), "was started 2 times"),
        (line("start", SEED, 3, 2), "started after its acceptance"),
        (line("start", CHILD, 5.7, 3), "started after its acceptance"),
        (line("said", CHILD, 3.5, 1), "after an acknowledged"),
        (line("created", SEED, 1.8, 1, "lost"), "was lost"),
        (line("created", CHILD, 3.5, 1, LAST), "outlived the attempt"),
        (line("created", CHILD, 5.2, 2, LAST), "has another creator"),
    ],
)
def test_a_lie_is_found(lie: Line, what: str) -> None:
    assert [what in item for item in found(lie)] == [True]


def test_a_broken_order_is_found() -> None:
    """Of records that say that the child was complete later than the last task began."""
    assert ["before task-1 of sequence 1" in item for item in found(finished_at=at(9))] == [True]


def test_an_acceptance_without_a_process_is_found() -> None:
    assert "accepted without a process: attempt 4 of task-1" in found(attempts=4)[0]
