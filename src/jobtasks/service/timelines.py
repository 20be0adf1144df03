"""A job's attempts over time: read as they come, kept for a few jobs, answered in bounded size.

What is kept here is only what reading again would find: after a restart, or when others were asked
for meanwhile, a job's attempts are read once more, a slice with each call.
"""

from __future__ import annotations

import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

from jobtasks.core.states import AttemptState, JobState
from jobtasks.core.timeline import Cell, Named, Place, Timeline, Window
from jobtasks.service import access
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import JobRecord

JOBS_MAX = 8
"""Jobs whose timelines are kept: each takes a few MB at most."""
READ_SECONDS = 0.025
"""How long one call reads on."""
PAGE = 500
BARS_MAX = 3000
"""Attempts that are shown one by one."""
COLUMNS_DEFAULT = 300
COLUMNS_MAX = 1000


class Asked(NamedTuple):
    """Which part of a timeline is asked for, in Unix microseconds.

    None stands for its beginning, and for its end.
    """

    since: int | None = None
    until: int | None = None
    columns: int = COLUMNS_DEFAULT


class RowName(NamedTuple):
    """What a row stands for: a slot, a node with all its slots, or several nodes."""

    node: str | None
    """UUID; None of several nodes."""
    hostname: str
    """Of several nodes that of the first and the last."""
    slot: int | None
    nodes: int


class Bar(NamedTuple):
    """An attempt on one of its nodes."""

    row: int
    begins_at: int
    ends_at: int | None
    """None: it runs."""
    state: str
    """complete, failed, stopped (ordered, or without effect on its task), running or stopping."""
    cause: str | None
    sequence: int
    qsequence: int
    number: int
    task_uuid: str
    slot: int


class Answer(NamedTuple):
    """A part of a timeline; times in Unix microseconds."""

    since: int | None
    until: int | None
    first_at: int | None
    """When the job's first attempt was assigned; None: none was."""
    last_at: int | None
    """When the last of those that ended did."""
    now: int
    is_behind: bool
    """Whether attempts are left to be read: ask again."""
    attempts_read: int
    rows: list[RowName]
    bars: list[Bar] | None
    """None: too many attempts."""
    cells: list[Cell] | None
    """In place of bars."""
    column_us: int | None


class BarRow(NamedTuple):
    """An attempt as a bar needs it."""

    id: int
    node_id: int
    slot: int
    state: int
    started_at: int | None
    ended_at: int | None
    cause: str | None
    is_failed: int
    number: int
    sequence: int
    qsequence: int
    task_uuid: str
    is_complete: int
    seats: str | None


class NodeName(NamedTuple):
    """What a node is called."""

    id: int
    uuid: str
    hostname: str


@dataclass(slots=True)
class Kept:
    """The timeline of one job; who has the lock reads on or looks at it."""

    timeline: Timeline = field(default_factory=Timeline)
    lock: Lock = field(default_factory=Lock)
    is_behind: bool = True


