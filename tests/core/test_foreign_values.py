"""What writes to foreign jobs and their tasks mean, from values (R7b, R17)."""

from __future__ import annotations

from typing import Any

import pytest

from jobtasks.core.constraints import check_foreign
from jobtasks.core.errors import Invalid
from jobtasks.core.foreign import (
    settle_task,
    state_asked,
    task_state,
    times_of_state,
    without_hints,
)
from jobtasks.core.resources import RESOURCES, of_foreign
from jobtasks.core.states import JobState, TaskState
from jobtasks.core.timestamps import parse_time
from jobtasks.service.foreign_tasks import FIRST

Q, R, C, F, X = "Queued", "Running", "Complete", "Failed", "Cancelled"
NOW = 7_000_000


@pytest.mark.rule("R7b", "R17")
@pytest.mark.parametrize(
    ("old", "given", "asked"),
    [
        (Q, {}, Q),
        (Q, {"state": None}, Q),
        (Q, {"state": R}, R),
        (Q, {"running": True}, R),
        (Q, {"running": False, "success": None, "cancelled_at": None}, Q),
        (Q, {"success": True}, C),
        (Q, {"success": False}, F),
        (Q, {"cancelled_at": 5}, X),
        (Q, {"success": False, "running": True}, F),
        (Q, {"success": True, "cancelled_at": 5}, X),
        (R, {"running": True}, R),
        (R, {"running": False}, Q),
        (R, {"running": False, "success": True}, C),
        (R, {"running": False, "success": False}, F),
        (R, {"state": C, "running": False}, C),
        (R, {"state": C, "running": True, "success": None, "cancelled_at": None}, C),
        (R, {"state": C, "success": True}, C),
        (R, {"state": C, "success": False}, F),
        (R, {"state": X, "success": False, "running": False, "cancelled_at": 5}, X),
        (R, {"state": R, "success": True}, C),
        (C, {"success": True, "running": False}, C),
        (C, {"success": None}, Q),
        (F, {"success": True}, C),
        (X, {"cancelled_at": 9}, X),
        (X, {"cancelled_at": None}, F),
        (X, {"state": X, "cancelled_at": None}, F),
        (X, {"state": R}, R),
    ],
    ids=str,
)
def test_the_state_that_a_write_asks_for(old: str, given: dict[str, Any], asked: str) -> None:
    """Flags that change decide, cancelled first; a state goes along with flags that say no more."""
    assert state_asked(JobState(old), given) == asked


@pytest.mark.rule("R8")
@pytest.mark.parametrize("state", ["running", "", "Done"])
def test_a_state_that_is_none_is_refused(state: str) -> None:
    """One sentence names those that there are."""
    with pytest.raises(Invalid, match="Queued, Running, Complete"):
        state_asked(JobState.QUEUED, {"state": state})


@pytest.mark.rule("R17")
def test_times_follow_the_state_where_nobody_set_them() -> None:
    """A start and an end; cancelling is none."""
    none: dict[str, int | None] = {"started_at": None, "finished_at": None}
    assert times_of_state(JobState.RUNNING, none, NOW) == {"started_at": NOW, "finished_at": None}
    assert times_of_state(JobState.FAILED, none, NOW) == {"started_at": None, "finished_at": NOW}
    assert times_of_state(JobState.CANCELLED, none, NOW) == none
    given: dict[str, int | None] = {"started_at": 1, "finished_at": 2}
    assert times_of_state(JobState.COMPLETE, given, NOW) == given


def test_hints_of_a_collections_address_are_left_out() -> None:
    """Hash and size stay; any other text stays as it is."""
    bare = "d41d8cd98f00b204e9800998ecf8427e+0"
    assert without_hints(bare + "+K@zzzzz+Aabc@123") == bare
    for text in (bare, "42\n", "d41d8+0+K@x", "", None):
        assert without_hints(text) == text


