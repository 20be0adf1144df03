"""Agents with the kernel's control groups: what is asserted goes by what this kernel offers."""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from jobtasks.agent import cgroups, group_files, procfs
from jobtasks.protocol.messages import EndKind

from .conftest import (
    AgentProcess,
    FakeServer,
    Launch,
    group_of,
    is_alive,
    is_frozen,
    wait_for,
    wait_joined,
)
from .zoo import command, pids

CGROUPS = ("all",)
KEEPER = "jobtasks.agent.keeper"
NOTHING = "nothing to know it by"
SHOW = "while read line; do case $line in 0::*) echo $line;; esac; done < /proc/self/cgroup"


class Offer(NamedTuple):
    """What the kernel has for us, looked at without the program."""

    kill: bool = False
    freeze: bool = False
    memory: bool = False


@pytest.fixture(scope="module")
def offer() -> Offer:
    """Make a group in our own, and look at its files."""
    own = group_of(os.getpid())
    if own is None:
        return Offer()
    probe = own / f"test-{os.getpid()}"
    try:
        probe.mkdir()
    except OSError:
        return Offer()
    try:
        files = {path.name for path in probe.iterdir()}
    finally:
        probe.rmdir()
    return Offer("cgroup.kill" in files, "cgroup.freeze" in files, "memory.max" in files)


def is_pending(pid: int, number: signal.Signals) -> bool:
    text = Path(f"/proc/{pid}/status").read_text()
    masks = re.findall(r"^(?:SigPnd|ShdPnd):\t(\w+)$", text, re.MULTILINE)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def is_stopped(pid: int) -> bool:
    seen = procfs.stat(pid)
    return seen is not None and seen.state == "T"


def said_yes(agent: AgentProcess) -> set[str]:
    """Return what the agent said at its start that it uses groups for."""
    wait_for(lambda: "control groups" in agent.said(), "the line at the start")
    line = next(line for line in agent.said().splitlines() if "control groups" in line)
    return set(re.findall(r"(ends|freezes|limits) \w+: yes", line))


def test_the_agent_says_what_it_uses(agent: AgentProcess, offer: Offer) -> None:
    """What the kernel offers, ability by ability; and why not the others."""
    used = {"ends": offer.kill, "freezes": offer.freeze, "limits": offer.memory}
    said = said_yes(agent)
    # A controller may be there and not ours to share.
    assert said <= {name for name, offered in used.items() if offered} | {"limits"}
    assert said - {"limits"} == {name for name in ("ends", "freezes") if used[name]}
    if said and "limits" not in said:
        assert re.search(r"limits memory: no, \S.+", agent.said())
    if not said:
        assert re.search(r"control groups are not used: \S.+", agent.said())


def test_turned_off(server: FakeServer, launch: Launch, tmp_path: Path) -> None:
    """Tasks are where the agent is, no spawner runs, nothing is recorded."""
    agent = launch("--cgroups", "off")
    server.start(1, "sh", "-c", SHOW)
    own = procfs.group(os.getpid())
    assert server.text_of(1).strip() == (f"0::{own}" if own else "")
    assert "control groups are not used: turned off" in agent.said()
    assert procfs.children(agent.process.pid) == []
    assert group_files.recorded(tmp_path / "node") is None


def test_a_directory_that_is_no_group_is_refused(launch: Launch, tmp_path: Path) -> None:
    """Named outright it must be one: the agent ends with 125 and says why."""
    agent = launch("--cgroups", str(tmp_path))
    assert agent.wait() == 125
    assert f"{tmp_path} is not a control group of version 2" in agent.said()


@pytest.mark.rule("R28", "R34")
def test_by_default_only_what_needs_a_group_runs_in_one(
    server: FakeServer, launch: Launch, offer: Offer
) -> None:
    """An exclusive task, where groups can be frozen; no other: a start costs more there."""
    wait_joined(server, launch("--cgroups", "auto", module=KEEPER))
    for attempt, is_exclusive in ((1, False), (2, True), (3, False)):
        server.start(attempt, "sh", "-c", SHOW, slot=attempt, exclusive=is_exclusive)
    texts = [server.text_of(attempt) for attempt in (1, 2, 3)]
    assert ["/slot-" in text for text in texts] == [False, offer.freeze, False]