class Timelines:
    """The timelines of the jobs that were asked for last; used by several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[int, Kept] = OrderedDict()
        self._lock = Lock()

    def answer(self, ctx: Context, caller: Caller, uuid: str, asked: Asked) -> Answer:
        """Read on for a moment, then return the part that is asked for.

        Bars where at most `BARS_MAX` attempts overlap it and all have been read; else cells.

        Raises:
            NotFound: there is no such job, or it is not the caller's to see.
        """
        job = access.visible_job(ctx, caller, uuid)
        kept = self._of(job.id)
        with kept.lock:
            # A snapshot older than what was seen last has nothing new.
            if ctx.now >= kept.timeline.seen_at:
                kept.is_behind = self._read_on(ctx, job, kept.timeline)
            return _part(ctx, job, kept, asked)

    def _of(self, job_id: int) -> Kept:
        with self._lock:
            kept = self._kept.pop(job_id, None) or Kept()
            self._kept[job_id] = kept
            while len(self._kept) > JOBS_MAX:
                self._kept.popitem(last=False)
            return kept

    def _read_on(self, ctx: Context, job: JobRecord, timeline: Timeline) -> bool:
        """Read for `READ_SECONDS` what has changed; return whether there is more."""
        until = self._clock() + READ_SECONDS
        is_behind = self._look_again(ctx, job, timeline, until)
        take = _taking(timeline)
        while True:
            if self._clock() >= until:
                is_behind = True
                break
            page = ctx.tx.all(
                take, "timeline_attempts", job_id=job.id, after=timeline.last_id, limit=PAGE
            )
            if len(page) < PAGE:
                break
        if timeline.live or job.state == JobState.RUNNING:
            timeline.see(ctx.now)
        return is_behind

    def _look_again(self, ctx: Context, job: JobRecord, timeline: Timeline, until: float) -> bool:
        """See what became of attempts that were live; return whether more are to be looked at."""
        live = set(ctx.tx.all(int, "timeline_live", job_id=job.id)) if timeline.live else set()
        changed = [
            id for id, one in timeline.live.items() if one.started_at is None or id not in live
        ]
        for first in range(0, len(changed), PAGE):
            if self._clock() >= until:
                return True
            wanted = json.dumps(changed[first : first + PAGE])
            ctx.tx.all(timeline.look_again, "timeline_again", attempt_ids=wanted)
        return False


def _taking(timeline: Timeline) -> Callable[..., None]:
    """Return what takes a row of an attempt into a timeline."""
    add = timeline.add

    def take(
        id: int,
        node_id: int,
        slot: int,
        assigned_at: int,
        started_at: int | None,
        ended_at: int | None,
        is_failed: int,
        seats: str | None,
    ) -> None:
        others = _places(seats) if seats else ()
        add(id, node_id, slot, assigned_at, started_at, ended_at, is_failed, others)

    return take


def _places(seats: str) -> list[Place]:
    return [(node_id, slot) for node_id, slot in json.loads(seats)]


def _part(ctx: Context, job: JobRecord, kept: Kept, asked: Asked) -> Answer:
    """Return the part of a timeline that is asked for."""
    timeline = kept.timeline
    # What ended last belongs to it.
    ends_at = max(timeline.last_at + 1, timeline.seen_at, (timeline.first_at or 0) + 1)
    nothing = Answer(
        since=asked.since,
        until=asked.until,
        first_at=timeline.first_at,
        last_at=timeline.last_at or None,
        now=ctx.now,
        is_behind=kept.is_behind,
        attempts_read=timeline.read,
        rows=[],
        bars=[],
        cells=None,
        column_us=None,
    )
    if timeline.first_at is None:
        return nothing
    since = timeline.first_at if asked.since is None else max(asked.since, timeline.first_at)
    until = ends_at if asked.until is None else min(asked.until, ends_at)
    order, rows = _rows(ctx, timeline)
    if since >= until:
        return nothing._replace(rows=rows)
    window = timeline.window(since, until, asked.columns)
    named = None if kept.is_behind else timeline.named(window, BARS_MAX)
    if named is not None:
        bars = _bars(ctx, job, timeline, named, order, since, until)
        return nothing._replace(since=since, until=until, rows=rows, bars=bars)
    return nothing._replace(
        since=window.begins_at,
        until=window.ends_at,
        rows=rows,
        bars=None,
        cells=timeline.cells(window, order, ctx.now),
        column_us=_column_us(timeline, window),
    )


def _column_us(timeline: Timeline, window: Window) -> int:
    return window.per_column * timeline.width


def _rows(ctx: Context, timeline: Timeline) -> tuple[list[Place], list[RowName]]:
    """Return the keys of the rows in the order in which they are shown, and their names."""
    ids = list(timeline.nodes)
    size = 1 << (timeline.grouping or 0)
    members = {key: ids[key[0] * size : (key[0] + 1) * size] for key in timeline.rows}
    ends = {node_id for nodes in members.values() for node_id in (nodes[0], nodes[-1])}
    wanted = json.dumps(sorted(ends))
    known = {one.id: one for one in ctx.tx.all(NodeName, "timeline_nodes", node_ids=wanted)}
    names = {
        key: _name([known[nodes[0]], known[nodes[-1]]], key[1] or None, len(nodes))
        for key, nodes in members.items()
    }
    order = sorted(names, key=lambda key: (_natural(names[key].hostname), key[1], key))
    return order, [names[key] for key in order]


def _name(ends: Sequence[NodeName], slot: int | None, nodes: int) -> RowName:
    first, last = ends
    if nodes == 1:
        return RowName(first.uuid, first.hostname, slot, 1)
    return RowName(None, f"{first.hostname} … {last.hostname}", None, nodes)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return what sorts n2 before n10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _bars(
    ctx: Context,
    job: JobRecord,
    timeline: Timeline,
    named: Named,
    order: list[Place],
    since: int,
    until: int,
) -> list[Bar]:
    """Return the attempts that overlap a time, on each of their nodes."""
    found = ctx.tx.all(
        BarRow,
        "timeline_bars",
        job_id=job.id,
        first_id=named.first_id,
        last_id=named.last_id,
        attempt_ids=json.dumps(named.ids),
    )
    numbers = {key: number for number, key in enumerate(order)}
    bars: list[Bar] = []
    for one in found:
        if one.started_at is None or one.started_at >= until or (one.ended_at or until) < since:
            continue
        places = [(one.node_id, one.slot), *(_places(one.seats) if one.seats else ())]
        bars += [_bar(one, numbers[timeline.row_key(place)], place[1]) for place in places]
    return bars


def _bar(one: BarRow, row: int, slot: int) -> Bar:
    assert one.started_at is not None
    return Bar(
        row,
        one.started_at,
        one.ended_at,
        _state(one),
        one.cause,
        one.sequence,
        one.qsequence,
        one.number,
        one.task_uuid,
        slot,
    )


def _state(one: BarRow) -> str:
    if one.state != AttemptState.ENDED:
        return AttemptState(one.state).word
    if one.is_failed:
        return "failed"
    return "complete" if one.is_complete else "stopped"
