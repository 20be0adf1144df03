"""Which jobs have tasks that may start now, read as far as a claim needs it.

Mostly few lanes are live: they are read at once, and the rest is arithmetic. Of many the highest
priority is read first, of it each user's first job, and of a user as many jobs as there are turns:
so the cost does not depend on how many jobs wait.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from jobtasks.core.constraints import Needs
from jobtasks.service import shapes
from jobtasks.service.context import Context
from jobtasks.service.ledger import Ledger

FEW = 8
"""So many live lanes are read as they are."""


class Lane(NamedTuple):
    """Ready tasks of one job, sequence and shape."""

    job_id: int
    sequence: int
    shape_id: int
    has_due: bool = True
    """Whether some may have waited for another attempt."""


class Shape(NamedTuple):
    """A distinct set of needs."""

    id: int
    needs: Needs


class OwnerRow(NamedTuple):
    """A user whose jobs have tasks of a shape ready."""

    priority: int
    owner_uuid: str
    owner_slots: int
    slots: int
    """Of the job whose turn comes first."""
    job_id: int


@dataclass(order=True)
class Contender:
    """A job that wants slots; ordered as its user's jobs take turns."""

    slots: int
    job_id: int
    lanes: list[Lane] = field(compare=False)


class ReadyJobs(Protocol):
    """The jobs that have tasks of some shapes ready."""

    def owners(self, below: float) -> list[OwnerRow]:
        """Return whose jobs are of the highest priority below `below`, each with his first job."""
        ...

    def jobs(self, priority: int, owner_uuid: str) -> Iterator[Contender]:
        """Yield an owner's jobs of one priority, in order of their turns."""
        ...


class LaneRow(NamedTuple):
    """A live lane as it is stored, with what is known of its owner and shape."""

    job_id: int
    sequence: int
    shape_id: int
    priority: int
    owner_uuid: str
    slots: int
    owner_slots: int
    has_due: int
    needs: str


class FewLanes:
    """All lanes that are live."""

    def __init__(self, rows: Iterable[LaneRow], moved_slots: Mapping[int, int]) -> None:
        """`moved_slots`: by how much the slots of jobs differ from what is stored."""
        rows = list(rows)
        owners = {row.job_id: row.owner_uuid for row in rows}
        moved: dict[str, int] = defaultdict(int)
        for job_id, count in moved_slots.items():
            moved[owners[job_id]] += count
        self._rows = [
            row._replace(
                slots=row.slots + moved_slots.get(row.job_id, 0),
                owner_slots=row.owner_slots + moved[row.owner_uuid],
            )
            for row in rows
        ]

    def shapes(self) -> list[Shape]:
        """Return the distinct shapes of tasks that may start now."""
        found = {row.shape_id: row.needs for row in self._rows}
        return [Shape(number, shapes.decode_needs(needs)) for number, needs in found.items()]

    def ready(self, shape_ids: Collection[int], page: int) -> ReadyJobs:
        """Return the jobs that have tasks of these shapes ready."""
        return FewReadyJobs([row for row in self._rows if row.shape_id in shape_ids])


class FewReadyJobs:
    """See `ReadyJobs`; in memory."""

    def __init__(self, rows: list[LaneRow]) -> None:
        self._rows = rows

    def owners(self, below: float) -> list[OwnerRow]:
        """Return whose jobs are of the highest priority below `below`, each with his first job."""
        rows = [row for row in self._rows if row.priority < below]
        top = max((row.priority for row in rows), default=0)
        return [
            OwnerRow(row.priority, row.owner_uuid, row.owner_slots, row.slots, row.job_id)
            for row in rows
            if row.priority == top
        ]

    def jobs(self, priority: int, owner_uuid: str) -> Iterator[Contender]:
        """Yield an owner's jobs of one priority, in order of their turns."""
        found: dict[tuple[int, int], list[Lane]] = defaultdict(list)
        for row in self._rows:
            if row.priority == priority and row.owner_uuid == owner_uuid:
                lane = Lane(row.job_id, row.sequence, row.shape_id, bool(row.has_due))
                found[row.slots, row.job_id].append(lane)
        for key in sorted(found):
            yield Contender(*key, found[key])


