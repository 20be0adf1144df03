"""Processes that die or stop: what is kept, what ends, what is refused (R1, R10, R32-R37)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.rounds import IS_TORTURE, LIMIT_SECONDS, rounds

from .conftest import (
    QUICK,
    Acted,
    Play,
    Served,
    Start,
    Step,
    acting,
    agent_of,
    has_no_keeper,
    keeper_of,
    process_identity,
    wait_until,
)
from .nodes import nodes_of, own_address
from .witness import Record

SHORT = {**QUICK, "lease_seconds": 2.0, "renew_seconds": 0.1, "clock_gap_seconds": 0.5}
"""Leases that run out within a test, and not because an agent had to wait for its turn."""
LASTING = {**QUICK, "lease_seconds": 3.0, "renew_seconds": 0.3}
"""Leases that an agent can renew in time when it has tried in vain for long."""
LEASES = 10 if IS_TORTURE else 3
"""So many an outage lasts: ten are five minutes of the default."""


def waited(seconds: float) -> Callable[[], bool]:
    """Return what becomes true after so many seconds."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until


def restarted(start: Start, served: Served, *options: str, **more: object) -> Served:
    """Return a server that comes after one that is gone, at its address."""
    return start(*options, listen=served.address, state=served.state, **more)


def agents_pid(served: Served) -> int:
    return wait_until("an agent", lambda: agent_of(served.state))


def keepers_pid(served: Served) -> int:
    return wait_until("a keeper", lambda: keeper_of(served.state))


@pytest.mark.rule("R1", "R37")
def test_what_was_answered_survives_the_servers_death(start: Start, tmp_path: Path) -> None:
    """kill -9 right after the answer to a create, five times: every job runs, seeded once."""
    served = start("--slots", "2")
    uuids = []
    for _ in range(5):
        with served.api() as api:
            uuids.append(Acted(api, tmp_path, [["complete"]]).uuid)
        served.kill()
        served = restarted(start, served)
    with served.api() as api:
        for uuid in uuids:
            assert api.final(uuid)["state"] == "Complete"
            tasks = api.tasks(uuid)
            assert [(task["sequence"], task["qsequence"]) for task in tasks] == [(0, 0)]


@pytest.mark.rule("R1", "R37")
def test_a_job_that_was_seeded_is_not_seeded_again(start: Start, tmp_path: Path) -> None:
    """Killed while the seed runs, and while nothing is left to run but its children."""
    served = start("--slots", "2")
    gates = [tmp_path / "first", tmp_path / "second"]
    child = acting(["await_file", str(gates[1])], ["complete"])
    play: Play = [["await_file", str(gates[0])], ["create_times", 3, child], ["complete"]]
    with served.api() as api:
        job = Acted(api, tmp_path, play)
        job.noted("start")
    for number in (1, 2):
        served.kill()
        served = restarted(start, served)
        gates[number - 1].touch()
        with served.api() as api:
            job.api = api
            job.noted("start", 2)
    with served.api() as api:
        job.api = api
        job.final()
        assert len(job.tasks()) == job.witness.count() == 4


@pytest.mark.rule("R3", "R4", "R37")
def test_children_survive_the_servers_death(start: Start, tmp_path: Path) -> None:
    """Acknowledged children are there afterwards, unpublished; a verdict that was said counts."""
    served = start("--slots", "2")
    gate, child = tmp_path / "gate", acting(["complete"])
    play: Play = [["create_times", 50, child], ["complete"], ["await_file", str(gate)]]
    with served.api() as api:
        job = Acted(api, tmp_path, play)
        job.noted("said")
    served.kill()
    served = restarted(start, served)
    with served.api() as api:
        job.api = api
        assert len(job.tasks()) == 51
        api.pass_by()
        assert job.witness.count() == 1
        gate.touch()
        job.final()
        assert job.witness.count() == 51


@pytest.mark.rule("R10", "R12")
@pytest.mark.parametrize("whom", [agents_pid, keepers_pid])
def test_a_verdict_counts_when_agent_or_keeper_die(
    start: Start, tmp_path: Path, whom: Callable[[Served], int]
) -> None:
    """Said, then lost with its agent: complete. Its sibling without a verdict runs again."""
    served = start("--slots", "2")
    gate, never = tmp_path / "gate", str(tmp_path / "never")
    said = acting(["complete"], ["note", "runs"], ["await_file", never])
    silent = acting(["note", "runs"], ["await_file", str(gate)], ["complete"])
    with served.api() as api:
        job = Acted(api, tmp_path, [["create", said, silent], ["complete"]])
        lines = job.noted("runs", 2)
        identities = {line.pid: process_identity(line.pid) for line in lines}
        os.kill(whom(served), signal.SIGKILL)
        job.noted("runs", 3)
        assert [process_identity(pid) == was for pid, was in identities.items()] == [False, False]
        gate.touch()
        job.final()
        _, first, second = job.tasks()
        assert (first["attempts"], first["failed_count"]) == (1, 0)
        assert (second["attempts"], second["failed_count"]) == (2, 1)
        for task in (first, second):
            assert api.attempts(task["uuid"])[0]["cause"] == "agent_lost"


