"""How the attempts of a job failed: gathered by cause and message as they end (core/families.py).

A failure costs one statement more, a success none: an attempt's family is written with its end.
"""

from __future__ import annotations

from jobtasks.core.families import (
    OTHERS,
    OTHERS_MESSAGE,
    TAIL_CHARACTERS_MAX,
    Failure,
    Family,
    family_of,
    message_of,
)
from jobtasks.core.retry import Cause
from jobtasks.service import access
from jobtasks.service.context import Caller, Context
from jobtasks.store.base import Value
from jobtasks.store.records import FamilyRecord

FAMILIES_MAX = 200
"""Families of a job; further ones are gathered in one, `OTHERS`."""


def of_job(ctx: Context, caller: Caller, uuid: str) -> list[FamilyRecord]:
    """Return how a job's attempts failed, the most frequent first; at most `FAMILIES_MAX` + 1.

    Raises:
        NotFound: there is no such job, or it is not the caller's to see.
    """
    job = access.visible_job(ctx, caller, uuid)
    return ctx.tx.all(FamilyRecord, "families_of_job", job_id=job.id)


def failure(
    cause: Cause, exit_code: int | None, signal: int | None, said: str, stderr: bytes
) -> Failure:
    """Return what is known of a failed attempt, from what its agent has reported."""
    tail = stderr[-TAIL_CHARACTERS_MAX:].decode(errors="replace")
    return Failure(cause, exit_code, signal, _stored(said), _stored(tail))


def note(ctx: Context, job_id: int, attempt_id: int, failed: Failure, *, is_final: bool) -> int:
    """Count a failed attempt in its family; return the family's id.

    `is_final` says that its task has failed for good by it.
    """
    said = message_of(failed)
    family = family_of(failed, said)
    counts: dict[str, Value] = {
        "job_id": job_id,
        "attempt_id": attempt_id,
        "tasks": int(is_final),
        "now": ctx.now,
        "sample": said,
    }
    known = ctx.tx.value("family_grow", name=family.key, **counts)
    if known is not None:
        return int(known)
    if ctx.tx.value("families_count", job_id=job_id) < FAMILIES_MAX:
        return ctx.tx.add("family_add", name=family.key, **family._asdict(), **counts)
    known = ctx.tx.value("family_grow", name=OTHERS, **counts)
    if known is not None:
        return int(known)
    several = {**Family("", None, None, OTHERS_MESSAGE)._asdict(), "cause": None}
    return ctx.tx.add("family_add", name=OTHERS, **several, **counts)


def recovers(ctx: Context, task_id: int) -> None:
    """Note that a task, failed or not, is about to begin anew or to be deleted."""
    ctx.tx.run("family_recovers", task_id=task_id)


def forget(ctx: Context, task_id: int) -> None:
    """Note that a task is about to be deleted with its attempts."""
    recovers(ctx, task_id)
    ctx.tx.run("family_forgets", task_id=task_id)


def _stored(text: str) -> str:
    """Return a text as a database takes it."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