class ManyLanes:
    """Lanes that are read on as turns are taken."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def shapes(self) -> list[Shape]:
        """Return the distinct shapes of tasks that may start now."""
        return self._ctx.tx.all(_shape, "shapes_live")

    def ready(self, shape_ids: Collection[int], page: int) -> ReadyJobs:
        """Return the jobs that have tasks of these shapes ready, read `page` at a time."""
        return ManyReadyJobs(self._ctx, shape_ids, page)


class ManyReadyJobs:
    """See `ReadyJobs`; by statements."""

    def __init__(self, ctx: Context, shape_ids: Collection[int], page: int) -> None:
        self._ctx = ctx
        self._shape_ids = list(shape_ids)
        self._page = page

    def owners(self, below: float) -> list[OwnerRow]:
        """Return whose jobs are of the highest priority below `below`, each with his first job."""
        if not self._shape_ids:
            return []
        wanted = msgspec.json.encode(self._shape_ids).decode()
        return self._ctx.tx.all(OwnerRow, "turn_owners", shape_ids=wanted, below=below)

    def jobs(self, priority: int, owner_uuid: str) -> Iterator[Contender]:
        """Yield an owner's jobs in order, reading on as needed.

        A job that cannot use a free slot has attempts on this node, or has all its nodes elsewhere:
        so few jobs are passed over, however many wait.
        """
        after = (-1, 0)
        while True:
            pages = [
                self._ctx.tx.all(
                    _keyed,
                    "turn_lanes",
                    shape_id=shape_id,
                    priority=priority,
                    owner_uuid=owner_uuid,
                    after_slots=after[0],
                    after_job=after[1],
                    limit=self._page,
                )
                for shape_id in self._shape_ids
            ]
            found: dict[tuple[int, int], list[Lane]] = defaultdict(list)
            for key, lane in (row for page in pages for row in page):
                found[key].append(lane)
            ends = [page[-1][0] for page in pages if len(page) == self._page]
            complete_to = min(ends, default=None)
            for key in sorted(found):
                if complete_to is None or key <= complete_to:
                    yield Contender(*key, found[key])
            if complete_to is None:
                return
            after = complete_to


def read(ctx: Context, ledger: Ledger, only_job: int | None = None) -> FewLanes | ManyLanes:
    """Return the lanes that are live, of all jobs or of one, with what the ledger has noted.

    It is written first, unless lanes and all they stand for stay as they are: tasks have ended that
    did nothing but complete, each of a lane that is still live, so that its frontier is where it
    was. Then it can be written with what the claim moves.
    """
    rows = _few(ctx, only_job)
    if ledger.touched and not (rows and ledger.has_only_moved({row[:2] for row in rows})):
        ledger.flush()
        rows = _few(ctx, only_job)
    return ManyLanes(ctx) if rows is None else FewLanes(rows, ledger.slots)


def _few(ctx: Context, only_job: int | None) -> list[LaneRow] | None:
    """Return all live lanes; None when these are many. Those of one job are never too many."""
    if only_job is not None:
        return ctx.tx.all(LaneRow, "lanes_live_of_job", job_id=only_job)
    rows = ctx.tx.all(LaneRow, "lanes_live", limit=FEW + 1)
    return rows if len(rows) <= FEW else None


def _shape(shape_id: int, needs: str) -> Shape:
    return Shape(shape_id, shapes.decode_needs(needs))


def _keyed(job_id: int, sequence: int, shape_id: int, slots: int) -> tuple[tuple[int, int], Lane]:
    """Return a lane behind the key by which its job takes turns."""
    return (slots, job_id), Lane(job_id, sequence, shape_id)