@pytest.mark.rule("R7b")
@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({}, TaskState.WAITING),
        ({"started_at": 1}, TaskState.RUNNING),
        ({"started_at": 1, "finished_at": 2}, TaskState.WAITING),
        ({"success": True, "progress": 1.0}, TaskState.COMPLETE),
        ({"success": True, "progress": 0.5, "started_at": 1}, TaskState.RUNNING),
        ({"success": False, "progress": 1.0}, TaskState.FAILED),
        ({"progress": 1.0}, TaskState.WAITING),
    ],
    ids=str,
)
def test_the_state_of_a_foreign_task(values: dict[str, Any], state: TaskState) -> None:
    """Follows from what was written, as for tasks of ours (R10, R11)."""
    none = {"progress": None, "success": None, "started_at": None, "finished_at": None}
    assert task_state(**(none | values)) is state


def settled(given: dict[str, Any], **record: Any) -> dict[str, Any]:
    """Return what a write leaves of a task, as far as it differs from the first values."""
    values = settle_task({**FIRST, **record}, given, NOW)
    return {name: value for name, value in values.items() if FIRST.get(name) != value}


@pytest.mark.rule("R7b", "R9", "R13")
def test_what_a_write_leaves() -> None:
    """A state stands for its values; success brings progress; failures keep together."""
    waiting, running = TaskState.WAITING, TaskState.RUNNING
    assert settled({"state": "running"}) == {"started_at": NOW, "state": running}
    assert settled({"state": "running"}, started_at=3) == {"started_at": 3, "state": running}
    complete = {"success": True, "progress": 1.0, "state": TaskState.COMPLETE}
    assert settled({"success": True}) == complete
    assert settled({"state": "complete"}) == complete | {"finished_at": NOW}
    failed = {"success": False, "state": TaskState.FAILED, "finished_at": NOW}
    assert settled({"state": "failed"}) == failed
    again = settled({"state": "waiting", "failed_count": 1}, success=False, started_at=3)
    assert again == {"failed_count": 1, "failed_at": NOW, "state": waiting}
    assert settled({"failed_count": 2}, failed_count=1, failed_at=5)["failed_at"] == 5
    assert settled({"failed_count": 0}, failed_count=1, failed_at=5) == {"state": waiting}


@pytest.mark.rule("R7b", "R8", "R13")
@pytest.mark.parametrize(
    "given",
    [
        {"state": "done"},
        {"state": "complete", "success": False},
        {"state": "running", "success": True},
        {"progress": 1.5},
        {"progress": -0.1},
        {"failed_at": 5},
        {"failed_log": "x"},
        {"failed_log": "x", "failed_count": 0},
    ],
    ids=str,
)
def test_a_write_that_contradicts_itself_is_refused(given: dict[str, Any]) -> None:
    """422, whatever was there."""
    with pytest.raises(Invalid):
        settle_task(FIRST, given, NOW)


@pytest.mark.rule("R30")
def test_constraints_of_a_foreign_job() -> None:
    """What is reserved here is kept for its own manager; wrong types are refused all the same."""
    check_foreign({"docker_image": "debian", "min_gpus_per_task": 2, "min_nodes": 3}, is_job=True)
    for wrong in ({"min_nodes": "many"}, {"max_nodes": 1, "min_nodes": 2}):
        with pytest.raises(Invalid):
            check_foreign(wrong, is_job=True)
    with pytest.raises(Invalid, match="belongs to the job"):
        check_foreign({"on_failure": "finish"}, is_job=False)


@pytest.mark.rule("R7b")
def test_what_a_foreign_jobs_manager_may_change() -> None:
    """Of a task everything but its names, its owner and what the server computes."""
    tasks, jobs = of_foreign(RESOURCES["job_tasks"]), of_foreign(RESOURCES["jobs"])
    assert tasks == FIRST.keys() | {"state"}
    assert {"state", "is_locked_by_uuid", "tasks_summary", "script"} <= jobs
    assert not jobs & {"uuid", "owner_uuid", "submit_id", "created_at", "queue_position"}


def test_a_time_as_old_managers_write_it() -> None:
    """As `asctime` does, in UTC."""
    assert parse_time("Wed Nov  9 17:56:12 2016") == parse_time("2016-11-09T17:56:12Z")
    with pytest.raises(ValueError, match="does not match"):
        parse_time("Wed Nov 2016")
