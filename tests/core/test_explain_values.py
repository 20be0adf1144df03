"""Every reason that core/explain.py can give, from values alone (R31)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jobtasks.core.constraints import Needs
from jobtasks.core.explain import (
    AttemptView,
    Creator,
    Frontier,
    Group,
    Holder,
    JobView,
    TaskView,
    explain_job,
    explain_task,
)
from jobtasks.core.node_reasons import EngineRequest, Fleet, Gathering, NodeView
from jobtasks.core.placement import NodeSize, Occupant
from jobtasks.core.reasons import Reason
from jobtasks.core.sequencing import Level
from jobtasks.core.states import JobState, TaskState

pytestmark = pytest.mark.rule("R31")

NOW = 1_700_000_000_000_000
LATER = NOW + 90_000_000
SHOWN_LATER = "2023-11-14 22:14:50 UTC (in 90 s)"
JOB = JobView(7, "JOB", JobState.RUNNING, Needs(), todo=1)
TASK = TaskView("TASK", 1, TaskState.WAITING, Needs())
FRONTIER = Level(1, todo=1)
RUNS = AttemptView(2, "n1", 3, True, NOW, "exit code 9")


def node(number: int = 1, *occupants: Occupant, **changes: Any) -> NodeView:
    """A node n<number> of 2 slots, 1000 KiB, 4 cores, 50 MiB."""
    size = NodeSize(number, 1000, 4, 50)
    return replace(NodeView(f"U{number}", f"n{number}", size, 2, occupants=occupants), **changes)


def occupant(job_id: int = 1, memory_kib: int = 0, **needs: Any) -> Occupant:
    return Occupant(job_id, Needs(memory_kib=memory_kib, **needs), memory_kib)


def fleet(*nodes: NodeView, **more: Any) -> Fleet:
    return Fleet(NOW, nodes, **more)


def of_task(
    on: Fleet | None = None,
    job: JobView = JOB,
    frontier: Level | None = FRONTIER,
    holders: tuple[Holder, ...] = (),
    **changes: Any,
) -> list[Reason]:
    return explain_task(replace(TASK, **changes), job, frontier, holders, on or fleet(node()))


def only(reasons: list[Reason], code: str) -> Reason:
    assert [reason.code for reason in reasons] == [code], reasons
    return reasons[0]


def codes(reasons: list[Reason]) -> list[str]:
    return [reason.code for reason in reasons]


def test_a_task_that_runs() -> None:
    """One reason: which attempt, where, since when; also before its agent has said so."""
    reason = only(of_task(state=TaskState.RUNNING, newest=RUNS), "running")
    assert reason.text == "It runs: attempt 2 on slot 3 of n1 since 2023-11-14 22:13:20 UTC."
    given = replace(RUNS, has_begun=False)
    text = only(of_task(state=TaskState.RUNNING, newest=given), "running").text
    assert "was given to slot 3 of n1" in text


def test_a_task_that_is_complete() -> None:
    """Since when; nothing is to be lifted."""
    reason = only(of_task(state=TaskState.COMPLETE, finished_at=NOW), "complete")
    assert reason.text == "It is complete since 2023-11-14 22:13:20 UTC."
    assert reason.lift is None


def test_a_task_that_failed_for_good() -> None:
    """Why, and the command that tries it again."""
    reason = only(of_task(state=TaskState.FAILED, newest=RUNS, finished_at=NOW), "failed")
    assert reason.text.endswith("22:13:20 UTC: exit code 9.")
    assert reason.lift == "`jobtasks job retry JOB TASK`, once the job is over."


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED, JobState.COMPLETE])
def test_a_job_that_is_over(state: JobState) -> None:
    """Nothing else counts then, for it and its tasks."""
    job = replace(JOB, state=state, ended_at=NOW, log="task A failed:\nexit 1", live=2)
    for reasons in (of_task(job=job), explain_job(job, None, fleet())):
        reason = only(reasons, f"job_{state.value.lower()}")
        assert "task A failed: exit 1" in reason.text
        assert "not ended yet: 2" in reason.text
        assert (reason.lift is None) == (state is JobState.COMPLETE)


def test_a_job_that_has_not_started() -> None:
    """The task says so, and why its job has not."""
    job = replace(JOB, state=JobState.QUEUED)
    assert codes(of_task(fleet(), job=job)) == ["job_queued", "no_node"]
    assert codes(of_task(job=job)) == ["job_queued", "ready"]


def test_a_halted_job() -> None:
    """Which tasks failed, what still runs."""
    job = replace(JOB, halt="finish", failed_tasks=["A", "B"], failed=9, running=1)
    for reasons in (of_task(job=job), explain_job(job, Frontier(FRONTIER), fleet(node()))):
        reason = only(reasons, "job_halted")
        assert "(on_failure: finish), because A, B and 7 more failed for good" in reason.text
        assert "1 task still runs" in reason.text
        assert reason.details["failed"] == 9


def test_a_job_whose_processes_have_not_ended() -> None:
    """All tasks are over."""
    job = replace(JOB, todo=0, live=1)
    assert "not ended yet: 1" in only(explain_job(job, None, fleet()), "job_ending").text


def test_the_creator_is_not_complete() -> None:
    """Which task, and where it runs."""
    reason = only(of_task(creator=Creator("MOTHER", RUNS)), "creator")
    assert "MOTHER, is not complete: attempt 2 on slot 3 of n1" in reason.text
    assert reason.details["creator"] == "MOTHER"
    assert "deleted" in (reason.lift or "")


def test_a_lower_sequence() -> None:
    """At most five of those that hold it are named, and how many more there are."""
    kinds = ["running", "delayed", "child", "waiting", "failed", "waiting"]
    holders = tuple(
        Holder(f"T{place}", kind, LATER if kind == "delayed" else None)
        for place, kind in enumerate(kinds)
    )
    level = Level(0, todo=10, running=1)
    reason = only(of_task(frontier=level, holders=holders), "lower_sequence")
    assert reason.text == (
        "Sequence 1 waits for sequence 0, of which 11 tasks are not complete: T0 runs, T1 waits"
        f" until {SHOWN_LATER}, T2 waits for its creator, T3 waits for a node, T4 failed for good"
        " and 6 more."
    )
    assert reason.lift == "All tasks of sequence 0 are complete."
    assert [row["state"] for row in reason.details["tasks"]] == kinds
    failed = only(of_task(frontier=replace(level, failed=1)), "lower_sequence")
    assert (failed.lift or "").startswith("Nothing in this run")


def test_a_delay() -> None:
    """Until when, and what the last attempt ended with."""
    reason = only(of_task(not_before=LATER, failed_count=2, newest=RUNS), "delay")
    assert reason.text == (
        f"It failed 2 times (exit code 9); its next attempt may start at {SHOWN_LATER}."
    )
    assert reason.details["seconds"] == 90.0
    assert codes(of_task(not_before=NOW)) == ["ready"]


def test_several_reasons_hold_at_once() -> None:
    """What waiting does not change is told beside what it does."""
    reasons = of_task(
        creator=Creator("MOTHER", None),
        frontier=Level(0, todo=1),
        not_before=LATER,
        needs=Needs(cores=9),
        unknown_constraints=["colour"],
    )
    assert codes(reasons) == [
        *("creator", "lower_sequence", "delay"),
        *("too_large", "unknown_constraints"),
    ]


def test_no_node() -> None:
    """None has joined; or whose agents are away."""
    assert only(of_task(fleet()), "no_node").text == "No node has joined yet."
    away = only(of_task(fleet(node(is_live=False), node(2, is_live=False))), "no_node")
    assert "the agents of n1 and n2 are away" in away.text


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        (Needs(memory_kib=1001), "min_ram_per_task asks for 1001 KiB, the largest node (n1) has"),
        (Needs(node_memory_kib=1001), "min_ram_per_node asks for 1001 KiB"),
        (Needs(cores=5), "min_cores_per_task asks for 5 cores, the largest node (n1) has 4"),
        (Needs(node_cores=5), "min_cores_per_node asks for 5 cores"),
        (Needs(node_scratch_mb=51), "min_scratch_mb_per_node asks for 51 MiB"),
    ],
)
def test_no_node_is_large_enough(needs: Needs, words: str) -> None:
    """Which constraint, and what the largest node has; the same for a queued job."""
    reason = only(of_task(needs=needs), "too_large")
    assert words in reason.text
    (row,) = reason.details["constraints"]
    assert f"`jobtasks job retry JOB TASK -c {row['constraint']}=N`" in (reason.lift or "")
    queued = replace(JOB, state=JobState.QUEUED, needs=needs)
    assert words in only(explain_job(queued, None, fleet(node())), "too_large").text


def test_no_node_meets_all_constraints_together() -> None:
    """Each is met by one."""
    many_cores = node(2, size=NodeSize(2, 100, 16, 50))
    reason = only(
        of_task(fleet(node(), many_cores), needs=Needs(memory_kib=900, cores=9)), "too_large"
    )
    assert "min_ram_per_task 900 KiB and min_cores_per_task 9 cores is met by a node" in reason.text


def test_the_node_that_would_do_is_away() -> None:
    """It is named; and memory that was raised after running out of it says so."""
    large = node(2, size=NodeSize(2, 9000, 4, 50), is_live=False)
    reason = only(
        of_task(fleet(node(), large), needs=Needs(memory_kib=2000), is_memory_raised=True),
        "too_large",
    )
    assert (reason.lift or "").startswith("n2 would do and is away")
    assert "raised after it ran out of memory" in reason.text


@pytest.mark.parametrize(
    ("occupants", "needs", "words"),
    [
        ([occupant(), occupant()], Needs(), "n1 (2 of 2 slots taken)"),
        ([occupant(memory_kib=600)], Needs(memory_kib=500), "400 of 1000 KiB free, 500 needed"),
        ([occupant(cores=3)], Needs(cores=2), "1 of 4 cores free, 2 needed"),
    ],
)
def test_nodes_are_busy(occupants: list[Occupant], needs: Needs, words: str) -> None:
    """Slots, memory or cores."""
    reason = only(of_task(fleet(node(1, *occupants)), needs=needs), "nodes_busy")
    assert words in reason.text
    assert reason.details["nodes"][0]["tasks_of_this_job"] == 0


def test_nodes_that_take_nothing_of_it() -> None:
    """Busy, avoided, held, draining, kept: one reason for each kind, with its nodes."""
    nodes = [
        node(1, occupant(), occupant()),
        node(2),
        node(3, held_until=LATER, held_reason="4 attempts failed"),
        node(4, is_draining=True),
        node(5, kept_for_job="JOB2"),
        node(6, is_draining=True),
    ]
    reasons = of_task(fleet(*nodes), avoid_nodes=frozenset({2}), avoid_until=LATER)
    texts = {reason.code: reason.text for reason in reasons}
    assert list(texts) == [
        *("nodes_busy", "nodes_kept", "nodes_avoided", "nodes_held", "nodes_draining"),
    ]
    assert f"n2 until {SHOWN_LATER}" in texts["nodes_avoided"]
    assert f"n3 until {SHOWN_LATER}: 4 attempts failed" in texts["nodes_held"]
    assert "n4 and n6" in texts["nodes_draining"]
    assert "n5 (for job JOB2)" in texts["nodes_kept"]
    assert codes(of_task(fleet(*nodes), avoid_nodes=frozenset({2}), avoid_until=NOW)) == ["ready"]


def test_what_just_fits_is_ready() -> None:
    """All that is left of a node; a hold that ends now."""
    full = node(1, occupant(memory_kib=600, cores=3), held_until=NOW)
    assert codes(of_task(fleet(full), needs=Needs(memory_kib=400, cores=1))) == ["ready"]


def test_a_queued_job_whose_nodes_are_held_or_draining() -> None:
    """It starts on none of them; a busy one would do."""
    job = replace(JOB, state=JobState.QUEUED)
    blocked = fleet(node(1, held_until=LATER), node(2, is_draining=True))
    assert codes(explain_job(job, None, blocked)) == ["nodes_held", "nodes_draining"]
    busy = fleet(node(1, held_until=LATER), node(2, occupant(), occupant()))
    assert codes(explain_job(job, None, busy)) == ["ready"]


def test_max_tasks_per_node() -> None:
    """How many the job runs there; also a limit that a running task brought."""
    limited = Needs(max_tasks_per_node=1)
    reason = only(of_task(fleet(node(1, occupant(7))), needs=limited), "max_tasks_per_node")
    assert "n1 (the job runs 1 there, at most 1)" in reason.text
    brought = fleet(node(1, occupant(7, max_tasks_per_node=1)))
    assert codes(of_task(brought)) == ["max_tasks_per_node"]
    assert codes(of_task(fleet(node(1, occupant(8))), needs=limited)) == ["ready"]


def test_max_nodes() -> None:
    """The job is on as many other nodes as it may."""
    nodes = fleet(node(1, occupant(7), occupant(7)), node(2))
    reasons = of_task(nodes, needs=Needs(max_nodes=1))
    assert codes(reasons) == ["max_nodes", "nodes_busy"]
    assert "n2 (it is on 1 of at most 1 nodes)" in reasons[0].text


def test_min_nodes_of_a_job() -> None:
    """How many would do, which of them have room."""
    job = replace(JOB, state=JobState.QUEUED, min_nodes=2)
    two = fleet(node(1), node(2, occupant(), occupant()))
    reason = only(explain_job(job, None, two), "min_nodes")
    assert "asks for 2 large enough nodes" in reason.text
    assert "2 nodes would do, of which free is n1" in reason.text
    alone = only(explain_job(job, None, fleet(node(1))), "min_nodes")
    assert "-c min_nodes=N" in (alone.lift or "")
    assert codes(explain_job(job, None, fleet(node(1), node(2)))) == ["ready"]


def test_gangs() -> None:
    """Too few nodes; some not usable; its own gathering; another's."""
    gang = Needs(nodes=2)
    two = (node(1), node(2))
    few = only(of_task(fleet(node(1)), needs=gang), "too_few_nodes")
    assert "asks for 2 nodes at the same time for it; large enough are only n1" in few.text
    assert "none is kept so far" in only(of_task(fleet(*two), needs=gang), "gang_gathering").text
    held = fleet(node(1), replace(node(2), is_draining=True))
    assert codes(of_task(held, needs=gang)) == ["nodes_draining"]
    avoided = of_task(fleet(*two), needs=gang, avoid_nodes=frozenset({2}), avoid_until=LATER)
    assert codes(avoided) == ["nodes_avoided"]
    own = fleet(*two, gathering=Gathering("TASK", 1, gang, ("n2",)))
    assert "1 of them kept so far: n2" in only(of_task(own, needs=gang), "gang_gathering").text
    other = fleet(*two, gathering=Gathering("OTHER", 2, gang, ()))
    assert "task OTHER gathers" in only(of_task(other, needs=gang), "gang_waits").text


