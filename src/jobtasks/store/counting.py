"""How many of a job's tasks match, from counters where they say it: nobody counts a million rows.

The counters of levels know states; what was written as `success` follows from them, but for the few
tasks that run (R10, R11). A foreign job's manager may write otherwise: there the rows are counted.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobtasks.core.filters import Condition, Term
from jobtasks.core.states import TaskState
from jobtasks.store.base import Value

COUNTERS = {
    TaskState.WAITING.word: "todo",
    TaskState.RUNNING.word: "running",
    TaskState.COMPLETE.word: "done",
    TaskState.FAILED.word: "failed",
}
"""The counter of each state."""
EVERY = " + ".join(COUNTERS.values())
OF_JOBS = "SELECT coalesce(sum(y.todo + y.running + y.done + y.failed), 0) FROM tally AS y"
COMPARED = frozenset({"=", "!=", "<", "<=", ">", ">="})
OF_LEVELS = "SELECT coalesce(sum({counters}), 0) FROM level WHERE job_id = {job_id}{bounds}"
DENIED = "(SELECT count(*) FROM visible_task WHERE job_id = {job_id} AND success = 0)"
ALLOWED = (
    "(SELECT coalesce(sum(done), 0) FROM level WHERE job_id = {job_id})"
    " + (SELECT count(*) FROM attempt AS a JOIN task AS t ON t.id = a.task_id"
    " WHERE a.job_id = {job_id} AND a.state < 3 AND t.state = 1 AND t.success = 1)"
)
SUCCESS = (
    "SELECT CASE WHEN (SELECT managed FROM job WHERE id = {job_id}) = 1 THEN {quick}"
    " ELSE (SELECT count(*) FROM visible_task WHERE job_id = {job_id} AND success IS {value}) END"
)


def counted(conditions: Sequence[Condition], job_id: int) -> str | None:
    """Return the statement that counts a job's tasks that match; None: no counter says it.

    Conditions on state and sequence together, or one on success.
    """
    terms = [condition[0] for condition in conditions if len(condition) == 1]
    if len(terms) < len(conditions):
        return None
    if len(terms) == 1 and terms[0].attribute.name == "success" and terms[0].operator == "=":
        return _by_success(terms[0], job_id)
    bounds, counters = "", EVERY
    for term in terms:
        if _is_of_sequence(term):
            bounds += f" AND sequence {term.operator} {int(term.operand)}"
        elif term.attribute.name == "state" and term.operator == "=" and counters == EVERY:
            counters = COUNTERS.get(str(term.operand), "0")
        else:
            return None
    return OF_LEVELS.format(counters=counters, job_id=int(job_id), bounds=bounds)


def counted_of_all(owner_uuid: str | None) -> tuple[str, dict[str, Value]]:
    """Return the statement, and its values, that counts all tasks, or those of one owner's jobs."""
    if owner_uuid is None:
        return OF_JOBS, {}
    jobs = "(SELECT id FROM job WHERE owner_uuid = :owner)"
    return f"{OF_JOBS} WHERE y.job_id IN {jobs}", {"owner": owner_uuid}


def _is_of_sequence(term: Term) -> bool:
    """Return whether it compares the sequence, which is never null, with a number."""
    is_number = isinstance(term.operand, int)
    return term.attribute.name == "sequence" and term.operator in COMPARED and is_number


def _by_success(term: Term, job_id: int) -> str:
    if term.operand is None:
        quick = f"({OF_LEVELS.format(counters=EVERY, job_id=job_id, bounds='')})"
        quick += f" - {DENIED} - ({ALLOWED})"
    else:
        quick = ALLOWED if term.operand else DENIED
    value = "NULL" if term.operand is None else str(int(term.operand))
    return SUCCESS.format(quick=quick.format(job_id=job_id), job_id=job_id, value=value)
