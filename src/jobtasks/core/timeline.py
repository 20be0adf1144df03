"""A job's attempts over time, in rows of slots: read once, in order, into room that does not grow.

Time is cut into at most `BUCKETS` buckets. When a job grows longer than these, the buckets become
twice as wide and pairs of them one; when it spreads over more than `ROWS_MAX` slots, those of a
node become one row, then those of two nodes, of four … All times are Unix microseconds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import NamedTuple, TypeVar

import msgspec

N = TypeVar("N", int, float)

BUCKETS = 1024
WIDTH_MIN = 1000
"""Of a bucket at first."""
ROWS_MAX = 400
CARRIED_MAX = 1000
"""So many attempts that go on from one bucket to the next are known by their ids."""
CELLS_MAX = 10_000
"""In one answer."""

Place = tuple[int, int]
"""A node's id and the number of a slot."""


class Cell(msgspec.Struct, frozen=True):
    """What happened in one row during one column of time; where nothing did there is none."""

    row: int
    column: int
    busy: float
    """Share of the time in which the row's slots had a process of the job, from 0 to 1."""
    ended: int
    failed: int
    """Of those that ended."""


class Window(NamedTuple):
    """A part of a timeline: its buckets from `first` on, before `last`, so many to a column."""

    first: int
    last: int
    per_column: int
    begins_at: int
    ends_at: int

    @property
    def columns(self) -> int:
        """Return how many columns it has."""
        return -(-(self.last - self.first) // self.per_column)


class Named(NamedTuple):
    """Attempts that a window may show: those between two ids, and some others."""

    first_id: int
    last_id: int
    ids: list[int]


@dataclass(slots=True)
class Row:
    """What the slots of one row did, bucket by bucket."""

    busy: array[float] = field(default_factory=lambda: array("d", bytes(8 * BUCKETS)))
    """Microseconds."""
    ended: array[int] = field(default_factory=lambda: array("L", bytes(8 * BUCKETS)))
    failed: array[int] = field(default_factory=lambda: array("L", bytes(8 * BUCKETS)))
    places: set[Place] = field(default_factory=set)

    def take(self, other: Row) -> None:
        """Add what another row did."""
        self.busy = array("d", map(add, self.busy, other.busy))
        self.ended = array("L", map(add, self.ended, other.ended))
        self.failed = array("L", map(add, self.failed, other.failed))
        self.places |= other.places

    def fold(self, size: int) -> None:
        """Make so many buckets one."""
        self.busy = folded(self.busy, size)
        self.ended = folded(self.ended, size)
        self.failed = folded(self.failed, size)


@dataclass(slots=True)
class Live:
    """An attempt that had not ended when it was looked at last."""

    places: tuple[Place, ...]
    """Where it runs, the first node first."""
    assigned_at: int
    started_at: int | None
    seen_at: int
    """Until when its time is counted as busy."""


def folded(counts: array[N], size: int) -> array[N]:
    """Return the sums of so many neighbours each; what follows them is empty."""
    groups = zip(*[iter(counts)] * size, strict=True)
    sums: array[N] = array(counts.typecode, [sum(group) for group in groups])
    sums.frombytes(bytes((len(counts) - len(sums)) * counts.itemsize))
    return sums


class Timeline:
    """What is known of a job's attempts."""

    def __init__(self) -> None:
        self.width = WIDTH_MIN
        self.first_at: int | None = None
        """When the first attempt was assigned: where the first bucket begins."""
        self.last_at = 0
        """When the last of those that have ended did."""
        self.seen_at = 0
        """When live attempts were looked at last."""
        self.read = 0
        """Attempts."""
        self.last_id = 0
        """Of the last attempt that was read."""
        self.live: dict[int, Live] = {}
        self.rows: dict[Place, Row] = {}
        """By their nodes' index, shifted by `grouping`, and the slot, 0 in place of all."""
        self.nodes: dict[int, int] = {}
        """Index of each node, in the order in which they came."""
        self.grouping: int | None = None
        """None: a row is a slot; else its nodes are two to this power."""
        self._row_of: dict[Place, Row] = {}
        self._begun = array("L", bytes(8 * BUCKETS))
        """How many attempts were assigned in each bucket, and the id of the first of them."""
        self._first_ids = array("q", bytes(8 * BUCKETS))
        self._carried: list[list[int] | None] = [[] for _ in range(BUCKETS)]
        """Attempts that have ended and went on from the bucket before; None: too many."""

    def add(
        self,
        id: int,
        node: int,
        slot: int,
        assigned_at: int,
        started_at: int | None,
        ended_at: int | None,
        is_failed: int,
        others: Iterable[Place] = (),
    ) -> None:
        """Take the next attempt of the job, in order of their ids."""
        if self.first_at is None:
            self.first_at = assigned_at
        self.read += 1
        self.last_id = id
        bucket = self._bucket(assigned_at)
        self._begun[bucket] += 1
        if not self._first_ids[bucket]:
            self._first_ids[bucket] = id
        if ended_at is None or started_at is None or others:
            places = ((node, slot), *others)
            live = Live(places, assigned_at, started_at, started_at or assigned_at)
            for place in places:
                self._row(place)
            if ended_at is None:
                self.live[id] = live
            else:
                self._end(id, live, started_at, ended_at, is_failed)
        else:
            row = self._row_of.get((node, slot)) or self._new_place((node, slot))
            self._count(id, row, assigned_at, ended_at, is_failed)
            self._occupy(row, started_at, ended_at)

    def look_again(
        self, id: int, started_at: int | None, ended_at: int | None, is_failed: int
    ) -> None:
        """Take what became of an attempt that was live."""
        live = self.live[id]
        if live.started_at is None and started_at is not None:
            live.started_at = live.seen_at = started_at
        if ended_at is not None:
            del self.live[id]
            self._end(id, live, started_at, ended_at, is_failed)

    def _end(
        self, id: int, live: Live, started_at: int | None, ended_at: int, is_failed: int
    ) -> None:
        """Count an attempt that has ended, from where it is counted on."""
        self._count(id, self._row(live.places[0]), live.assigned_at, ended_at, is_failed)
        if started_at is not None:
            for place in live.places:
                self._occupy(self._row(place), live.seen_at, ended_at)

    def _count(self, id: int, row: Row, assigned_at: int, ended_at: int, is_failed: int) -> None:
        if ended_at > self.last_at:
            self.last_at = ended_at
        last = self._bucket(ended_at)
        row.ended[last] += 1
        if is_failed:
            row.failed[last] += 1
        first = self._bucket(assigned_at)
        if first < last:
            self._carry(id, range(first + 1, last + 1))

    def see(self, now: int) -> None:
        """Count the time of live attempts as busy until now."""
        self.seen_at = now
        if self.first_at is None:
            return
        self._bucket(now)
        for live in self.live.values():
            if live.started_at is not None and live.seen_at < now:
                for place in live.places:
                    self._occupy(self._row(place), live.seen_at, now)
                live.seen_at = now

    def window(self, since: int, until: int, columns: int) -> Window:
        """Return the part between two times in at most so many columns, widened to whole buckets.

        Where there are many rows there are fewer columns: at most `CELLS_MAX` cells.
        """
        assert self.first_at is not None
        first = min(max(0, (since - self.first_at) // self.width), BUCKETS - 1)
        last = min(max(first + 1, -(-(until - self.first_at) // self.width)), BUCKETS)
        columns = max(1, min(columns, CELLS_MAX // max(1, len(self.rows))))
        per_column = -(-(last - first) // columns)
        begins_at = self.first_at + first * self.width
        ends_at = begins_at + -(-(last - first) // per_column) * per_column * self.width
        return Window(first, last, per_column, begins_at, ends_at)

    def cells(self, window: Window, order: Sequence[Place], now: int) -> list[Cell]:
        """Return what happened in a window, the rows in this order."""
        column_us = window.per_column * self.width
        passed = [
            min(column_us, max(1, now - window.begins_at - column * column_us))
            for column in range(window.columns)
        ]
        cells: list[Cell] = []
        for number, key in enumerate(order):
            row = self.rows[key]
            busy = _columns(row.busy, window)
            ended, failed = _columns(row.ended, window), _columns(row.failed, window)
            slots = len(row.places)
            cells += [
                Cell(number, column, min(1.0, round(b / (passed_us * slots), 3)), e, f)
                for column, (b, e, f, passed_us) in enumerate(
                    zip(busy, ended, failed, passed, strict=True)
                )
                if b or e
            ]
        return cells

    def named(self, window: Window, most: int) -> Named | None:
        """Return the attempts that overlap a window; None when there may be more than `most`."""
        carried = self._carried[window.first]
        if carried is None:
            return None
        begun = sum(self._begun[window.first : window.last])
        first_id = next(filter(None, self._first_ids[window.first :]), self.last_id + 1)
        before = next(filter(None, self._first_ids[window.last :]), self.last_id + 1)
        earlier = [id for id in self.live if id < first_id]
        if begun + len(carried) + len(earlier) > most:
            return None
        return Named(first_id, before - 1, [*carried, *earlier])

    def _bucket(self, at: int) -> int:
        """Return the bucket of a time; there is one for each after this."""
        assert self.first_at is not None
        bucket = (at - self.first_at) // self.width
        if bucket >= BUCKETS:
            self._widen(at - self.first_at)
            bucket = (at - self.first_at) // self.width
        return bucket if bucket > 0 else 0

    def _widen(self, length: int) -> None:
        """Make buckets wider, so that there is one for a time so long after the first."""
        size = 2
        while length // (self.width * size) >= BUCKETS:
            size *= 2
        self.width *= size
        left = min(size, BUCKETS)
        for row in self.rows.values():
            row.fold(left)
        self._begun = folded(self._begun, left)
        groups = zip(*[iter(self._first_ids)] * left, strict=True)
        self._first_ids = array("q", [next(filter(None, ids), 0) for ids in groups])
        self._first_ids.frombytes(bytes(8 * (BUCKETS - len(self._first_ids))))
        self._carried = self._carried[::left]
        self._carried += [[] for _ in range(BUCKETS - len(self._carried))]

    def _occupy(self, row: Row, begins_at: int, ends_at: int) -> None:
        """Count a time as busy, bucket by bucket."""
        assert self.first_at is not None
        begin, end = begins_at - self.first_at, ends_at - self.first_at
        if begin < 0:
            begin = 0
        width = self.width
        first, last = begin // width, end // width
        if first >= last:
            if end > begin:
                row.busy[first] += end - begin
            return
        row.busy[first] += (first + 1) * width - begin
        for bucket in range(first + 1, last):
            row.busy[bucket] += width
        row.busy[last] += end - last * width

    def _carry(self, id: int, buckets: range) -> None:
        for bucket in buckets:
            ids = self._carried[bucket]
            if ids is not None:
                ids.append(id)
                if len(ids) > CARRIED_MAX:
                    self._carried[bucket] = None

    def row_key(self, place: Place) -> Place:
        """Return the key of the row that a slot of a node belongs to."""
        index = self.nodes[place[0]]
        return (index, place[1]) if self.grouping is None else (index >> self.grouping, 0)

    def _row(self, place: Place) -> Row:
        return self._row_of.get(place) or self._new_place(place)

    def _new_place(self, place: Place) -> Row:
        self.nodes.setdefault(place[0], len(self.nodes))
        self.rows.setdefault(self.row_key(place), Row()).places.add(place)
        while len(self.rows) > ROWS_MAX:
            self._regroup()
        row = self._row_of[place] = self.rows[self.row_key(place)]
        return row

    def _regroup(self) -> None:
        """Make one row of each node's, then of two nodes', and so on."""
        self.grouping = 0 if self.grouping is None else self.grouping + 1
        old, self.rows = self.rows, {}
        for row in old.values():
            key = self.row_key(next(iter(row.places)))
            known = self.rows.get(key)
            if known is None:
                self.rows[key] = row
            else:
                known.take(row)
        self._row_of = {place: row for row in self.rows.values() for place in row.places}


def _columns(counts: array[N], window: Window) -> list[N]:
    """Return the sums of a row's buckets for each column of a window."""
    values = counts[window.first : window.last].tolist()
    if window.per_column == 1:
        return values
    values += [type(values[0])(0)] * (-len(values) % window.per_column)
    return list(map(sum, zip(*[iter(values)] * window.per_column, strict=True)))
