"""A timeline in bounded room: what it tells is what happened (core/timeline.py)."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtasks.core import timeline as rules
from jobtasks.core.timeline import Cell, Timeline

SECOND = 1_000_000
T0 = 1_700_000_000 * SECOND


def cells_of(timeline: Timeline, columns: int = 100, now: int | None = None) -> list[Cell]:
    """Return the cells of the whole timeline."""
    assert timeline.first_at is not None
    end = max(timeline.last_at + 1, timeline.seen_at, timeline.first_at + 1)
    window = timeline.window(timeline.first_at, end, columns)
    assert window.columns <= columns
    return timeline.cells(window, sorted(timeline.rows), end if now is None else now)


def busy_us(timeline: Timeline) -> float:
    """Return the time that all slots were busy together."""
    return sum(sum(row.busy) for row in timeline.rows.values())


def counts(cells: Iterable[Cell]) -> tuple[int, int]:
    """Return how many ended, and how many of these failed."""
    cells = list(cells)
    return sum(cell.ended for cell in cells), sum(cell.failed for cell in cells)


def test_a_few_attempts() -> None:
    """Two slots; one attempt that failed, one that runs, one that has not begun."""
    timeline = Timeline()
    timeline.add(5, 1, 1, T0, T0, T0 + SECOND // 2, 1)
    timeline.add(7, 1, 2, T0, T0 + SECOND // 4, None, 0)
    timeline.add(8, 1, 2, T0, None, None, 0)
    timeline.see(T0 + SECOND)
    assert (timeline.read, timeline.last_id, set(timeline.live)) == (3, 8, {7, 8})
    window = timeline.window(T0, T0 + SECOND, 4)
    assert window.columns == 4
    cells = timeline.cells(window, [(0, 1), (0, 2)], T0 + SECOND)
    first = [cell for cell in cells if cell.row == 0]
    assert [(cell.column, cell.failed) for cell in first if cell.ended] == [(2, 1)]
    assert [round(cell.busy, 1) for cell in first] == [1.0, 1.0, 0.0]
    assert [
        (cell.column, round(cell.busy)) for cell in cells if cell.row == 1 and cell.busy > 0.1
    ] == [
        (1, 1),
        (2, 1),
        (3, 1),
    ]
    timeline.look_again(7, T0 + SECOND // 4, T0 + 2 * SECOND, 0)
    timeline.look_again(8, T0 + 2 * SECOND, None, 0)
    timeline.look_again(8, T0 + 2 * SECOND, T0 + 3 * SECOND, 0)
    assert not timeline.live
    assert busy_us(timeline) == pytest.approx(3.25 * SECOND)
    assert counts(cells_of(timeline)) == (3, 1)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**9),  # µs after the attempt before
            st.integers(0, 10**5),  # until it starts
            st.integers(0, 10**10),  # until it ends
            st.integers(1, 30),  # node
            st.integers(1, 30),  # slot
            st.booleans(),  # failed
            st.booleans(),  # seen while it runs
        ),
        min_size=1,
        max_size=60,
    ),
    st.integers(1, 400),
)
def test_nothing_is_lost_however_long_and_wide(
    attempts: list[tuple[int, int, int, int, int, bool, bool]], columns: int
) -> None:
    """Busy time and ends add up, in any number of columns; all room is bounded."""
    timeline = Timeline()
    at, wanted_us, late = T0, 0, []
    for number, (gap, wait, length, node, slot, failed, is_late) in enumerate(attempts, 1):
        at += gap
        start, end = at + wait, at + wait + length
        wanted_us += length
        if is_late:
            timeline.add(number, node, slot, at, None, None, 0)
            late.append((number, start, end, failed))
        else:
            timeline.add(number, node, slot, at, start, end, int(failed))
    for number, start, end, failed in late:
        timeline.look_again(number, start, None, 0)
        timeline.see((start + end) // 2)
        timeline.look_again(number, start, end, int(failed))
    assert busy_us(timeline) == pytest.approx(wanted_us, abs=1)
    assert len(timeline.rows) <= rules.ROWS_MAX
    cells = cells_of(timeline, columns)
    assert counts(cells) == (len(attempts), sum(one[5] for one in attempts))
    assert all(0 <= cell.busy <= 1 and 0 <= cell.column < columns for cell in cells)


@given(
    st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**8)), min_size=1, max_size=60),
    st.integers(0, 6 * 10**9),
    st.integers(1, 10**9),
)
def test_a_window_names_all_that_overlap_it(
    attempts: list[tuple[int, int]], begin: int, length: int
) -> None:
    """Between the two ids or among the others: whatever lies in the window in part."""
    timeline = Timeline()
    at, spans = T0, {}
    for number, (gap, run) in enumerate(attempts, 1):
        at += gap
        spans[number] = (at, at + run)
        timeline.add(number, 1, number, at, at, None if run % 7 == 0 else at + run, 0)
    since, until = T0 + begin, T0 + begin + length
    named = timeline.named(timeline.window(since, until, 10), 1000)
    assert named is not None
    found = {*range(named.first_id, named.last_id + 1), *named.ids}
    for number, (start, end) in spans.items():
        if start < until and (end > since or number in timeline.live) and since <= at:
            assert number in found


def test_too_many_are_not_named() -> None:
    """More than asked for in the window, or more that go on from before than are remembered."""
    timeline = Timeline()
    for number in range(1, 101):
        timeline.add(number, 1, 1, T0 + number, T0 + number, T0 + 10 * SECOND, 0)
    window = timeline.window(T0, T0 + SECOND, 10)
    assert timeline.named(window, 100) is not None
    assert timeline.named(window, 99) is None
    later = timeline.window(T0 + 5 * SECOND, T0 + 6 * SECOND, 10)
    named = timeline.named(later, 100)
    assert named is not None and sorted(named.ids) == list(range(1, 101))
    for number in range(101, rules.CARRIED_MAX + 102):
        timeline.add(number, 1, 1, T0 + number, T0 + number, T0 + 10 * SECOND, 0)
    assert timeline.named(later, 10**9) is None


def test_slots_become_nodes_and_nodes_groups() -> None:
    """Beyond 400 rows; each row knows how many slots it stands for, so that busy stays a share."""
    timeline = Timeline()
    number = 0
    for node in range(1, 1001):
        for slot in (1, 2):
            number += 1
            timeline.add(number, node, slot, T0, T0, T0 + SECOND, 0)
        if number == 400:
            assert (len(timeline.rows), timeline.grouping) == (400, None)
        if number == 402:
            assert (len(timeline.rows), timeline.grouping) == (201, 0)
    assert (len(timeline.rows), timeline.grouping) == (250, 2)
    assert timeline.row_key((1000, 2)) == (249, 0)
    cells = cells_of(timeline, 1)
    assert {round(cell.busy, 1) for cell in cells} == {1.0}
    assert counts(cells) == (2000, 0)


def test_a_gang_is_busy_on_all_its_nodes_and_ends_once() -> None:
    """On its first one."""
    timeline = Timeline()
    timeline.add(1, 1, 1, T0, T0, T0 + SECOND, 1, [(2, 3), (4, 1)])
    assert busy_us(timeline) == 3 * SECOND
    assert counts(cells_of(timeline)) == (1, 1)
    assert [sum(timeline.rows[key].ended) for key in sorted(timeline.rows)] == [1, 0, 0]


def test_a_clock_that_goes_back_hurts_nothing() -> None:
    """Attempts before the first one, and ends before their beginnings."""
    timeline = Timeline()
    timeline.add(1, 1, 1, T0, T0, T0 + SECOND, 0)
    timeline.add(2, 1, 1, T0 - SECOND, T0 - SECOND, T0 - SECOND // 2, 0)
    timeline.add(3, 1, 1, T0 + SECOND, T0 + SECOND, T0, 0)
    timeline.add(4, 1, 1, T0 + SECOND, None, T0 - 5 * SECOND, 0)
    assert counts(cells_of(timeline)) == (4, 0)
    assert busy_us(timeline) == SECOND


def test_the_last_column_is_measured_by_the_time_that_has_passed() -> None:
    """A slot that is busy until now is wholly so, also where a column has just begun."""
    timeline = Timeline()
    timeline.add(1, 1, 1, T0, T0, None, 0)
    now = T0 + 999_500
    timeline.see(now)
    cells = cells_of(timeline, 7, now)
    assert [cell.busy for cell in cells] == [1.0] * len(cells)


def test_many_rows_get_fewer_columns() -> None:
    """An answer has at most so many cells."""
    timeline = Timeline()
    for number in range(1, 401):
        timeline.add(number, number, 1, T0, T0, T0 + 1000 * SECOND, 0)
    cells = cells_of(timeline, 1000)
    assert 0.5 * rules.CELLS_MAX < len(cells) <= rules.CELLS_MAX
