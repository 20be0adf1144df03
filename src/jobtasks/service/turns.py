"""Whose turn it is, read as far as slots are left: core/sharing.py by statements (R18).

The highest priority is read first, of it each user's first job, and of a user as many jobs as there
are turns: so the cost does not depend on how many jobs wait.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from jobtasks.core.sharing import Turn
from jobtasks.service.context import Context

ABOVE_ALL = float("inf")


class Lane(NamedTuple):
    """Ready tasks of one job, sequence and shape."""

    job_id: int
    sequence: int
    shape_id: int


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


class Owner:
    """A user's jobs of one priority that want slots; `head` is the first of them, not read yet."""

    def __init__(
        self, priority: int, slots: int, head: tuple[int, int], unread: Iterator[Contender]
    ) -> None:
        self.slots = slots
        self._priority = priority
        self._head: tuple[int, int] | None = head
        self._next: Contender | None = None
        self._unread = unread
        self._again: list[Contender] = []

    @property
    def turn(self) -> Turn | None:
        """The turn of the first of the jobs; None when none is left."""
        keys = [(job.slots, job.job_id) for job in self._again[:1]]
        if self._head is not None:
            keys.append(self._head)
        return Turn(-self._priority, self.slots, *min(keys)) if keys else None

    def take(self) -> Contender:
        """Remove the first of the jobs."""
        again = self._again
        if self._head is None or (again and (again[0].slots, again[0].job_id) < self._head):
            return heapq.heappop(again)
        found = self._next or next(self._unread)
        self._next = next(self._unread, None)
        self._head = (self._next.slots, self._next.job_id) if self._next else None
        return found

    def put_back(self, job: Contender) -> None:
        """Let a job that had a turn have others."""
        heapq.heappush(self._again, job)


class Turns:
    """Jobs in the order in which they may take slots, for one claim.

    `next` returns the job whose turn it is; `took` says that it has taken a slot and may have
    another turn, which a job of which nothing fits does not get.
    """

    def __init__(self, ctx: Context, shape_ids: list[int], page: int) -> None:
        self._ctx = ctx
        self._shape_ids = shape_ids
        self._shapes = msgspec.json.encode(shape_ids).decode()
        self._page = page
        self._below: float = ABOVE_ALL
        self._queue: list[tuple[Turn, str]] = []
        self._owners: dict[str, Owner] = {}
        self._taken: dict[str, int] = {}
        self._current = ""

    def next(self) -> Contender | None:
        """Return the job whose turn it is; None when no job is left."""
        self._enqueue(self._current)
        while not self._queue:
            if not self._read_priority():
                return None
        _, self._current = heapq.heappop(self._queue)
        return self._owners[self._current].take()

    def took(self, job: Contender) -> None:
        """Note that the job whose turn it is takes a slot."""
        owner = self._owners[self._current]
        owner.slots += 1
        self._taken[self._current] = self._taken.get(self._current, 0) + 1
        job.slots += 1
        owner.put_back(job)

    def _enqueue(self, uuid: str) -> None:
        turn = self._owners[uuid].turn if uuid in self._owners else None
        if turn is not None:
            heapq.heappush(self._queue, (turn, uuid))

    def _read_priority(self) -> bool:
        """Read whose jobs have the next lower priority; return whether there are any."""
        if not self._shape_ids:
            return False
        rows = self._ctx.tx.all(OwnerRow, "turn_owners", shape_ids=self._shapes, below=self._below)
        if not rows:
            return False
        self._below = rows[0].priority
        self._current = ""
        self._owners = self._owners_of(rows)
        for uuid in self._owners:
            self._enqueue(uuid)
        return True

    def _owners_of(self, rows: list[OwnerRow]) -> dict[str, Owner]:
        """Return the owners that have these rows, of one priority."""
        heads: dict[str, tuple[int, int]] = {}
        slots: dict[str, int] = {}
        for row in rows:
            uuid, head = row.owner_uuid, (row.slots, row.job_id)
            heads[uuid] = min(heads.get(uuid, head), head)
            slots[uuid] = row.owner_slots + self._taken.get(uuid, 0)
        priority = rows[0].priority
        return {
            uuid: Owner(priority, slots[uuid], head, self._jobs(priority, uuid))
            for uuid, head in heads.items()
        }

    def _jobs(self, priority: int, owner_uuid: str) -> Iterator[Contender]:
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


def _keyed(job_id: int, sequence: int, shape_id: int, slots: int) -> tuple[tuple[int, int], Lane]:
    """Return a lane behind the key by which its job takes turns."""
    return (slots, job_id), Lane(job_id, sequence, shape_id)
