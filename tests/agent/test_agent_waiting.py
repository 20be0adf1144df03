"""Attempts that wait behind a slot for a moment, on a real agent (agent/pace.py)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial

import pytest

from jobtasks.agent.pace import GIVE_BACK_SECONDS

from .conftest import AgentProcess, FakeServer, Launch, wait_joined

ROUNDS = 50
"""On a machine that is busy what waits may be given back before it is looked at."""
SHORT_TASKS_MAX = 3000
"""On a machine that is busy most of what is short takes long."""

pytestmark = pytest.mark.rule("R33", "R35")


def test_short_tasks_ask_for_more_than_there_are_slots(
    server: FakeServer, agent: AgentProcess
) -> None:
    """After one that failed, or before the first, for none."""
    server.wait(lambda: server.syncs, "the first sync")
    assert server.syncs[-1].places == 1
    for attempt in range(1, SHORT_TASKS_MAX):
        server.start(attempt, "true")
        server.end_of(attempt)
        if server.syncs[-1].places > 1:
            break
    else:
        pytest.fail("no more than one place after many short tasks")
    server.start(SHORT_TASKS_MAX, "false")
    server.end_of(SHORT_TASKS_MAX)
    server.wait(lambda: server.syncs[-1].places == 1, "one place")


def test_what_comes_for_a_taken_slot_starts_as_it_is_free(
    server: FakeServer, agent: AgentProcess
) -> None:
    """In order, and each is said to be held until it runs."""
    for first in range(1, 3 * ROUNDS, 3):
        attempts = range(first, first + 3)
        for attempt in attempts:
            server.start(attempt, "date", "+%s%N")
        server.wait(partial(is_over, server, attempts), "each has run or was given back")
        if not server.refused.intersection(attempts):
            times = [int(server.text_of(attempt)) for attempt in attempts]
            assert times == sorted(times)
            if set(attempts) & {one for sync in server.syncs for one in sync.held}:
                return
    pytest.fail("nothing was held in any round")


def test_what_has_waited_too_long_is_given_back(server: FakeServer, agent: AgentProcess) -> None:
    """It is refused, and never started; what runs goes on."""
    server.start(1, "sleep", "1000")
    server.pid_of(1)
    began = time.monotonic()
    server.start(2, "true")
    server.wait(lambda: any(2 in sync.refused for sync in server.syncs), "it is refused")
    assert time.monotonic() - began > GIVE_BACK_SECONDS * 0.9
    server.stop(1)
    server.end_of(1)
    server.wait(lambda: 1 in server.syncs[-1].free_slots, "the slot is free")
    assert 2 not in server.pids.keys() | server.ended.keys()


@pytest.mark.parametrize("discard", [False, True])
def test_what_waits_can_be_stopped(server: FakeServer, agent: AgentProcess, discard: bool) -> None:
    """It is reported as stopped, or forgotten when nobody wants to hear of it."""
    server.start(1, "sleep", "1000")
    server.pid_of(1)
    for waiting in range(2, 2 + ROUNDS):
        server.start(waiting, "true")
        server.wait(partial(is_held, server, waiting), "it is held, or was given back")
        server.stop(waiting, discard=discard)
        if discard:
            time.sleep(2 * GIVE_BACK_SECONDS)
        else:
            server.wait(partial(is_over, server, [waiting]), "it is over")
        if waiting not in server.refused:
            break
    else:
        pytest.fail("all were given back before they were stopped")
    if not discard:
        assert server.ended[waiting].kind == "stopped"
    server.stop(1)
    server.end_of(1)
    server.wait(lambda: 1 in server.syncs[-1].free_slots, "the slot is free")
    assert waiting not in server.pids


def is_over(server: FakeServer, attempts: Iterable[int]) -> bool:
    """Return whether each of these has ended, or was given back."""
    return all(one in server.ended or one in server.refused for one in attempts)


def is_held(server: FakeServer, attempt: int) -> bool:
    """Return whether an attempt was said to wait, or was given back."""
    return any(attempt in sync.held or attempt in sync.refused for sync in server.syncs)


def test_a_long_task_is_told_as_running_soon(server: FakeServer, launch: Launch) -> None:
    """Though the sync after its start came too early to name it, and there is no other news."""
    server.joined.renew_seconds = 15.0
    wait_joined(server, launch())
    server.start(1, "sleep", "1000")
    began = time.monotonic()
    server.pid_of(1)
    assert time.monotonic() - began < server.joined.renew_seconds
