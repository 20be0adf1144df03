"""List calls: which rows a caller may see, and one page of them (R41)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from jobtasks.core.filters import Query
from jobtasks.service import access
from jobtasks.service.context import Caller, Context
from jobtasks.store.listing import (
    Scope,
    Statement,
    count_statement,
    job_id_statement,
    named_job,
    page_statement,
    quick_count_statement,
    rows_statement,
)
from jobtasks.store.records import (
    JobRecord,
    LogRecord,
    NodeRecord,
    TaskRecord,
    TokenRecord,
    UserRecord,
)

R = TypeVar("R", JobRecord, TaskRecord, UserRecord, TokenRecord, NodeRecord, LogRecord)
NO_JOB = 0
"""An id that no job has."""
NOBODY = Scope("")
"""Nothing belongs to a user without a name."""


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """One page of a list."""

    items: Sequence[R]
    offset: int
    limit: int
    items_available: int | None
    """Rows that match in all; None when the call did not ask."""


def list_jobs(ctx: Context, caller: Caller, query: Query) -> Page[JobRecord]:
    """Return one page of the jobs that the caller may see."""
    return _page(ctx, query, scope_of(ctx, caller, query), JobRecord)


def list_tasks(ctx: Context, caller: Caller, query: Query) -> Page[TaskRecord]:
    """Return one page of the tasks that the caller may see."""
    return _page(ctx, query, scope_of(ctx, caller, query), TaskRecord)


def list_users(ctx: Context, caller: Caller, query: Query) -> Page[UserRecord]:
    """Return one page of the users: an admin sees all, an agent none, others themselves (R32)."""
    own = NOBODY if caller.role == "agent" else Scope(caller.user_uuid)
    return _page(ctx, query, Scope() if caller.is_admin else own, UserRecord)


def list_tokens(ctx: Context, caller: Caller, query: Query) -> Page[TokenRecord]:
    """Return one page of the tokens: an admin sees all, a user those of his own (R32)."""
    own = Scope(caller.user_uuid) if caller.role == "user" else NOBODY
    return _page(ctx, query, Scope() if caller.is_admin else own, TokenRecord)


def list_nodes(ctx: Context, caller: Caller, query: Query) -> Page[NodeRecord]:
    """Return one page of the nodes: people see all, attempts and agents none (R32)."""
    scope = Scope() if access.may_read_nodes(caller) else NOBODY
    page = _page(ctx, query, scope, NodeRecord)
    return replace(page, items=[access.node_as_seen(caller, node) for node in page.items])


def list_logs(ctx: Context, caller: Caller, query: Query) -> Page[LogRecord]:
    """Return one page of the log entries that the caller may see (R32)."""
    if caller.is_admin:
        return _page(ctx, query, Scope(), LogRecord)
    if caller.role == "attempt":
        return _page(ctx, query, Scope(job_id=caller.job_id), LogRecord)
    own = Scope(caller.user_uuid) if caller.role == "user" else NOBODY
    return _page(ctx, query, own, LogRecord)


def _page(ctx: Context, query: Query, scope: Scope, shape: Callable[..., R]) -> Page[R]:
    ids = _page_ids(ctx, query, scope)
    found = [shape(*row) for row in _rows(ctx, rows_statement(query, ids))] if ids else []
    by_id = {record.id: record for record in found}
    total = _rows(ctx, count_statement(query, scope))[0][0] if query.count else None
    return Page([by_id[row] for row in ids], query.offset, query.limit, total)


def _page_ids(ctx: Context, query: Query, scope: Scope) -> list[int]:
    """Return the ids of a page's rows, in order.

    Where counters say how many there are at all, nobody looks for more: of a million tasks a few
    run, and they are among the first.
    """
    limit = query.limit
    quick = quick_count_statement(query, scope) if query.filters else None
    if quick is not None:
        limit = min(limit, max(0, _rows(ctx, quick)[0][0] - query.offset))
    if not limit:
        return []
    return [row[0] for row in _rows(ctx, page_statement(replace(query, limit=limit), scope))]


def scope_of(ctx: Context, caller: Caller, query: Query) -> Scope:
    """Return the bounds of what is read: an admin sees all, a user what he owns, an attempt its
    job (R32), an agent nothing.
    """
    owner = caller.user_uuid if caller.role == "user" else None
    seen = _seen_job(caller)
    if (uuid := named_job(query)) is None:
        return Scope(owner, seen)
    found = _rows(ctx, job_id_statement(uuid))
    named, owner_of_job = found[0] if found else (NO_JOB, None)
    is_seen = seen in (None, named) and owner in (None, owner_of_job)
    return Scope(job_id=named if is_seen else NO_JOB)


def _seen_job(caller: Caller) -> int | None:
    if caller.role == "attempt":
        return caller.job_id
    return NO_JOB if caller.role == "agent" else None


def _rows(ctx: Context, statement: Statement) -> list[tuple[Any, ...]]:
    return ctx.tx.text(statement.sql, statement.values)