@pytest.mark.rule("R36")
def test_a_task_begins_in_its_slots_group(
    server: FakeServer, launch: Launch, tmp_path: Path, offer: Offer
) -> None:
    """Also what it forks first of all; each slot has its own, named by the node."""
    wait_joined(server, launch())
    program = f"(({SHOW}) &) ; {SHOW}; wait"
    for attempt in (1, 2):
        server.start(attempt, "sh", "-c", program, slot=attempt)
    first, second = (server.text_of(attempt).split() for attempt in (1, 2))
    node = (tmp_path / "node/node.id").read_text().strip()
    if offer.kill or offer.freeze:
        assert len(set(first)) == len(set(second)) == 1
        assert first[0].endswith(f"/jobtasks-{node}/slot-1")
        assert second[0].endswith(f"/jobtasks-{node}/slot-2")
    else:
        assert set(first) == set(second) <= {f"0::{procfs.group(os.getpid())}"}


@pytest.mark.rule("R36")
def test_who_has_no_mark_ends_with_its_own_attempt(
    server: FakeServer, agent: AgentProcess, tmp_path: Path, offer: Offer
) -> None:
    """Told by its group: not with the attempts that it might be of, and not before its own."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    wait = 'while [ ! -s "$1" ]; do sleep 0.01; done'
    server.start(1, *command(NOTHING, theirs, "sleep 1000"))
    other = pids(theirs, NOTHING)
    server.start(2, *command(NOTHING, mine, wait), slot=2)
    own = pids(mine, NOTHING)
    server.end_of(2)
    if offer.kill:
        assert not any(map(is_alive, own))
    assert all(map(is_alive, other))
    server.stop(1)
    server.end_of(1)
    assert not any(map(is_alive, own + other))


@pytest.mark.rule("R36", "R37")
def test_survivors_without_a_mark_are_found(
    server: FakeServer, launch: Launch, tmp_path: Path, offer: Offer
) -> None:
    """Keeper and agent killed at once: the next agent ends even what nothing tells of a task."""
    keeper = launch(module=KEEPER)
    server.start(1, *command(NOTHING, tmp_path / "witness", "sleep 1000"))
    found = pids(tmp_path / "witness", NOTHING)
    agent = procfs.stat(server.pid_of(1))
    assert agent is not None
    for number in (signal.SIGSTOP, signal.SIGKILL):
        os.kill(agent.parent, number)
        os.kill(keeper.process.pid, number)
    keeper.process.wait()
    wait_for(lambda: not is_alive(agent.parent), "the agent is dead")
    assert all(map(is_alive, found))
    wait_joined(server, launch(module=KEEPER), 2)
    if offer.kill or offer.freeze:
        assert not any(map(is_alive, found))
    else:
        procfs.send(found, signal.SIGKILL)


@pytest.mark.rule("R36")
def test_the_keeper_removes_what_a_dead_agent_left(
    server: FakeServer, launch: Launch, tmp_path: Path, offer: Offer
) -> None:
    """kill -9 of an agent that was told to go and did not hear: no process, no group is left."""
    keeper = launch(module=KEEPER)
    server.start(1, *command(NOTHING, tmp_path / "witness", "sleep 1000"))
    found = pids(tmp_path / "witness", NOTHING)
    leader = server.pid_of(1)
    group = group_files.recorded(tmp_path / "node")
    assert (group is not None) is (offer.kill or offer.freeze)
    agent = procfs.stat(leader)
    assert agent is not None
    os.kill(agent.parent, signal.SIGSTOP)
    # Of two signals that wait the one with the lower number comes first.
    wait_for(lambda: is_stopped(agent.parent), "it is stopped")
    keeper.process.terminate()
    wait_for(lambda: is_pending(agent.parent, signal.SIGTERM), "the keeper has told it")
    os.kill(agent.parent, signal.SIGKILL)
    assert keeper.wait() == 1
    assert not any(map(is_alive, [*found, leader]))
    assert group is None or not group.exists()


@pytest.mark.rule("R36")
def test_groups_that_a_task_has_made_go_with_it(
    server: FakeServer, agent: AgentProcess, tmp_path: Path, offer: Offer
) -> None:
    """A task that keeps house in its group hides nothing there, and spoils no slot."""
    program = (
        'D="$1$(grep ^0:: /proc/self/cgroup | cut -c4-)/of-task"; mkdir "$D" &&'
        ' sh -c \'echo 0 > "$1/cgroup.procs"; (sleep 1000 &)\' sh "$D"; exit 3'
    )
    own = group_of(os.getpid())
    point = cgroups.mount()[0] if own is not None else tmp_path
    for attempt in (1, 2):
        server.start(attempt, "sh", "-c", program, "sh", str(point), slot=1)
        assert server.end_of(attempt).exit_code == 3
        if offer.kill:
            path = group_files.recorded(tmp_path / "node")
            assert path is not None
            assert group_files.processes(path / "slot-1") == set()
            assert list(filter(Path.is_dir, (path / "slot-1").iterdir())) == []


@pytest.mark.rule("R34")
def test_the_frozen_cannot_be_continued(
    server: FakeServer, launch: Launch, tmp_path: Path, offer: Offer
) -> None:
    """SIGCONT from outside lets nobody take a step whose group is frozen."""
    server.joined.freeze_seconds = 1.0
    wait_joined(server, launch(module=KEEPER))
    path = tmp_path / "steps"
    step = f"import time\nwhile True: open({str(path)!r}, 'a').write('x'); time.sleep(0.01)"
    server.start(1, sys.executable, "-S", "-c", step, exclusive=True)
    leader = server.pid_of(1)
    wait_for(path.exists, "a step")
    server.down()

    def stands() -> bool:
        return is_frozen(leader) if offer.freeze else is_stopped(leader)

    wait_for(stands, "it stands still")
    if offer.freeze:
        steps = path.stat().st_size
        for _ in range(100):
            os.kill(leader, signal.SIGCONT)
        assert is_frozen(leader) and path.stat().st_size == steps
    server.up()
    steps = path.stat().st_size
    wait_for(lambda: path.stat().st_size > steps, "it goes on")
    server.stop(1)
    assert server.end_of(1).kind is EndKind.STOPPED


@pytest.mark.rule("R34")
def test_the_next_attempt_in_a_slot_is_not_frozen(
    server: FakeServer, launch: Launch, offer: Offer
) -> None:
    """What was ended while it was frozen leaves nothing behind in its slot."""
    server.joined.freeze_seconds = 1.0
    wait_joined(server, launch(module=KEEPER))
    server.start(1, "sleep", "1000", exclusive=True)
    leader = server.pid_of(1)
    server.down()
    wait_for(lambda: not offer.freeze or is_frozen(leader), "it is frozen")
    server.rejoin = True
    server.up()
    assert server.end_of(1).kind is EndKind.AGENT_LOST
    server.start(2, "true")
    assert server.end_of(2).exit_code == 0


@pytest.mark.rule("R28", "R14")
def test_out_of_memory_is_told_whoever_watches(server: FakeServer, agent: AgentProcess) -> None:
    """The kernel, where it limits; else the agent: the same end, with a reason and a peak."""
    hold = "import time; x = b'x' * 200_000_000; time.sleep(1000)"
    server.start(1, sys.executable, "-S", "-c", hold, memory_kib=60_000)
    ended = server.end_of(1)
    assert (ended.kind, ended.signal) == (EndKind.OUT_OF_MEMORY, signal.SIGKILL)
    assert ended.peak_memory_kib is not None and ended.peak_memory_kib > 50_000
    by_kernel = "limits" in said_yes(agent)
    assert ("the kernel ended it" in ended.reason) is by_kernel
    assert "60000 KiB are reserved" in ended.reason


def test_a_spawner_that_dies_is_replaced(
    server: FakeServer, agent: AgentProcess, offer: Offer
) -> None:
    """Killed while it waits: an attempt is given back at most, the next is started by another."""
    server.start(1, "true")
    server.end_of(1)
    for pid in procfs.children(agent.process.pid):
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: not is_alive(pid), "it is dead")  # type: ignore[misc]
    server.start(2, "true")
    server.wait(lambda: 2 in server.refused or 2 in server.ended, "an answer")

    numbers = itertools.count(3)

    def started() -> bool:
        attempt = next(numbers)
        server.start(attempt, "true")
        server.wait(lambda: attempt in server.refused or attempt in server.ended, "an answer")
        return attempt in server.ended

    wait_for(started, "an attempt runs")
    assert len(procfs.children(agent.process.pid)) == (1 if offer.kill or offer.freeze else 0)
