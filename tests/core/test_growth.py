"""When nodes are asked for, given back, replaced, drained, when requests end: core/growth.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtasks.core import growth
from jobtasks.core.constraints import Needs
from jobtasks.core.growth import Demand, JobWork, Offer, OwnNode, OwnRequest, plan
from jobtasks.core.placement import NodeSize
from jobtasks.core.requests import Ask, Limits, NodeKind, RequestState, refusal
from jobtasks.core.settings import Settings

SECOND = 1_000_000
NOW = 10_000 * SECOND
SETTINGS = Settings()
OFFER = Offer(cores=2, nodes_max=10)
ANYTHING = Needs()


def job(tasks: int = 0, needs: Needs = ANYTHING, **changes: object) -> JobWork:
    """Return a running job with so many tasks to run."""
    work = JobWork(False, True, 1, 0, Needs(), [Demand(needs, tasks)])
    return replace(work, **changes)  # type: ignore[arg-type]


def node(number: int, **changes: object) -> OwnNode:
    """Return a live node of two slots that belongs to request 1."""
    size = NodeSize(number, 1_000_000, 2, 1000)
    return replace(OwnNode(number, 1, f"n{number}", size, 2), **changes)  # type: ignore[arg-type]


def request(number: int = 1, nodes: int = 1, **changes: object) -> OwnRequest:
    """Return a granted request all of whose nodes have joined."""
    places = [f"n{place}" for place in range(1, nodes + 1)]
    made = OwnRequest(
        *(number, RequestState.GRANTED, Ask(max_nodes=nodes), NOW - 500 * SECOND),
        *(NOW - 400 * SECOND, None, places, nodes),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def planned(
    work: JobWork,
    nodes: list[OwnNode] | None = None,
    requests: list[OwnRequest] | None = None,
    offer: Offer = OFFER,
) -> growth.Plan:
    return plan(work, nodes or [], requests or [], NOW, SETTINGS, offer)


def idle(number: int, seconds: float = 100, **changes: object) -> OwnNode:
    """Return a node that has been idle for so long."""
    return node(number, idle_since=NOW - round(seconds * SECOND), **changes)


@pytest.mark.rule("R18", "R26")
@pytest.mark.parametrize(
    ("min_nodes", "max_nodes", "asked"), [(1, 0, (1, 1)), (3, 0, (3, 3)), (2, 4, (2, 4))]
)
def test_a_queued_job_asks_for_its_nodes_at_once(
    min_nodes: int, max_nodes: int, asked: tuple[int, int]
) -> None:
    """As few as it can start with, as many as it may have: one request for both."""
    waiting = job(has_begun=False, min_nodes=min_nodes, max_nodes=max_nodes, demands=[])
    made = planned(waiting)
    assert made.ask is not None
    assert (made.ask.min_nodes, made.ask.max_nodes) == asked


def test_one_request_is_under_way_at_a_time() -> None:
    """Whether it is only wanted, unknown, in the queue, or granted and not joined."""
    for state in (RequestState.WANTED, RequestState.UNKNOWN, RequestState.ASKED):
        waits = request(state=state, places=[], joined=0, granted_at=None)
        assert planned(job(10), [], [waits]).ask is None
    coming = request(joined=0, granted_at=NOW - SECOND)
    assert planned(job(10), [], [coming]).ask is None


def test_a_job_grows_with_its_tasks() -> None:
    """Two run on a node; the first node is there."""
    made = planned(job(10), [node(1, occupants=2)], [request()])
    assert made.ask is not None
    assert (made.ask.min_nodes, made.ask.max_nodes) == (1, 4)


@pytest.mark.rule("R26")
def test_it_grows_no_further_than_it_may() -> None:
    """Its own max_nodes, else what the engine is to give a job."""
    few = planned(job(1000, max_nodes=3), [node(1)], [request()])
    assert few.ask is not None and few.ask.max_nodes == 2
    many = planned(job(1000), [node(1)], [request()])
    assert many.ask is not None and many.ask.max_nodes == 9
    assert planned(job(1000, max_nodes=1), [node(1)], [request()]).ask is None


@pytest.mark.rule("R25", "R27", "R28")
@pytest.mark.parametrize(
    ("needs", "nodes"),
    [
        (Needs(max_tasks_per_node=1), 8),
        (Needs(memory_kib=900_000), 8),
        (Needs(cores=2), 8),
        (Needs(nodes=3), 12),
    ],
)
def test_nodes_are_counted_by_what_runs_on_one(needs: Needs, nodes: int) -> None:
    """Eight tasks: by the job's limit, by memory, by cores; each of three nodes."""
    offer = replace_offer(nodes_max=50)
    assert growth.nodes_wanted(job(8, needs), [node(1)], offer) == nodes