@pytest.mark.rule("R25")
def test_what_a_gang_keeps() -> None:
    """The last free slot, and its memory; another slot of the node is for everybody."""
    gang = Gathering("GANG", 2, Needs(nodes=2, memory_kib=600), ())
    free = node(1)
    last = replace(free, slots=1)
    kept = only(of_task(fleet(last, gathering=gang)), "nodes_kept")
    assert "n1 (for task GANG)" in kept.text
    assert codes(of_task(fleet(free, gathering=gang))) == ["ready"]
    much = Needs(memory_kib=free.size.memory_kib - 500)
    assert codes(of_task(fleet(free, gathering=gang), needs=much)) == ["nodes_kept"]
    small = replace(free, size=replace(free.size, memory_kib=599))
    assert codes(of_task(fleet(small, gathering=gang))) == ["ready"]


@pytest.mark.rule("R18")
def test_what_is_kept_for_a_start() -> None:
    """Everything free of a node, as long as that job has not started; it is told so, too."""
    kept = replace(node(1), kept_for_job="JOB2")
    assert "n1 (for job JOB2)" in only(of_task(fleet(kept)), "nodes_kept").text
    job = replace(JOB, uuid="JOB2", state=JobState.QUEUED, min_nodes=2)
    busy = replace(node(2, occupant(), occupant()), kept_for_job="JOB2")
    told = only(explain_job(job, None, fleet(kept, busy)), "min_nodes")
    assert "they take nothing new until it has started" in told.text


