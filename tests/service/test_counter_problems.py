"""The checker of counters sees what is wrong: a test that cannot fail proves nothing."""

from __future__ import annotations

import pytest

from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.counters import counter_problems, load_problems
from jobtasks.testing.service import LocalService

DAMAGE = {
    "level_counters": "UPDATE level SET todo = todo + 1 WHERE sequence = 1",
    "tally_of_levels": "UPDATE tally SET done = done + 1",
    "live_attempts": "UPDATE tally SET live = live + 1",
    "slots_of_job": "UPDATE tally SET slots = slots + 1",
    "slots_of_owner": "UPDATE usage SET slots = slots + 1",
    "turn_of_lane": "UPDATE lane SET priority = 7",
    "seats_of_gang": """UPDATE shape SET needs = '{"nodes":2}'""",
    "seat_without_a_gang": "INSERT INTO seat (attempt_id, node_id, slot) VALUES (1, 1, 4)",
    "next_qsequence": "UPDATE tally SET next_qsequence = 2",
    "size_of_batch": "UPDATE batch SET size = size + 1",
    "ready_and_head_of_batch": "UPDATE batch SET head = head - 1 WHERE ready > 0",
    "ready_of_lane": "UPDATE lane SET ready = ready + 1",
    "frontier_of_job": "UPDATE tally SET frontier = 7",
    "live_lanes": "UPDATE lane SET live = 1 - live",
    "attempt_of_a_running_task": "UPDATE task SET state = 0 WHERE state = 1",
    "waiting_task_that_cannot_start": "DELETE FROM requeue",
    "requeued_task_that_does_not_wait": "UPDATE task SET state = 3 WHERE failed_count > 0",
    "child_of_a_dead_attempt": "UPDATE batch SET state = 0, creator_attempt_id = 1 WHERE id > 1",
    "started_task_of_an_unpublished_batch": "UPDATE batch SET state = 2",
    "slot_given_twice": "UPDATE attempt SET slot = 1, state = 1",
    "memory_given_twice": "UPDATE attempt SET memory_kib = 2000000 WHERE state = 1",
    "failures_counted": "UPDATE attempt SET counted = 1",
    "process_of_an_ended_job": "UPDATE job SET state = 'Failed'",
    "open_attempt_of_an_ended_job": "UPDATE job SET state = 'Cancelled'",
    "complete_job_with_a_task_that_is_not": "UPDATE job SET state = 'Complete'",
    "foreign_job_with_work_for_us": "UPDATE job SET managed = 0",
    "state_of_a_foreign_task": "UPDATE job SET managed = 0; UPDATE task SET success = 0",
    "family_counters": "UPDATE family SET attempts = attempts + 1",
    "success_in_a_family": "UPDATE attempt SET counted = 0, node_fault = 0",
    "lineage_of_batches": "UPDATE lineage SET tasks = tasks + 1",
}


def test_every_problem_is_provoked() -> None:
    """A statement more in the checker needs one more here."""
    assert DAMAGE.keys() == load_problems().keys()


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_seen(name: str) -> None:
    """One counter or row moved by hand."""
    service = LocalService()
    agent = SimulatedAgent(service)
    service.started_job()
    agent.grow({}, {}, {}, {"sequence": 2})
    first, *_ = agent.take(free_slots=[1, 2])
    agent.crash(first)
    assert service.write(counter_problems) == {}
    for statement in DAMAGE[name].split("; "):
        service.rows(statement)
    assert name in service.write(counter_problems)
    service.close()
