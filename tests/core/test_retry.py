"""Budgets, delays and avoidance after a failure (R12, R14, R15)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtasks.core.retry import (
    LOST,
    STOPS,
    Again,
    Cause,
    GiveUp,
    Spent,
    after_failure,
    cause_of,
    delay,
)
from jobtasks.core.settings import Settings

SETTINGS = Settings()
FAILURES = sorted(set(Cause) - STOPS)
OWN = (Cause.EXIT, Cause.TIME_LIMIT)


def after(cause: Cause, spent: Spent, **changes: Any) -> Again | GiveUp:
    """Return what follows a failure on node 1, where another node is left."""
    facts: dict[str, Any] = {
        "node": 1,
        "nodes_left": True,
        "max_attempts": None,
        "used_memory_kib": 0,
        "largest_node_kib": 10**6,
        "random": 0.5,
        "settings": SETTINGS,
    }
    return after_failure(cause, spent, **{**facts, **changes})


def attempts_made(cause: Cause, **changes: Any) -> int:
    """Return how many attempts are made when all of them end by this cause on one node each."""
    spent = Spent()
    for number in range(1, 100):
        found = after(cause, spent, **{"node": number, **changes})
        spent = found.spent
        if isinstance(found, GiveUp):
            assert found.reason
            return number
    raise AssertionError("never given up")


@pytest.mark.rule("R14")
@pytest.mark.parametrize(
    ("cause", "budget"),
    [
        (Cause.EXIT, 3),
        (Cause.TIME_LIMIT, 3),
        (Cause.ASKED, 10),
        (Cause.OUT_OF_MEMORY, 3),
        (Cause.AGENT_LOST, 10),
        (Cause.UNABLE_TO_START, 3),
    ],
)
def test_budgets(cause: Cause, budget: int) -> None:
    """Exactly so many attempts; every failing cause has one."""
    assert attempts_made(cause) == budget


def test_every_cause_is_a_failure_or_a_stop() -> None:
    """A new one needs a budget, or none."""
    assert {*FAILURES, *STOPS} == set(Cause)
    assert STOPS.isdisjoint(LOST)


@pytest.mark.rule("R14")
@pytest.mark.parametrize("cause", FAILURES)
@pytest.mark.parametrize("given_attempts", [1, 2, 7])
def test_max_attempts_is_the_own_faults(cause: Cause, given_attempts: int) -> None:
    """It replaces the budget of the process's own faults and no other's."""
    made = attempts_made(cause, max_attempts=given_attempts)
    assert made == (given_attempts if cause in OWN else attempts_made(cause))


@pytest.mark.rule("R14")
def test_unable_to_start() -> None:
    """Once on each of at most three nodes; at once where none is left."""
    assert attempts_made(Cause.UNABLE_TO_START, nodes_left=False) == 1
    assert attempts_made(Cause.UNABLE_TO_START, node=5) == 2, "it came back to the same node"
    found = after(Cause.UNABLE_TO_START, Spent(unable_nodes=(4, 7)), node=5, nodes_left=True)
    assert isinstance(found, GiveUp)
    assert found.spent.unable_nodes == (4, 5, 7)


@pytest.mark.rule("R14")
@given(st.lists(st.sampled_from(FAILURES), max_size=40))
def test_budgets_of_causes_do_not_mix(causes: list[Cause]) -> None:
    """In any order: given up exactly when the budget of the cause at hand is used up."""
    spent = Spent()
    used: dict[str, int] = {}
    for place, cause in enumerate(causes):
        kind = "own" if cause in OWN else "lost" if cause in LOST else cause
        used[kind] = used.get(kind, 0) + 1
        budget = {"own": 3, "lost": 10, Cause.ASKED: 10}.get(kind, 3)
        found = after(cause, spent, node=place)
        assert isinstance(found, GiveUp) == (used[kind] >= budget)
        spent = found.spent
        if isinstance(found, GiveUp):
            return


@pytest.mark.rule("R12")
@given(st.lists(st.tuples(st.sampled_from(FAILURES), st.integers(1, 5)), max_size=8))
def test_nodes_where_it_failed_are_avoided(failures: list[tuple[Cause, int]]) -> None:
    """Except where the attempt was lost with its node or agent."""
    spent = Spent()
    for cause, node in failures:
        found = after(cause, spent, node=node)
        spent = found.spent
        expected = {n for c, n in failures[: failures.index((cause, node)) + 1] if c not in LOST}
        assert expected <= set(spent.failed_nodes)
        if isinstance(found, Again):
            assert found.avoid_nodes == spent.failed_nodes == tuple(sorted(spent.failed_nodes))
    assert set(spent.failed_nodes) == {n for c, n in failures if c not in LOST}


@pytest.mark.rule("R14", "R28")
@pytest.mark.parametrize(
    ("used", "largest", "before", "after_kib"),
    [
        (100, 1000, 0, 200),
        (600, 1000, 0, 1000),
        (2000, 1000, 0, 1000),
        (0, 1000, 0, 0),
        (100, 1000, 700, 700),
    ],
)
def test_memory_is_doubled(used: int, largest: int, before: int, after_kib: int) -> None:
    """From what was used, capped at the largest node, never less than it was."""
    spent = Spent(memory_kib=before)
    found = after(Cause.OUT_OF_MEMORY, spent, used_memory_kib=used, largest_node_kib=largest)
    assert found.spent.memory_kib == after_kib


@pytest.mark.rule("R14")
@pytest.mark.parametrize("cause", sorted(set(FAILURES) - {Cause.OUT_OF_MEMORY}))
def test_only_out_of_memory_asks_for_more(cause: Cause) -> None:
    """Another cause leaves what is to be reserved."""
    found = after(cause, Spent(memory_kib=70), used_memory_kib=900)
    assert found.spent.memory_kib == 70


@pytest.mark.rule("R15")
@given(failures=st.integers(1, 10**6), random=st.floats(0, 1, exclude_max=True))
def test_delay_bounds(failures: int, random: float) -> None:
    """1 s doubled each time, ± 25 %, never more than five minutes."""
    base = min(2.0 ** min(failures - 1, 20), 300.0)
    seconds = delay(failures, random, SETTINGS)
    assert base * 0.75 <= seconds <= min(base * 1.25, 300.0)


@pytest.mark.rule("R15")
@given(failures=st.integers(1, 100), low=st.floats(0, 0.49), high=st.floats(0.51, 0.99))
def test_delays_vary(failures: int, low: float, high: float) -> None:
    """Tasks that failed together do not come back together, also at the longest delay."""
    assert delay(failures, low, SETTINGS) < delay(failures, high, SETTINGS)


@pytest.mark.rule("R15")
def test_lost_attempts_have_no_delay_and_do_not_lengthen_others() -> None:
    """The delay counts the failures that were followed by one."""
    spent = Spent(lost=5, own=1)
    lost = after(Cause.AGENT_LOST, spent)
    assert isinstance(lost, Again)
    assert lost.delay_seconds == 0
    own = after(Cause.EXIT, lost.spent)
    assert isinstance(own, Again)
    assert own.delay_seconds == 2.0


@pytest.mark.rule("R15")
def test_delays_of_all_causes_add_up() -> None:
    """Own faults, asked-for attempts, memory and unable to start: the fifth waits 16 s."""
    spent = Spent(own=1, asked=1, memory=1, unable_nodes=(9,))
    found = after(Cause.ASKED, spent)
    assert isinstance(found, Again)
    assert found.delay_seconds == 16.0


@pytest.mark.rule("R14")
@pytest.mark.parametrize(
    ("kind", "exit_code", "cause"),
    [
        ("exit", 0, Cause.EXIT),
        ("exit", 1, Cause.EXIT),
        ("exit", None, Cause.EXIT),
        ("exit", 111, Cause.ASKED),
        ("exit", 75, Cause.ASKED),
        ("time_limit", 111, Cause.TIME_LIMIT),
        ("stopped", 75, Cause.STOPPED),
        ("out_of_memory", None, Cause.OUT_OF_MEMORY),
        ("unable_to_start", None, Cause.UNABLE_TO_START),
        ("agent_lost", None, Cause.AGENT_LOST),
    ],
)
def test_causes(kind: str, exit_code: int | None, cause: Cause) -> None:
    """111 and 75 ask for another attempt when the process itself exited with them."""
    assert cause_of(kind, exit_code) is cause