def test_the_engines_queue() -> None:
    """What was asked for, beside what keeps the task; not when a node has room."""
    asked = [EngineRequest("slurm", "4711", "PENDING, Priority", NOW)]
    reasons = of_task(fleet(requests=asked))
    assert codes(reasons) == ["no_node", "engine_queue"]
    assert "slurm has not granted request 4711 yet (PENDING, Priority)" in reasons[1].text
    assert codes(of_task(fleet(node(), requests=asked))) == ["ready"]


@pytest.mark.rule("R30")
def test_unknown_constraints() -> None:
    """Of task and job, each once; they keep nothing from running."""
    job = replace(JOB, unknown_constraints=["min_gpu", "colour"])
    reasons = of_task(job=job, unknown_constraints=["colour"])
    assert codes(reasons) == ["ready", "unknown_constraints"]
    assert "colour and min_gpu are kept" in reasons[1].text
    assert codes(explain_job(job, Frontier(FRONTIER), fleet()))[-1] == "unknown_constraints"


def test_a_running_job_is_summed_up() -> None:
    """By needs, not one reason for each of its million tasks."""
    frontier = Frontier(
        Level(1, todo=1_000_000, running=2, failed=1),
        groups=[Group(900_000, Needs(cores=9)), Group(5, Needs(), frozenset({1}), LATER)],
        groups_left=10,
        delayed=4,
        delayed_until=LATER,
        children=3,
    )
    job = replace(JOB, todo=1_000_001, failed=1, failed_tasks=["BAD"])
    reasons = {reason.code: reason for reason in explain_job(job, frontier, fleet(node()))}
    assert {code: reason.details["tasks"] for code, reason in reasons.items()} == {
        "running": 2,
        "creator": 3,
        "delay": 4,
        "too_large": 900_000,
        "nodes_avoided": 5,
        "not_looked_at": 10,
        "tasks_failed": 1,
        "lower_sequence": 1,
    }
    assert "900000 tasks of sequence 1" in reasons["too_large"].text
    assert SHOWN_LATER in reasons["delay"].text
    assert "BAD" in reasons["tasks_failed"].text
