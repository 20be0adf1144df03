"""Whose turn it is while slots are left: core/sharing.py over jobs that are read on (R18)."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from jobtasks.core.sharing import Turn
from jobtasks.service.lanes import Contender, OwnerRow, ReadyJobs

ABOVE_ALL = float("inf")


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

    def __init__(self, ready: ReadyJobs) -> None:
        self._ready = ready
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
        rows = self._ready.owners(self._below)
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
            uuid: Owner(priority, slots[uuid], head, self._ready.jobs(priority, uuid))
            for uuid, head in heads.items()
        }
