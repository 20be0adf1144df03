"""Foreign jobs, which a manager of their own runs: what a write of theirs means (R7b, R17).

Arvados kept a job's state twice: as ``state``, and as ``running``, ``success``, ``cancelled_at``.
Old managers write the latter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jobtasks.core.errors import Invalid
from jobtasks.core.states import JobState, TaskState, job_flags
from jobtasks.core.verdict import Verdict, judge, with_progress

FLAGS = ("cancelled_at", "success", "running")
"""A job's state in old words."""
LOCKED = frozenset(
    {
        *("script", "script_parameters", "script_version", "started_at", "finished_at", "state"),
        *("running", "success", "output", "log", "tasks_summary", "components", "cancelled_at"),
    }
)
"""What only the holder of a job's lock may change."""
LOCATOR = re.compile(r"([0-9a-f]{32}\+\d+)(\+\S*)?")
"""The address of a collection: a hash, a size, and hints for whom it was given to."""


def state_asked(old: JobState, given: Mapping[str, Any]) -> JobState:
    """Return the state that a write asks for; `old` when it asks for no other.

    `given` holds typed values. Flags that change decide, unless they say nothing or what ``state``
    says too: cancelled, then failed, then complete, then running.

    Raises:
        Invalid: there is no such state.
    """
    state = _state(given.get("state"), old)
    running, success = job_flags(old)
    current = {"cancelled_at": old is JobState.CANCELLED, "success": success, "running": running}
    asked = {name: _flag(name, given[name]) for name in FLAGS if name in given}
    if all(asked[name] == current[name] for name in asked):
        return state
    of_flags = _state_of({**current, **asked})
    if state is old or (of_flags is not JobState.QUEUED and not _says(state, asked)):
        return of_flags
    return state


def _state(value: Any, old: JobState) -> JobState:
    if value is None:
        return old
    if not isinstance(value, str) or value not in tuple(JobState):
        raise Invalid(f"state must be one of {', '.join(JobState)}")
    return JobState(value)


def _flag(name: str, value: Any) -> bool | None:
    return value if name == "success" else bool(value)


def _state_of(flags: Mapping[str, Any]) -> JobState:
    if flags["cancelled_at"]:
        return JobState.CANCELLED
    if flags["success"] is not None:
        return JobState.COMPLETE if flags["success"] else JobState.FAILED
    return JobState.RUNNING if flags["running"] else JobState.QUEUED


def _says(state: JobState, asked: Mapping[str, Any]) -> bool:
    """Return whether the flags that a write names are those of the state that it names."""
    running, success = job_flags(state)
    flags = {"cancelled_at": state is JobState.CANCELLED, "success": success, "running": running}
    return all(flags[name] == asked[name] for name in asked)


def times_of_state(
    state: JobState, times: Mapping[str, int | None], now: int
) -> dict[str, int | None]:
    """Return `started_at` and `finished_at`, set by the state where nobody has set them."""
    started_at, finished_at = times["started_at"], times["finished_at"]
    if state is JobState.RUNNING and started_at is None:
        started_at = now
    if state in (JobState.COMPLETE, JobState.FAILED) and finished_at is None:
        finished_at = now
    return {"started_at": started_at, "finished_at": finished_at}


def without_hints(text: str | None) -> str | None:
    """Return a collection's address as hash and size; any other text as it is."""
    found = LOCATOR.fullmatch(text) if text else None
    return found[1] if found else text


def task_state(
    *, progress: float | None, success: bool | None, started_at: int | None, finished_at: int | None
) -> TaskState:
    """Return the state that a foreign task's record amounts to."""
    verdict = judge(progress, success)
    if verdict is not Verdict.TEMPORARY:
        return TaskState.COMPLETE if verdict is Verdict.COMPLETE else TaskState.FAILED
    is_running = started_at is not None and finished_at is None
    return TaskState.RUNNING if is_running else TaskState.WAITING


def settle_task(record: Mapping[str, Any], given: Mapping[str, Any], now: int) -> dict[str, Any]:
    """Return a foreign task's values after a write, `state` among them as `TaskState`.

    `record` holds the values before, `given` the typed values that the write names. A ``state``
    that is named stands for what amounts to it; what the write names besides goes before that.

    Raises:
        Invalid: the values contradict each other, or are out of range.
    """
    word = given.get("state")
    named = with_progress({name: value for name, value in given.items() if name != "state"})
    values = {**record, **(_meant(word, record, now) if word is not None else {}), **named}
    _check_progress(values["progress"])
    state = task_state(
        progress=values["progress"],
        success=values["success"],
        started_at=values["started_at"],
        finished_at=values["finished_at"],
    )
    if word is not None and state.word != word:
        raise Invalid(f"state {word} contradicts the other values, which amount to {state.word}")
    return {**_failures(values, given, now), "state": state}


def _meant(word: str, record: Mapping[str, Any], now: int) -> dict[str, Any]:
    """Return the values that a state stands for."""
    undecided = {"success": None, "finished_at": None}
    ended = {"finished_at": record["finished_at"] or now}
    meanings: Mapping[str, dict[str, Any]] = {
        TaskState.WAITING.word: {**undecided, "started_at": None},
        TaskState.RUNNING.word: {**undecided, "started_at": record["started_at"] or now},
        TaskState.COMPLETE.word: {**ended, "success": True, "progress": 1.0},
        TaskState.FAILED.word: {**ended, "success": False},
    }
    if word not in meanings:
        raise Invalid(f"state must be one of {', '.join(meanings)}")
    return meanings[word]


def _check_progress(progress: float | None) -> None:
    if progress is not None and not 0.0 <= progress <= 1.0:
        raise Invalid("progress must be a number from 0 to 1, or null")


def _failures(values: dict[str, Any], given: Mapping[str, Any], now: int) -> dict[str, Any]:
    """Return the values with `failed_at` and `failed_log` as `failed_count` has them (R13)."""
    if values["failed_count"]:
        return {**values, "failed_at": now if values["failed_at"] is None else values["failed_at"]}
    if given.get("failed_at") is not None or given.get("failed_log"):
        raise Invalid("failed_at and failed_log need a failed_count above 0 (R13)")
    return {**values, "failed_at": None, "failed_log": None}