def replace_offer(**changes: object) -> Offer:
    return OFFER._replace(**changes)  # type: ignore[arg-type]


@pytest.mark.rule("R28", "R29")
def test_a_node_is_asked_for_that_is_large_enough() -> None:
    """With room for as many tasks as it has cores, unless no node has that much."""
    needs = Needs(memory_kib=500_000, cores=2, node_cores=4, node_scratch_mb=7)
    asked = growth.ask_for(needs, OFFER)
    assert (asked.cores, asked.memory_kib, asked.scratch_mb) == (4, 1_000_000, 7)
    limits = Limits(0, (NodeKind(4, 8, 700_000),))
    assert growth.ask_for(needs, replace_offer(limits=limits)).memory_kib == 700_000
    assert growth.ask_for(Needs(memory_kib=800_000), replace_offer(limits=limits)).memory_kib == (
        800_000
    )


def test_tasks_that_no_node_is_large_enough_for_get_another() -> None:
    """Also while nodes for others are on their way."""
    large = job(1, Needs(memory_kib=2_000_000))
    coming = request(2, state=RequestState.ASKED, places=[], joined=0, granted_at=None)
    made = planned(large, [node(1)], [request(), coming])
    assert made.ask is not None
    assert (made.ask.max_nodes, made.ask.memory_kib) == (1, 4_000_000)
    fits = replace(coming, ask=made.ask)
    assert planned(large, [node(1)], [request(), coming, fits]).ask is None


def test_a_node_that_is_too_many_is_given_back_when_it_was_idle_for_long() -> None:
    """It takes nothing new, then goes; the first of an allocation goes last."""
    nodes = [idle(1), idle(2), idle(3, seconds=10)]
    made = planned(job(1), nodes, [request(nodes=3)])
    assert made.drain == [(2, growth.NOT_NEEDED)]
    assert made.release == []
    leaving = [idle(1), idle(2, takes_work=False, is_leaving=True), idle(3)]
    made = planned(job(1), leaving, [request(nodes=3)])
    assert (made.drain, made.release) == ([(3, growth.NOT_NEEDED)], [2])


def test_nothing_is_given_back_that_work_waits_for() -> None:
    """Nor what the job is to have at least."""
    nodes = [idle(1), idle(2), idle(3)]
    assert planned(job(6), nodes, [request(nodes=3)]).drain == []
    assert planned(job(0, min_nodes=3), nodes, [request(nodes=3)]).drain == []


def test_what_runs_is_waited_for() -> None:
    """A node that is leaving goes when it is empty, not before."""
    busy = node(2, takes_work=False, is_leaving=True, occupants=1)
    assert planned(job(1), [node(1), busy], [request(nodes=2)]).release == []
    lost = replace(busy, is_live=False)
    assert planned(job(1), [node(1), lost], [request(nodes=2)]).release == [2]


def test_a_lost_node_is_replaced_elsewhere() -> None:
    """The engine may not know yet that it is lost."""
    lost = node(2, is_live=False, lost_at=NOW - SECOND)
    made = planned(job(4), [node(1, occupants=2), lost], [request(nodes=2)])
    assert made.ask is not None
    assert (made.ask.max_nodes, made.ask.without) == (1, ("n2",))
    long_ago = replace(lost, lost_at=NOW - 3600 * SECOND)
    made = planned(job(4), [node(1, occupants=2), long_ago], [request(nodes=2)])
    assert made.ask is not None and made.ask.without == ()


def test_an_allocation_without_nodes_ends_and_another_is_asked_for() -> None:
    """All of them were lost, or none ever joined."""
    lost = node(1, is_live=False, lost_at=NOW)
    made = planned(job(2), [lost], [request()])
    assert made.cancel == [(1, growth.ALL_GONE)]
    assert made.ask is not None
    never = request(joined=0)
    assert planned(job(2), [], [never]).cancel == [(1, growth.NOBODY_JOINED)]


