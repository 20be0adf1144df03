"""A job on its way in: what is known of it while its slices come (service/imports.py)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jobtasks.core.job_stream import JobLine
from jobtasks.core.packs import Pack
from jobtasks.service import access, arrivals
from jobtasks.service.context import Caller, Context
from jobtasks.service.imported_job import Columns
from jobtasks.store.records import JobRecord

KEPT = 4096
"""Batches and nodes that are known without asking. Of a batch that is forgotten another begins."""


class OpenBatch(NamedTuple):
    """A batch that tasks of this job go to."""

    id: int
    shape_id: int


@dataclass(slots=True)
class Import:
    """A job that arrives; each slice follows the one before."""

    arrival_id: int
    job: JobRecord
    """What batches need of it; it is on no record yet."""
    line: JobLine
    columns: Columns
    owner_by: str
    """"uuid", "email", or "importer"."""
    resumes: bool
    scripts: str | None = None
    """What became of its script's directory: "came", "here" already, "missing"; None: no such."""
    pack: Pack | None = None
    """What that holds here, for a job that is queued at once and whose own is missing."""
    after: int = -1
    """The qsequence of its last task so far."""
    tasks: int = 0
    families: dict[str, int] = field(default_factory=dict)
    batches: OrderedDict[Any, OpenBatch] = field(default_factory=OrderedDict)
    nodes: OrderedDict[str, int] = field(default_factory=OrderedDict)

    @property
    def managed(self) -> bool:
        """Whether our manager runs it."""
        return bool(self.job.managed)


def hear(ctx: Context, caller: Caller, arriving: Import) -> None:
    """Note that an import goes on.

    Raises:
        Forbidden: the caller is no administrator (any more).
        Unavailable: it was given up.
    """
    access.require_admin(caller, "import a job")
    arrivals.hear(ctx, arriving.arrival_id)


def keep(known: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    """Keep what was found, and forget what was not asked for for longest."""
    if len(known) >= KEPT:
        known.popitem(last=False)
    known[key] = value
