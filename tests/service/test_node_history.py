"""How much of each node was taken, noted by the manager (R28)."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from jobtasks.core.errors import NotFound
from jobtasks.core.filters import parse_query
from jobtasks.core.resources import RESOURCES
from jobtasks.core.settings import Settings
from jobtasks.service import listing, node_history, steering
from jobtasks.service.context import Context
from jobtasks.store.records import NodeRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

from .costs import cost_of

MINUTE = 60_000_000


def nodes_of(service: LocalService) -> list[NodeRecord]:
    """Return the nodes, the oldest first."""
    query = parse_query(RESOURCES["nodes"], {"order": "slot_number"}, 100)
    return list(service.call(listing.list_nodes, query).items)


def history(service: LocalService, number: int = 0) -> list[tuple[int, ...]]:
    """Return a node's history, with times in minutes from its first row on."""
    rows = service.call(node_history.of_node, nodes_of(service)[number].uuid)
    return [((row.at - rows[0].at) // MINUTE, *row[2:]) for row in rows]


def test_changes_are_noted_each_minute(service: LocalService, agent: SimulatedAgent) -> None:
    """What was so for less than that may be missed; what stays so has one row."""
    other = SimulatedAgent(service, "n2", slots=2)
    both = (agent, other)
    service.tick()
    empty = (4, 0, 1_000_000, 0)
    assert history(service) == [(0, *empty)]
    service.pass_seconds(300, *both)
    service.started_job(runtime_constraints={"min_ram_per_task": 1000})
    seed = agent.take_one()
    assert history(service) == [(0, *empty)]
    service.pass_seconds(61, *both)
    assert history(service)[1:] == [(6, 4, 1, 1_000_000, 1000)]
    agent.complete(seed)
    service.pass_seconds(30, *both)
    assert len(history(service)) == 2
    service.pass_seconds(31, *both)
    assert history(service)[2:] == [(7, *empty)]
    service.pass_seconds(600, other)
    assert [row[1:] for row in history(service)[3:]] == [(0, 0, 0, 0)]
    assert history(service, 1) == [(0, 2, 0, 1_000_000, 0)]


def resize(service: LocalService, slots: int) -> None:
    """Let a node have so many slots."""
    change = "UPDATE node SET slots = :slots WHERE lasting_id = 'n1'"
    service.write(lambda tx: tx.text(change, {"slots": slots}))


def noted(ctx: Context) -> int:
    """Note what is taken."""
    node_history.note(ctx)
    return 0


def test_a_day_is_kept_and_what_was_so_before_it(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """A node that has not changed for a week has a row; one that did each minute has a day's."""
    quiet = SimulatedAgent(service, "quiet")
    service.tick()
    for number in range(200):
        service.clock.advance(600)
        resize(service, 2 + number % 2)
        agent.renew()
        quiet.renew()
        service.tick()
    rows = history(service)
    assert len(rows) == pytest.approx(145, abs=1)
    assert {row[1] for row in rows} == {2, 3}
    assert len(history(service, 1)) == 1


def test_points_are_few(service: LocalService, agent: SimulatedAgent) -> None:
    """However many rows there are: the last of each step; the newest is always told."""
    service.tick()
    (node,) = nodes_of(service)
    now = service.clock.now
    service.write(
        lambda tx: [
            tx.text(
                "INSERT INTO node_history VALUES (:node_id, :at, 4, :taken, 9, 0)",
                {"node_id": node.id, "at": now + minute * MINUTE, "taken": minute % 5},
            )
            for minute in range(1, 1441)
        ]
    )
    whole = service.call(node_history.of_node, node.uuid)
    assert 450 < len(whole) <= node_history.POINTS_MAX
    assert whole[-1].at == now + 1440 * MINUTE
    assert all(one.at < other.at for one, other in itertools.pairwise(whole))
    for points in (10, 120):
        few = service.call(node_history.of_nodes, [node.id, 99], points)
        assert points // 2 < len(few[node.id]) <= points
        assert few[node.id][-1] == whole[-1]
        assert few[99] == []


def test_people_see_it(service: LocalService, agent: SimulatedAgent) -> None:
    """Attempts do not; nor is there any of a node that is not there."""
    service.started_job()
    seed = agent.take_one()
    (node,) = nodes_of(service)
    eve = service.new_user("eve")
    assert len(service.as_token(eve, node_history.of_node, node.uuid)) == 1
    with pytest.raises(NotFound):
        service.as_token(seed.token, node_history.of_node, node.uuid)
    assert service.as_token(seed.token, node_history.of_nodes, [node.id]) == {node.id: []}
    with pytest.raises(NotFound):
        service.call(node_history.of_node, node.uuid[:-1] + "z")
    agent.end(seed)
    service.pass_seconds(600)
    service.call(steering.delete, node.uuid)
    service.pass_seconds(600)
    assert len(service.rows("SELECT * FROM node_history")) == 2


def test_clocks_that_go_back_stop_nothing(service: LocalService, agent: SimulatedAgent) -> None:
    """It is noted again within a minute of the clock."""
    service.tick()
    service.clock.advance(-3600)
    before = service.rows("SELECT noted_at FROM manager")
    service.tick()
    assert service.rows("SELECT noted_at FROM manager") == [(service.clock.now,)] != before


def test_a_tick_costs_one_statement_more(tmp_path: Path) -> None:
    """Three when it is time, for all nodes, as many for two nodes and for 200."""
    path = tmp_path / "db"
    service = LocalService(path, settings=Settings(node_history_seconds=60))
    costs = []
    for count in (2, 200):
        for number in range(count):
            SimulatedAgent(service, f"n{count}.{number}")
        service.clock.advance(61)
        costs.append(cost_of(service, path, noted))
    few, many = costs
    assert few.statements == many.statements == 3
    assert many.changes == 203
    service.run(node_history.note)
    assert cost_of(service, path, noted).statements == 1
    service.close()
