"""The newest events of one server process, read from the database once for all who watch.

Nothing that matters lives here: what is not here any more is read from the database.
"""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Iterator
from contextlib import contextmanager

from jobtasks.api.edge import Edge
from jobtasks.service import events
from jobtasks.store.records import LogRecord

TOPIC = "feed"
"""Whom to wake when there are new entries."""
ENTRIES_MAX = 10_000
ROWS = 500
"""Rows that are read at a time."""
GATHER_SECONDS = 0.05
"""So long events gather before they are read: a busy server wakes its watchers less often."""
LOOK_AGAIN_SECONDS = 5.0
"""The database is read at least so often while somebody watches, whatever was or was not told."""


class Feed:
    """Entries in order of id; filled while somebody watches."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._entries: list[LogRecord] = []
        self._from = 0
        """Entries of rows after this one are here, as far as `_upto`."""
        self._upto = 0
        self._watchers = 0
        self._pump: asyncio.Task[None] | None = None

    @property
    def watchers(self) -> int:
        """How many streams are open."""
        return self._watchers

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Keep the feed filled."""
        self._watchers += 1
        self._keep_filling()
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers and self._pump is not None:
                self._pump.cancel()
                self._entries, self._from, self._upto = [], 0, 0

    async def after(self, cursor: int) -> tuple[list[LogRecord], int]:
        """Return the next entries after one, and the cursor that stands behind them."""
        self._keep_filling()
        row = cursor >> events.PLACE_BITS
        if self._upto and end_of(self._from) <= cursor:
            start = bisect.bisect_right(self._entries, cursor, key=lambda entry: entry.id)
            return self._entries[start:], max(cursor, end_of(self._upto))
        # The row of the cursor may have more entries: it is read again.
        found, upto = await self._edge.look(lambda ctx: events.read(ctx, max(row - 1, 0), ROWS))
        return [entry for entry in found if entry.id > cursor], max(cursor, end_of(upto))

    def _keep_filling(self) -> None:
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._fill())

    async def _fill(self) -> None:
        if not self._upto:
            self._from = self._upto = await self._edge.look(events.newest)
        with self._edge.hub.listen(events.TOPIC) as bell:
            while not self._edge.hub.closing:
                bell.clear()
                found, self._upto = await self._edge.look(
                    lambda ctx: events.read(ctx, self._upto, ROWS)
                )
                if found:
                    self._entries += found
                    self._shorten()
                    self._edge.hub.ring((TOPIC,))
                    await asyncio.sleep(GATHER_SECONDS)
                else:
                    await bell.wait(LOOK_AGAIN_SECONDS)

    def _shorten(self) -> None:
        if len(self._entries) > ENTRIES_MAX:
            kept = self._entries[-ENTRIES_MAX // 2 :]
            # A row may have been cut in two: it counts as not here.
            self._from = kept[0].event_id
            self._entries = [entry for entry in kept if entry.event_id > self._from]


def end_of(row: int) -> int:
    """Return the cursor behind all entries of a row."""
    return ((row + 1) << events.PLACE_BITS) - 1