def test_nodes_are_drained_before_their_time_is_up() -> None:
    """Others are asked for; what is still running at the very end is stopped in good order."""
    ends = request(ends_at=NOW + 100 * SECOND, granted_at=NOW - 5000 * SECOND)
    made = planned(job(2), [node(1, occupants=2)], [ends])
    assert made.drain == [(1, growth.TIME_IS_UP)]
    assert made.ask is not None
    early = replace(ends, ends_at=NOW + 1000 * SECOND)
    assert planned(job(2), [node(1, occupants=2)], [early]).drain == []
    last = replace(ends, ends_at=NOW + 10 * SECOND)
    late = node(1, occupants=2, takes_work=False, is_leaving=True)
    assert planned(job(2), [late], [last]).release == [1]


def test_a_short_allocation_is_not_drained_from_the_start() -> None:
    """Only in its last quarter."""
    short = request(ends_at=NOW + 40 * SECOND, granted_at=NOW - 20 * SECOND)
    assert planned(job(2), [node(1, occupants=2)], [short]).drain == []
    later = request(ends_at=NOW + 10 * SECOND, granted_at=NOW - 50 * SECOND)
    assert planned(job(2), [node(1, occupants=2)], [later]).drain


def test_a_request_that_nobody_needs_any_more_ends() -> None:
    """After a while: the next stage may need it."""
    waits = request(2, state=RequestState.ASKED, places=[], joined=0, granted_at=None)
    made = planned(job(1), [node(1)], [request(), waits])
    assert made.cancel == [(2, growth.NOT_NEEDED)]
    young = replace(waits, created_at=NOW - SECOND)
    assert planned(job(1), [node(1)], [request(), young]).cancel == []
    assert planned(job(10), [node(1)], [request(), waits]).cancel == []


@pytest.mark.rule("R35")
@pytest.mark.parametrize("state", [RequestState.UNKNOWN, RequestState.ASKED])
def test_what_is_not_known_ends_nothing(state: RequestState) -> None:
    """However long the engine is silent, a request that is needed is neither ended nor repeated."""
    old = request(state=state, places=[], joined=0, granted_at=None, created_at=0)
    made = planned(job(5), [], [old])
    assert made == growth.Plan()


def test_when_a_job_is_over_its_requests_end() -> None:
    """As soon as no process of it is left: until then its agents have something to tell."""
    over = job(is_over=True)
    waits = request(2, state=RequestState.ASKED, joined=0, granted_at=None)
    made = planned(over, [node(1)], [request(), waits])
    assert made.cancel == [(1, growth.JOB_OVER), (2, growth.JOB_OVER)]
    still = job(is_over=True, live_attempts=1)
    assert planned(still, [node(1)], [request()]) == growth.Plan()


def test_after_a_refusal_the_next_request_waits_longer_and_longer() -> None:
    """From ten seconds to ten minutes."""
    seconds = [growth.retry_seconds(failures, SETTINGS) for failures in range(9)]
    assert seconds == [0, 10, 20, 40, 80, 160, 320, 600, 600]
    refused = job(2, failures=2, failed_at=NOW - 19 * SECOND)
    assert planned(refused).ask is None
    assert planned(replace(refused, failed_at=NOW - 21 * SECOND)).ask is not None


def test_a_request_is_never_larger_than_the_engine_allows() -> None:
    """A partition's limit on the nodes of one allocation."""
    offer = replace_offer(limits=Limits(2, (NodeKind(8, 8, 4_000_000),)))
    made = planned(job(100), [], [], offer)
    assert made.ask is not None and made.ask.max_nodes == 2


