"""The witness: what processes did, and whether the records tell the same story.

Every test task appends lines to a file outside the system (scripts/note.py). `contradictions`
compares them with the API's records.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

Record = dict[str, Any]


class Line(NamedTuple):
    """One line of the witness; `wall` is Unix time in microseconds."""

    what: str
    task: str
    attempt: int
    pid: int
    monotonic: int
    wall: int
    sequence: int
    more: tuple[str, ...]


def parse(text: str) -> Line:
    """Return a line taken apart."""
    what, task, attempt, pid, monotonic, wall, sequence, *more = text.split()
    numbers = map(int, (attempt, pid, monotonic, wall, sequence))
    return Line(what, task, *numbers, tuple(more))  # type: ignore[arg-type, call-arg]


class Witness:
    """The file, and what is asked of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, what: str = "", task: str = "") -> list[Line]:
        """Return the whole lines so far, all or those of one kind, of one task."""
        text = self.path.read_text() if self.path.exists() else ""
        whole = text[: text.rfind("\n") + 1].splitlines()
        found = (parse(line) for line in whole)
        return [line for line in found if what in ("", line.what) and task in ("", line.task)]

    def count(self, what: str = "start") -> int:
        """Return how many lines of a kind there are."""
        text = "\n" + self.path.read_text() if self.path.exists() else ""
        return text.count(f"\n{what} ")

    def most_at_once(self) -> int:
        """Return how many processes ran at the same time at most, of those that noted their end."""
        running = most = 0
        for line in self.lines():
            running += {"start": 1, "end": -1}.get(line.what, 0)
            most = max(most, running)
        return most


Attempts = Callable[[str], list[Record]]


def contradictions(lines: list[Line], tasks: list[Record], attempts: Attempts) -> list[str]:
    """Return each way in which the witness contradicts the records of a job's tasks.

    `attempts` gives the records of a task's attempts. To be asked when the job is final. [] means:
    no task started after its acceptance, no child of a dead attempt ever ran or exists, the order
    of sequences was kept, each task was accepted once, by the attempt whose verdict was
    acknowledged, and no attempt ran twice.
    """
    story = {task["uuid"]: task for task in tasks}
    return [
        *_strangers(lines, story),
        *_double_starts(lines),
        *_after_acceptance(lines, story),
        *_wrong_acceptances(lines, story),
        *_children(lines, story),
        *_order(lines, story, attempts),
    ]


def _strangers(lines: list[Line], story: dict[str, Record]) -> Iterator[str]:
    for line in lines:
        if line.task not in story:
            yield f"a task that does not exist ran: {line}"


def _double_starts(lines: list[Line]) -> Iterator[str]:
    starts = Counter((line.task, line.attempt) for line in lines if line.what == "start")
    for (task, attempt), count in starts.items():
        if count > 1:
            yield f"attempt {attempt} of {task} was started {count} times"


def _after_acceptance(lines: list[Line], story: dict[str, Record]) -> Iterator[str]:
    for line in lines:
        task = story.get(line.task)
        if task is None or line.what != "start" or task["state"] != "complete":
            continue
        if line.attempt > task["attempts"] or line.wall > microseconds(task["finished_at"]):
            yield f"started after its acceptance at {task['finished_at']}: {line}"


def _wrong_acceptances(lines: list[Line], story: dict[str, Record]) -> Iterator[str]:
    """Yield verdicts that were acknowledged and do not count, and acceptances without a process."""
    started = {(line.task, line.attempt) for line in lines if line.what == "start"}
    for uuid, task in story.items():
        if task["state"] == "complete" and (uuid, task["attempts"]) not in started:
            yield f"accepted without a process: attempt {task['attempts']} of {uuid}"
    for line in lines:
        found = story.get(line.task)
        if line.what != "said" or found is None or found["state"] != "complete":
            continue
        if line.attempt != found["attempts"]:
            yield f"attempt {found['attempts']} was accepted after an acknowledged {line}"


def _children(lines: list[Line], story: dict[str, Record]) -> Iterator[str]:
    for line in lines:
        if line.what != "created" or line.task not in story:
            continue
        creator = story[line.task]
        accepted = creator["state"] == "complete" and line.attempt == creator["attempts"]
        for uuid in line.more:
            if accepted and uuid not in story:
                yield f"{uuid} was lost: {line}"
            elif not accepted and uuid in story:
                yield f"{uuid} outlived the attempt that created it: {line}"
            elif accepted and story[uuid]["created_by_job_task_uuid"] != line.task:
                yield f"{uuid} has another creator: {line}"


def _order(lines: list[Line], story: dict[str, Record], attempts: Attempts) -> Iterator[str]:
    """Yield starts before a lower sequence was complete, as far as it was published by then.

    A task that was given to its node just before that may start a moment after it.
    """
    levels: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
    for uuid, task in story.items():
        creator = story.get(task["created_by_job_task_uuid"] or "")
        published = microseconds(creator["finished_at"]) if creator else 0
        finished = microseconds(task["finished_at"]) if task["state"] == "complete" else 2**62
        levels[task["sequence"]].append((finished, published, uuid))
    for level in levels.values():
        level.sort()
    for line in lines:
        if line.what != "start":
            continue
        for sequence in (level for level in levels if level < line.sequence):
            level = levels[sequence]
            for _, published, uuid in level[bisect(level, line.wall, key=itemgetter(0)) :]:
                if published <= line.wall and published <= _given_at(line, attempts):
                    yield f"started before {uuid} of sequence {sequence} was complete: {line}"


def _given_at(line: Line, attempts: Attempts) -> int:
    """Return when the attempt of a line was given to its node."""
    found = [item for item in attempts(line.task) if item["number"] == line.attempt]
    return microseconds(found[0]["assigned_at"])


def microseconds(time: str | None) -> int:
    """Return a time of the API as Unix time in microseconds; far away when there is none."""
    if time is None:
        return 2**62
    whole, _, fraction = time.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole + "+00:00").timestamp())
    return seconds * 1_000_000 + int((fraction + "000000")[:6])