@pytest.mark.rule("R33", "R35")
def test_an_outage_longer_than_the_lease_ends_no_attempt(start: Start, tmp_path: Path) -> None:
    """The server is killed, and comes back later; the process goes on and is accepted."""
    served = start("--slots", "1", settings=SHORT)
    gate = tmp_path / "gate"
    with served.api() as api:
        job = Acted(api, tmp_path, [["await_file", str(gate)], ["complete"]])
        job.noted("start")
    served.kill()
    wait_until("two leases pass", waited(2 * SHORT["lease_seconds"]))
    served = restarted(start, served, settings=SHORT)
    with served.api() as api:
        job.api = api
        wait_until("more than a lease passes", waited(1.5 * SHORT["lease_seconds"]))
        gate.touch()
        job.final()
        assert (job.seed["attempts"], job.witness.count()) == (1, 1)


def at_work(folder: Path) -> list[Record]:
    """Return tasks that span an outage, two of each kind.

    Some know nothing of it, some say that they succeeded while it lasts, some end in its course.
    """
    during, after = str(folder / "during"), str(folder / "after")
    runs: Step = ["note", "runs"]
    knows_nothing = acting(runs, ["await_file", after], ["complete"])
    speaks = acting(runs, ["await_file", during], ["create", acting(["complete"])], ["complete"])
    ends = acting(["create", acting(["complete"])], ["complete"], runs, ["await_file", during])
    return [knows_nothing, speaks, ends] * 2


def outage(start: Start, served: Served, how: str, folder: Path) -> Served:
    """Let many leases pass without a server; return the one that there is then."""
    numbers = {"killed": signal.SIGKILL, "ended": signal.SIGTERM}
    if how == "stopped":
        served.process.send_signal(signal.SIGSTOP)
    else:
        served.end(numbers[how])
    (folder / "during").touch()
    wait_until("many leases pass", waited(LEASES * LASTING["lease_seconds"]))
    if how != "stopped":
        return restarted(start, served, "--no-agent", settings=LASTING)
    served.process.send_signal(signal.SIGCONT)
    return served


@pytest.mark.timeout(240 + 2 * LIMIT_SECONDS)
@pytest.mark.rule("R10", "R33", "R34", "R35", "R37")
def test_outages_of_the_server(start: Start, tmp_path: Path) -> None:
    """Killed, stopped or ended for many leases while three nodes work: no attempt is lost."""
    served = start("--no-agent", listen=own_address(), settings=LASTING)
    with nodes_of(served, tmp_path) as add:
        for number in range(3):
            add(f"node-{number}", slots=2)
        for number in rounds("outages of the server", 1, 20):
            folder = tmp_path / f"outage-{number}"
            folder.mkdir()
            with served.api() as api:
                job = Acted(api, folder, [["create", *at_work(folder)], ["complete"]])
                job.noted("runs", 6)
            wait_until("some leases pass", waited(LASTING["lease_seconds"]))
            served = outage(start, served, ("killed", "stopped", "ended")[number % 3], folder)
            wait_until("more than a lease passes", waited(1.5 * LASTING["lease_seconds"]))
            (folder / "after").touch()
            with served.api() as api:
                job.api = api
                job.final()
                tasks = job.tasks()
            assert [(task["attempts"], task["failed_count"]) for task in tasks] == [(1, 0)] * 11
            assert job.witness.count() == len(tasks)


@pytest.mark.rule("R33")
def test_a_server_that_was_stopped_gives_every_attempt_a_lease(
    start: Start, tmp_path: Path
) -> None:
    """SIGSTOP for longer than the lease: its own clock shows the gap, no attempt ends."""
    served = start("--slots", "1", settings=SHORT)
    gate = tmp_path / "gate"
    with served.api() as api:
        job = Acted(api, tmp_path, [["await_file", str(gate)], ["complete"]])
        job.noted("start")
        for _ in range(2):
            served.process.send_signal(signal.SIGSTOP)
            wait_until("more than a lease passes", waited(1.5 * SHORT["lease_seconds"]))
            served.process.send_signal(signal.SIGCONT)
            assert job.record["state"] == "Running"
        gate.touch()
        job.final()
        assert (job.seed["attempts"], job.seed["failed_count"]) == (1, 0)