@pytest.mark.rule("R30")
@pytest.mark.parametrize(
    ("nodes", "needs", "words"),
    [
        (3, Needs(), "min_nodes asks for 3 nodes"),
        (1, Needs(memory_kib=5000), "min_ram_per_task asks for 5000 KiB, the largest has 4000"),
        (1, Needs(node_memory_kib=4001), "min_ram_per_node asks for 4001 KiB"),
        (1, Needs(node_cores=9), "min_cores_per_node asks for 9 cores, the largest has 8"),
        (1, Needs(cores=8, memory_kib=4000), "all together by none"),
        (2, Needs(cores=8), "of those that are large enough slurm gives a job"),
    ],
)
def test_what_an_engine_can_never_grant_is_told(nodes: int, needs: Needs, words: str) -> None:
    """With the constraint, and what there is."""
    limits = Limits(2, (NodeKind(1, 8, 1000), NodeKind(5, 2, 4000)))
    found = refusal("slurm", limits, nodes, needs)
    assert words in found


def test_what_is_not_known_to_be_impossible_is_not_refused() -> None:
    """No limits are known, or a node would do."""
    large = Needs(memory_kib=10**9)
    assert refusal("slurm", None, 1, large) == ""
    assert refusal("slurm", Limits(), 1, large) == ""
    some = Limits(0, (NodeKind(2, 4, 1000),))
    assert refusal("slurm", some, 2, Needs(cores=4)) == ""


demands = st.builds(
    Demand,
    st.builds(
        Needs,
        memory_kib=st.integers(0, 2_000_000),
        cores=st.integers(0, 4),
        nodes=st.integers(1, 3),
        max_tasks_per_node=st.integers(0, 3),
    ),
    st.integers(0, 100),
)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[JobWork, list[OwnNode], list[OwnRequest]]:
    """Some job with some nodes and requests, not always sensible ones."""
    least = draw(st.integers(1, 3))
    work = JobWork(
        is_over=draw(st.booleans()),
        has_begun=draw(st.booleans()),
        min_nodes=least,
        max_nodes=draw(st.sampled_from([0, least, least + 2])),
        needs=Needs(),
        demands=draw(st.lists(demands, max_size=3)),
        live_attempts=draw(st.integers(0, 1)),
        failures=draw(st.integers(0, 2)),
        failed_at=NOW - draw(st.integers(0, 100)) * SECOND,
    )
    nodes = [
        node(
            number,
            request_id=draw(st.integers(1, 2)),
            is_live=draw(st.booleans()),
            takes_work=draw(st.booleans()),
            is_leaving=draw(st.booleans()),
            occupants=draw(st.integers(0, 2)),
            idle_since=draw(st.sampled_from([None, NOW - 100 * SECOND, NOW])),
        )
        for number in range(1, draw(st.integers(0, 5)) + 1)
    ]
    requests = [
        request(
            number,
            nodes=2,
            state=draw(st.sampled_from([state for state in RequestState if state != "over"])),
            joined=draw(st.integers(0, 2)),
            granted_at=draw(st.sampled_from([None, NOW, NOW - 400 * SECOND])),
            ends_at=draw(st.sampled_from([None, NOW + SECOND, NOW + 3600 * SECOND])),
        )
        for number in range(1, draw(st.integers(0, 2)) + 1)
    ]
    return work, nodes, requests


@given(worlds())
def test_plans_are_sound(world: tuple[JobWork, list[OwnNode], list[OwnRequest]]) -> None:
    """Nobody's work ends, limits hold, nothing is asked for that is on its way."""
    work, nodes, requests = world
    made = planned(work, nodes, requests)
    by_id = {one.id: one for one in nodes}
    ends = {one.id: one.ends_at for one in requests}
    for node_id in made.release:
        one = by_id[node_id]
        is_last_moment = (ends.get(one.request_id) or NOW * 2) < NOW + 60 * SECOND
        assert one.is_leaving
        assert not one.occupants or not one.is_live or is_last_moment
    needed = [(node_id, why) for node_id, why in made.drain if why == growth.NOT_NEEDED]
    assert all(not by_id[node_id].occupants for node_id, _ in needed)
    cancelled = [request_id for request_id, _ in made.cancel]
    assert len(set(cancelled)) == len(cancelled)
    granted = {one.id for one in requests if one.state is RequestState.GRANTED}
    live = {one.request_id for one in nodes if one.is_live}
    assert work.is_over or not set(cancelled) & granted & live
    if made.ask is not None:
        assert not work.is_over
        assert 1 <= made.ask.min_nodes <= made.ask.max_nodes
        assert made.ask.max_nodes <= max(work.max_nodes or OFFER.nodes_max, work.min_nodes)
