"""What is to be said of a foreign job, and where no manager of ours works (R7b, R31)."""

from __future__ import annotations

from jobtasks.core.reasons import Reason
from jobtasks.core.states import JobState, TaskState


def foreign_job(uuid: str, state: JobState, locked_by: str | None) -> Reason:
    """Return whose business it is that the job goes on."""
    lock = f", locked by {locked_by}" if locked_by else ""
    text = (
        f"Job {uuid} is {state.value}{lock}. Its own manager runs it: ours does not start its"
        " tasks, try them again or end it."
    )
    lift = None if state.is_final else "That manager goes on with it."
    details = {"job": uuid, "state": state.value, "is_locked_by_uuid": locked_by}
    return Reason("foreign", text, lift, details)


def foreign_task(state: TaskState, job: Reason) -> list[Reason]:
    """Return what is known of a task of such a job: what its manager wrote."""
    text = f"Its job's own manager has it as {state.word}."
    return [Reason("foreign_task", text, job.lift, {"state": state.word}), job]


def no_manager(uuid: str) -> Reason:
    """Return why a queued job of ours is not started: the server was told to start none."""
    text = f"Job {uuid} is queued, and this server starts no jobs (--no-manager)."
    lift = "Lock it and run it yourself, or serve without --no-manager."
    return Reason("no_manager", text, lift, {"job": uuid})
