"""Room on a node, and the pure form of the claim (R5, R12, R26–R30)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtasks.core.constraints import Needs
from jobtasks.core.placement import (
    NodeSize,
    Occupant,
    Room,
    RunningJob,
    WaitingTask,
    claim,
    is_large_enough,
)

NODE = NodeSize(1, memory_kib=1000, cores=4, scratch_mb=50)
NOW = 100


def waiting(number: int, sequence: int = 0, needs: Needs | None = None, **more: Any) -> WaitingTask:
    """Return a waiting task."""
    return WaitingTask(number, sequence, needs or Needs(), **more)


def taken(*tasks: WaitingTask, frontier: int | None = 0) -> list[int]:
    """Return what a node takes of one job."""
    return claim([RunningJob(1, frontier, tasks)], Room(NODE), 9, NOW, {})


@pytest.mark.rule("R28", "R29", "R30")
@pytest.mark.parametrize(
    ("needs", "extra_kib", "fits"),
    [
        (Needs(), 0, True),
        (Needs(memory_kib=1000), 0, True),
        (Needs(memory_kib=1001), 0, False),
        (Needs(), 1001, False),
        (Needs(node_memory_kib=1000), 0, True),
        (Needs(node_memory_kib=1001), 0, False),
        (Needs(cores=4), 0, True),
        (Needs(cores=5), 0, False),
        (Needs(node_cores=5), 0, False),
        (Needs(node_scratch_mb=50), 0, True),
        (Needs(node_scratch_mb=51), 0, False),
    ],
)
def test_a_node_is_large_enough(needs: Needs, extra_kib: int, fits: bool) -> None:
    """Or could never run such a task, busy or not."""
    assert is_large_enough(NODE, needs, extra_kib) is fits


@pytest.mark.rule("R28", "R30")
def test_what_is_occupied_is_not_free() -> None:
    """Memory as reserved by each attempt, cores as needed; it may be used to the last KiB."""
    room = Room(NODE, [Occupant(1, Needs(cores=3), 600)])
    assert room.fits(Needs(memory_kib=400, cores=1))
    assert not room.fits(Needs(memory_kib=401))
    assert not room.fits(Needs(cores=2))
    room.take(Occupant(2, Needs(cores=1), 400))
    assert room.fits(Needs())
    assert not room.fits(Needs(memory_kib=1))


@pytest.mark.rule("R29")
def test_a_nodes_size_counts_also_when_it_is_empty() -> None:
    """min_ram_per_node looks at the whole node, not at what is free of it."""
    full = Room(NODE, [Occupant(1, Needs(), 1000)])
    assert full.fits(Needs(node_memory_kib=1000))
    assert not Room(NODE).fits(Needs(node_memory_kib=1001))


@pytest.mark.rule("R25")
def test_what_is_kept_for_a_gang_leaves_room_for_what_asks_for_nothing() -> None:
    """More memory and cores may be kept than are free: only tasks that ask for some wait."""
    kept = Room(NODE, [Occupant(1, Needs(cores=3), 900), Occupant(2, Needs(cores=3), 900)])
    assert kept.fits(Needs())
    assert not kept.fits(Needs(memory_kib=1))
    assert not kept.fits(Needs(cores=1))


@pytest.mark.rule("R27")
def test_max_tasks_per_node() -> None:
    """Of the new task, and of those that run there; of the same job only."""
    room = Room(NODE, [Occupant(1, Needs(), 0), Occupant(1, Needs(max_tasks_per_node=2), 0)])
    assert not room.admits(1, Needs())
    assert not room.admits(1, Needs(max_tasks_per_node=2))
    assert room.admits(2, Needs(max_tasks_per_node=1))
    strict = Room(NODE, [Occupant(1, Needs(max_tasks_per_node=n), 0) for n in (5, 3, 4)])
    assert not strict.admits(1, Needs())
    assert Room(NODE, [Occupant(1, Needs(), 0)]).admits(1, Needs(max_tasks_per_node=2))


@pytest.mark.rule("R26")
@pytest.mark.parametrize(
    ("others", "limit", "admitted"), [(0, 1, True), (1, 1, False), (1, 2, True), (5, 0, True)]
)
def test_max_nodes(others: int, limit: int, admitted: bool) -> None:
    """With this node, never more; whether the job is here already does not matter."""
    for occupants in ([], [Occupant(1, Needs(), 0)]):
        room = Room(NODE, occupants, {1: others})
        assert room.admits(1, Needs(max_nodes=limit)) is admitted
    assert Room(NODE, [], {2: 9}).admits(1, Needs(max_nodes=1))


@pytest.mark.rule("R5")
def test_only_the_frontier_in_order_of_qsequence() -> None:
    """Higher and lower sequences wait; the order of the argument does not matter."""
    tasks = [waiting(5), waiting(2, 1), waiting(3), waiting(1, 2), waiting(4)]
    assert taken(*tasks) == [3, 4, 5]
    assert taken(*tasks, frontier=1) == [2]
    assert taken(*tasks, frontier=None) == []


@pytest.mark.rule("R3", "R12", "R15")
def test_what_may_not_start() -> None:
    """A latent child, a delay that is not over, a node that is avoided."""
    here = frozenset({1})
    tasks = [
        waiting(1, is_published=False),
        waiting(2, not_before=NOW + 1),
        waiting(3, not_before=NOW),
        waiting(4, avoid_nodes=here, avoid_until=NOW + 1),
        waiting(5, avoid_nodes=here, avoid_until=NOW),
        waiting(6, avoid_nodes=frozenset({2, 3}), avoid_until=NOW + 1),
    ]
    assert taken(*tasks) == [3, 5, 6]


@pytest.mark.rule("R18", "R28")
def test_older_jobs_first_and_past_what_does_not_fit() -> None:
    """Until the slots are used up."""
    large, small = Needs(memory_kib=900), Needs(memory_kib=100)
    jobs = [
        RunningJob(2, 0, [waiting(20, needs=small), waiting(21, needs=small)]),
        RunningJob(1, 0, [waiting(10, needs=large), waiting(11, needs=large)]),
        RunningJob(3, 4, [waiting(30, 4)]),
    ]
    assert claim(jobs, Room(NODE), 9, NOW, {}) == [10, 20, 30]
    assert claim(jobs, Room(NODE), 2, NOW, {}) == [10, 20]
    assert claim(jobs, Room(NODE), 0, NOW, {}) == []


def wanting(number: int, **more: Any) -> RunningJob:
    """Return a running job with nine tasks that want slots."""
    return RunningJob(number, 0, [waiting(10 * number + place) for place in range(9)], **more)


@pytest.mark.rule("R18")
@pytest.mark.parametrize(
    ("jobs", "usage", "expected"),
    [
        ([wanting(1), wanting(2)], {}, [10, 20, 11, 21]),
        ([wanting(1), wanting(2, priority=1)], {}, [20, 21, 22, 23]),
        ([wanting(1, slots=2), wanting(2)], {}, [20, 21, 10, 22]),
        ([wanting(1, owner="a"), wanting(2, owner="b")], {"a": 3}, [20, 21, 22, 10]),
        ([wanting(1, owner="a", slots=9), wanting(2, owner="b")], {"b": 2}, [10, 11, 20, 12]),
        (
            [wanting(1, owner="a"), wanting(2, owner="a"), wanting(3, owner="b")],
            {},
            [10, 30, 20, 31],
        ),
        ([wanting(1, priority=-1), wanting(2, slots=50)], {}, [20, 21, 22, 23]),
    ],
)
def test_whose_turn_it_is(
    jobs: list[RunningJob], usage: dict[str, int], expected: list[int]
) -> None:
    """By priority, then the user with the fewest slots, then the job with the fewest, then age."""
    assert claim(jobs, Room(NODE), 4, NOW, usage) == expected


NEEDS = st.builds(
    Needs,
    memory_kib=st.integers(0, 600),
    cores=st.integers(0, 3),
    max_tasks_per_node=st.integers(0, 3),
    max_nodes=st.integers(0, 2),
)


@pytest.mark.rule("R26", "R27", "R28", "R30")
@given(
    jobs=st.lists(st.lists(NEEDS, max_size=6), max_size=4),
    others=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    slots=st.integers(0, 10),
)
def test_a_claim_keeps_every_limit(jobs: list[list[Needs]], others: list[int], slots: int) -> None:
    """Whatever is waiting: slots, memory, cores, tasks per node and nodes are within bounds; and
    nothing more could have been taken.
    """
    needs = {place * 100 + n: one for place, row in enumerate(jobs) for n, one in enumerate(row)}
    room = Room(NODE, [], dict(enumerate(others)))
    running = [
        RunningJob(place, 0, [waiting(place * 100 + n, needs=one) for n, one in enumerate(row)])
        for place, row in enumerate(jobs)
    ]
    chosen = claim(running, room, slots, NOW, {})
    assert len(set(chosen)) == len(chosen) <= slots
    assert sum(needs[task].memory_kib for task in chosen) <= NODE.memory_kib
    assert sum(needs[task].cores for task in chosen) <= NODE.cores
    for task in chosen:
        job = task // 100
        limit = needs[task].max_tasks_per_node
        assert not limit or sum(other // 100 == job for other in chosen) <= limit
        assert not needs[task].max_nodes or others[job] < needs[task].max_nodes
    if len(chosen) < slots:
        left = [task for task in needs if task not in chosen]
        assert not any(room.fits(needs[t]) and room.admits(t // 100, needs[t]) for t in left)


@given(node=st.builds(NodeSize, st.just(1), *[st.integers(0, 1000)] * 3), needs=NEEDS)
def test_what_fits_a_node_fits_a_larger_one(node: NodeSize, needs: Needs) -> None:
    """More of anything never hurts."""
    larger = replace(node, memory_kib=node.memory_kib + 1, cores=node.cores + 1)
    assert not is_large_enough(node, needs) or is_large_enough(larger, needs)
