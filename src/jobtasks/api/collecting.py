"""Removing what need not be kept: records in slices of a transaction each, then their files."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

from jobtasks.api.edge import Edge
from jobtasks.core.packs import YOUNG_SECONDS, is_over_due
from jobtasks.service import log_space, packs, retention, tick
from jobtasks.service.log_space import Space
from jobtasks.service.packs import Kept
from jobtasks.service.retention import SLICE, Before, Place

NAMES = 500
"""Folders of logs, or packs, that one statement asks about."""


@dataclass
class Collected:
    """What was removed, or would be."""

    jobs: int = 0
    logs: int = 0
    """Jobs whose logs were removed and whose records stay."""
    log_files: int = 0
    log_bytes: int = 0
    packs: int = 0
    """Directories of scripts that no job needs."""
    tokens: int = 0
    more: bool = False
    """Whether the time was over first: there is more."""

    def add(self, space: Space) -> None:
        """Count files."""
        self.log_files += space.files
        self.log_bytes += space.bytes


class Collector:
    """One look through all there is, for at most so many seconds."""

    def __init__(self, edge: Edge, before: Before, seconds: float) -> None:
        self._edge = edge
        self._before = before
        self._until = time.monotonic() + seconds
        self._log_dir = edge.world.log_dir
        self.collected = Collected()

    async def collect(self, *, thoroughly: bool) -> Collected:
        """Remove what is too old; thoroughly: also what the manager removes by and by, and files
        that no record names.
        """
        steps = (self._jobs, self._logs, self._tokens, self._packs)
        return await self._run((*steps, self._rows, self._left_over) if thoroughly else steps)

    async def look(self) -> Collected:
        """Return what `collect` would remove; files that no record names are not looked for."""
        looks = (self._look_at_jobs, self._look_at_logs, self._look_at_tokens, self._look_at_packs)
        return await self._run(looks)

    async def _run(self, steps: tuple[Callable[[], Awaitable[None]], ...]) -> Collected:
        for step in steps:
            if not self.collected.more:
                await step()
        return self.collected

    def _goes_on(self, there_is_more: bool) -> bool:
        """Return whether to take the next slice; note when only the time forbids it."""
        is_late = time.monotonic() >= self._until or self._edge.hub.closing
        self.collected.more = there_is_more and is_late
        return there_is_more and not is_late

    async def _jobs(self) -> None:
        before = self._before.jobs
        if before is None:
            return
        there_is_more = True
        while self._goes_on(there_is_more):
            found = await self._edge.commit(partial(retention.remove_jobs, before=before))
            there_is_more = len(found) == SLICE
            self.collected.jobs += len(found)
            await self._remove([(uuid, None) for uuid in found])

    async def _logs(self) -> None:
        before = self._before.logs
        if before is None:
            return
        there_is_more = True
        while self._goes_on(there_is_more):
            found = await self._edge.commit(partial(retention.give_up_logs, before=before))
            there_is_more = len(found) == SLICE
            self.collected.logs += len(found)
            await self._remove(found)

    async def _tokens(self) -> None:
        before = self._before.tokens
        if before is None:
            return
        there_is_more = True
        while self._goes_on(there_is_more):
            count = await self._edge.commit(partial(retention.remove_tokens, before=before))
            there_is_more = count == self._edge.world.settings.sweep_rows
            self.collected.tokens += count

    async def _packs(self) -> None:
        directory = self._edge.world.pack_dir
        if directory is None:
            return
        await self._edge.in_thread(packs.remove_unfinished, directory)
        for page in pages_of(await self._edge.in_thread(packs.kept, directory)):
            due = await self._due(page)
            await self._edge.in_thread(packs.remove, directory, due)
            self.collected.packs += len(due)

    async def _due(self, page: list[Kept]) -> list[str]:
        """Return the packs that need not be kept, of those that have not been asked for lately."""
        idle = [pack for pack in page if pack.idle_seconds >= YOUNG_SECONDS]
        if not idle:
            return []
        hashes = [pack.hash for pack in idle]
        known = await self._edge.look(partial(retention.packs_of_jobs, packs=hashes))
        kept_seconds = self._edge.world.settings.retain_packs_seconds
        return [
            pack.hash
            for pack in idle
            if is_over_due(
                pack.hash in known, known.get(pack.hash, False), pack.idle_seconds, kept_seconds
            )
        ]

    async def _rows(self) -> None:
        """Remove the rows of tasks that are gone, as the manager does by and by."""
        there_is_more = True
        while self._goes_on(there_is_more):
            there_is_more = await self._edge.commit(tick.sweep)

    async def _left_over(self) -> None:
        """Remove what a crash left between a commit and the files."""
        names = await self._edge.in_thread(log_space.job_names, self._log_dir)
        for start in range(0, len(names), NAMES):
            page = names[start : start + NAMES]
            # Asked after the folders were seen: a job is there before its folder.
            known = await self._edge.look(partial(retention.known_logs, uuids=page))
            await self._remove([(uuid, None) for uuid in page if uuid not in known])
            await self._remove([(uuid, until) for uuid, until in known.items() if until])
            if not self._goes_on(start + NAMES < len(names)):
                return

    async def _remove(self, jobs: list[tuple[str, int | None]]) -> None:
        """Remove logs of (uuid, until when they were written; None: all)."""
        if jobs:
            self.collected.add(await self._edge.in_thread(log_space.remove, self._log_dir, jobs))

    async def _look_at_jobs(self) -> None:
        if self._before.jobs is not None:
            self.collected.jobs = await self._look_at(self._before.jobs, with_logs=False)

    async def _look_at_logs(self) -> None:
        """Count jobs that lose their logs alone, not those that go as a whole."""
        if self._before.logs is not None:
            self.collected.logs = await self._look_at(self._before.logs, with_logs=True)

    async def _look_at(self, before: int, *, with_logs: bool) -> int:
        count, place, there_is_more = 0, self._first(with_logs), True
        while self._goes_on(there_is_more):
            jobs = await self._edge.look(
                partial(retention.jobs_over, before=before, place=place, with_logs=with_logs)
            )
            count += len(jobs)
            uuids = [job.uuid for job in jobs]
            self.collected.add(await self._edge.in_thread(log_space.space_of, self._log_dir, uuids))
            there_is_more = len(jobs) == SLICE
            if there_is_more:
                place = Place(jobs[-1].over_at, jobs[-1].id)
        return count

    def _first(self, with_logs: bool) -> Place:
        is_after_jobs = with_logs and self._before.jobs is not None
        return Place(self._before.jobs or 0, 2**62) if is_after_jobs else Place()

    async def _look_at_packs(self) -> None:
        directory = self._edge.world.pack_dir
        if directory is not None:
            for page in pages_of(await self._edge.in_thread(packs.kept, directory)):
                self.collected.packs += len(await self._due(page))

    async def _look_at_tokens(self) -> None:
        before = self._before.tokens
        if before is not None:
            self.collected.tokens = await self._edge.look(
                partial(retention.dead_tokens, before=before)
            )


def pages_of(found: list[Kept]) -> Iterator[list[Kept]]:
    """Yield packs in slices that one statement asks about."""
    for start in range(0, len(found), NAMES):
        yield found[start : start + NAMES]
