"""Tells others that jobs are over: takes notices from the database, delivers, settles them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from functools import partial
from pathlib import Path

from jobtasks.api.delivery import Courier
from jobtasks.api.edge import Edge
from jobtasks.api.state_dir import StartRefused
from jobtasks.core.errors import JobTasksError
from jobtasks.service import notices
from jobtasks.service.notices import Notice

MICROSECONDS = 1_000_000
AT_A_TIME = 8
AT_A_TIME_PER_TARGET = 2
"""So that one target that does not answer does not keep the others waiting."""
PAUSE_SECONDS_MAX = 60.0
PROBLEM_SECONDS = 5.0
"""How long to wait when the database cannot be asked."""

logger = logging.getLogger(__name__)


def read_secret(path: Path) -> bytes:
    """Return what a file holds, without blanks around it.

    Raises:
        StartRefused: it cannot be read, or is empty.
    """
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise StartRefused(f"cannot use {path}: {error.strerror}") from None
    if not secret:
        raise StartRefused(f"{path} is empty")
    return secret


class Notifier:
    """Delivers notices until the hub closes; what is under way then is delivered again later."""

    def __init__(self, edge: Edge, secret: bytes) -> None:
        self._edge = edge
        self._courier = Courier(edge.world.notifying, secret, edge.world.settings.notify_seconds)
        self._running: set[asyncio.Task[None]] = set()
        self._per_target: Counter[str] = Counter()

    async def run(self) -> None:
        """Take, deliver and settle; a database that is away for a while is waited for."""
        # Others may be delivering them now: what they leave becomes due by itself.
        is_fresh = not self._edge.store.is_shared
        with self._edge.hub.listen("notices") as bell:
            while not self._edge.hub.closing:
                bell.clear()
                try:
                    if is_fresh:
                        await self._edge.commit(notices.release)
                        is_fresh = False
                    pause_seconds = await self._start_due()
                except JobTasksError as error:
                    logger.warning("notifications wait: %s", error)
                    pause_seconds = PROBLEM_SECONDS
                except Exception:
                    logger.exception("notices could not be looked at")
                    pause_seconds = PROBLEM_SECONDS
                await bell.wait(pause_seconds)
        await self._leave()

    async def _start_due(self) -> float:
        """Start what is due and has room; return how long to wait, if nothing rings before."""
        while len(self._running) < AT_A_TIME:
            due = await self._edge.look(partial(notices.next_due, busy=self._busy))
            if due:
                return min(due / MICROSECONDS, PAUSE_SECONDS_MAX)
            if due is None:
                break
            notice = await self._edge.commit(partial(notices.take, busy=self._busy))
            if notice is not None:
                self._start(notice)
        return PAUSE_SECONDS_MAX

    @property
    def _busy(self) -> list[str]:
        """Targets that have enough under way."""
        return [t for t, count in self._per_target.items() if count >= AT_A_TIME_PER_TARGET]

    def _start(self, notice: Notice) -> None:
        self._per_target[notice.target] += 1
        task = asyncio.create_task(self._tell(notice))
        self._running.add(task)
        task.add_done_callback(partial(self._ended, notice))

    def _ended(self, notice: Notice, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._per_target[notice.target] -= 1
        if not self._per_target[notice.target]:
            del self._per_target[notice.target]
        if not task.cancelled() and task.exception() is not None:
            logger.error("a notification failed", exc_info=task.exception())
        self._edge.hub.ring(("notices",))

    async def _tell(self, notice: Notice) -> None:
        problem = await self._courier.deliver(notice)
        outcome = await self._edge.commit(partial(notices.settle, notice=notice, problem=problem))
        extra = {"job": notice.job_uuid, "delivery": notice.uuid, "tries": notice.tries}
        if problem is None:
            logger.info("a job's end was told", extra=extra)
        else:
            extra["problem"] = problem
            logger.warning("a job's end could not be told: %s", outcome, extra=extra)

    async def _leave(self) -> None:
        """Give up what is under way: the next server begins it anew."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._courier.close()