@pytest.mark.rule("R4", "R32", "R33", "R35", "R36")
def test_a_node_that_is_silent_for_a_lease_loses_its_attempts(start: Start, tmp_path: Path) -> None:
    """Its agent is stopped; the process that goes on is refused whatever it says (a zombie).

    Its children are gone, what it writes leaves no trace; when the agent is back the process is
    ended before another attempt starts.
    """
    served = start("--slots", "1", settings=SHORT)
    late, child = tmp_path / "late", acting(["complete"])
    never = str(tmp_path / "never")
    zombie: Play = [
        *(["create", child], ["note", "runs"], ["await_file", str(late)]),
        *(["report", {"success": True, "output": "late"}], ["await_file", never]),
    ]
    with served.api() as api:
        job = Acted(api, tmp_path, zombie, [["create", child], ["complete"]])
        first = job.noted("runs")[0]
        identity = process_identity(first.pid)
        agent = agents_pid(served)
        os.kill(agent, signal.SIGSTOP)
        try:
            wait_until("the loss is seen", lambda: job.seed["failed_count"])
            late.touch()
            assert job.noted("refused")[0].more == ("403",)
            assert process_identity(first.pid) == identity
            task = job.seed
            assert (task["success"], task["output"], task["attempts"]) == (None, None, 1)
            assert len(job.tasks()) == 1
        finally:
            os.kill(agent, signal.SIGCONT)
        second = job.noted("start", 2)[1]
        assert process_identity(first.pid) != identity
        assert second.attempt == 2
        job.final()
        assert api.attempts(job.seed["uuid"])[0]["cause"] == "agent_lost"
        assert "not heard for 2 s" in job.seed["failed_log"]


def with_orphan(tmp_path: Path, *last: Step) -> tuple[Play, Path]:
    """A play that leaves a grandchild in a session of its own, and where its pid is."""
    path = tmp_path / "orphan"
    return [["orphan", str(path)], ["note", "runs"], *last], path


def identity_in(path: Path) -> tuple[int, str]:
    """Return pid and start time of the living process that a file names."""
    pid = int(path.read_text())
    identity = process_identity(pid)
    assert identity is not None
    return pid, identity


@pytest.mark.rule("R36")
def test_a_tree_ends_with_its_attempt(start: Start, tmp_path: Path) -> None:
    """Grandchildren in a session of their own, deaf to TERM: gone before the end is on record."""
    served = start("--slots", "1")
    gate = tmp_path / "gate"
    play, path = with_orphan(tmp_path, ["await_file", str(gate)], ["complete"])
    with served.api() as api:
        job = Acted(api, tmp_path, play)
        job.noted("runs")
        pid, identity = identity_in(path)
        gate.touch()
        job.final()
        assert process_identity(pid) != identity


@pytest.mark.rule("R36", "R37")
@pytest.mark.parametrize("whom", ["agent", "keeper", "agent and keeper", "keeper and agent"])
def test_a_tree_ends_before_the_next_attempt_starts(
    start: Start, tmp_path: Path, whom: str
) -> None:
    """Also when agent and keeper are killed at once, and nobody is left to clean up."""
    served = start("--slots", "1")
    play, path = with_orphan(tmp_path, ["await_file", str(tmp_path / "never")])
    with served.api() as api:
        job = Acted(api, tmp_path, play, [["complete"]])
        line = job.noted("runs")[0]
        leader, orphan = (line.pid, process_identity(line.pid)), identity_in(path)
        pids = {"keeper": keepers_pid(served), "agent": agents_pid(served)}
        for name in whom.split(" and "):
            os.kill(pids[name], signal.SIGKILL)
        job.noted("start", 2)
        assert [process_identity(pid) == was for pid, was in (leader, orphan)] == [False, False]
        job.final()
        assert api.attempts(job.seed["uuid"])[0]["cause"] == "agent_lost"


@pytest.mark.rule("R14", "R36")
def test_nothing_is_left_of_a_server_that_ends(start: Start, tmp_path: Path) -> None:
    """TERM: its agent stops what runs, whole trees, without counting a failure."""
    served = start("--slots", "1")
    play, path = with_orphan(tmp_path, ["ignore_term"], ["await_file", str(tmp_path / "never")])
    with served.api() as api:
        job = Acted(api, tmp_path, play, [["complete"]])
        line = job.noted("runs")[0]
        leader, orphan = (line.pid, process_identity(line.pid)), identity_in(path)
    assert served.end()[0] == 0
    assert has_no_keeper(served.state)
    assert [process_identity(pid) == was for pid, was in (leader, orphan)] == [False, False]
    served = restarted(start, served)
    with served.api() as api:
        job.api = api
        job.final()
        task: Record = job.seed
        assert (task["attempts"], task["failed_count"]) == (2, 0)
        assert api.attempts(task["uuid"])[0]["cause"] == "stopped"
