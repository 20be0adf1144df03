"""Finds the job that a new one would repeat (core/reuse.py), in the transaction of the create."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobtasks.core import reuse
from jobtasks.core.filters import Condition, Query, parse_filters
from jobtasks.core.resources import RESOURCES
from jobtasks.core.reuse import Candidate, Reuse
from jobtasks.service.context import Caller, Context
from jobtasks.service.listing import scope_of
from jobtasks.store.listing import reuse_statement

CANDIDATES_MAX = 1000
"""Jobs that one create looks at; those under way first, then the oldest."""
JOBS = RESOURCES["jobs"]


def find(ctx: Context, caller: Caller, job: Mapping[str, Any], asked: Reuse) -> str | None:
    """Return the UUID of a job that does as well as `job`, the columns of a new one, or None.

    Raises:
        Invalid: the given filters cannot be read, or do not tell jobs apart.
    """
    query = Query(JOBS, filters=_conditions(job, asked))
    statement = reuse_statement(
        query,
        scope_of(ctx, caller, query),
        job["script_parameters_digest"],
        job["command"],
        caller.user_uuid,
        CANDIDATES_MAX,
    )
    rows = ctx.tx.text(statement.sql, statement.values)
    return reuse.choose(Candidate._make(row) for row in rows)


def _conditions(job: Mapping[str, Any], asked: Reuse) -> tuple[Condition, ...]:
    given = parse_filters(JOBS, asked.filters)
    if not given:
        return parse_filters(JOBS, reuse.own_filters(asked, job))
    reuse.require_named(term.attribute.name for condition in given for term in condition)
    return given
