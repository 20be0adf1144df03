"""Processes that are started one beside the other, by other threads than the loop's."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobtasks.agent.launcher import Birth
from jobtasks.agent.loop import Loop
from jobtasks.agent.slots import Slot
from jobtasks.agent.starters import Started, Starters
from jobtasks.agent.trees import Trees
from jobtasks.protocol.messages import EndKind

from .conftest import AgentProcess, FakeServer, Launch, is_alive, script, wait_joined

SLOTS = 4


class Nursery:
    """Starters, and what was heard of them."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        self.starters = Starters(self.loop)
        self.folder = folder
        self.directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self.out = os.open(folder / "out", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        actions = [(os.POSIX_SPAWN_DUP2, self.null, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, self.out, number) for number in (1, 2)]
        self.slots = [
            SimpleNamespace(number=number, actions=actions, directory=self.directory)
            for number in range(1, SLOTS + 1)
        ]
        self.noted: list[int] = []
        self.heard: list[Started] = []

    def start(self, *command: str, slot: int = 1, **variables: str) -> bool:
        place = cast(Slot, cast(Any, self.slots[slot - 1]))
        birth = Birth(list(command), variables, place, None, 0)
        return self.starters.start(birth, self.noted.append, self.heard.append)

    def hear(self, count: int) -> None:
        while len(self.heard) < count:
            self.loop.turn()

    def reap(self) -> list[int]:
        """Return the exit codes of what was started."""
        codes = []
        for started in self.heard:
            if not started.error:
                codes.append(os.waitstatus_to_exitcode(os.waitpid(started.pid, 0)[1]))
        self.heard.clear()
        return codes


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    found = Nursery(tmp_path)
    yield found
    found.starters.finish()
    for started in found.heard:
        if not started.error:
            os.kill(started.pid, signal.SIGKILL)
    found.reap()
    for fd in (found.directory, found.null, found.out):
        os.close(fd)


def test_the_library_can_do_it() -> None:
    """Else nothing here is used; where tests run it is."""
    assert Starters.are_there()


def test_many_are_started_and_heard_of(nursery: Nursery) -> None:
    """Each once, noted before it is heard of; nothing is under way then."""
    for _ in range(10):
        for slot in range(1, SLOTS + 1):
            assert nursery.start("/bin/sh", "-c", "exit 7", slot=slot)
        assert nursery.starters.under_way == SLOTS
        nursery.hear(SLOTS)
        assert nursery.starters.under_way == 0
        assert sorted(nursery.noted[-SLOTS:]) == sorted(one.pid for one in nursery.heard)
        assert nursery.reap() == [7] * SLOTS


def test_to_finish_is_to_wait_for_all(nursery: Nursery) -> None:
    """Without a turn of the loop; what is heard then may start more."""
    for slot in range(1, SLOTS + 1):
        nursery.start("/bin/true", slot=slot)
    nursery.starters.finish()
    assert len(nursery.heard) == SLOTS
    assert nursery.starters.under_way == 0
    assert nursery.reap() == [0] * SLOTS
    # The bell that nobody has heard does no harm.
    nursery.loop.turn(wait=False)


@pytest.mark.rule("R38")
def test_how_a_process_begins(nursery: Nursery) -> None:
    """In its directory, in a session of its own, with its variables, no signal held or ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        session = "ps -o sid= -p $$ | tr -d ' '"
        masks = "exec grep -E 'Sig(Blk|Ign)' /proc/self/status"
        tell = f"pwd; echo $ONE; {session}; {masks}"
        nursery.start("sh", "-c", tell, ONE="1 é \udcff", PATH=os.environ["PATH"])
        nursery.starters.finish()
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    pid = nursery.heard[0].pid
    assert nursery.reap() == [0]
    said = os.fsdecode((nursery.folder / "out").read_bytes()).split("\n")
    assert said[:3] == [str(nursery.folder), "1 é \udcff", str(pid)]
    held, ignored = (int(line.split("\t")[1], 16) for line in said[3:5])
    # Two that the C library has for itself are ignored in whatever it starts.
    assert (held, ignored & ~(0b11 << 31)) == (0, 0)


def test_what_cannot_be_started(nursery: Nursery) -> None:
    """The error is told; what is no command line is not taken."""
    plain = nursery.folder / "plain"
    plain.write_text("no program")
    for program in ("/nowhere/x", "no-such-program", str(plain)):
        assert nursery.start(program)
    nursery.hear(3)
    errors = sorted(errno.errorcode[one.error] for one in nursery.heard)
    assert errors == ["EACCES", "ENOENT", "ENOENT"]
    assert nursery.noted == []
    assert not nursery.start("/bin/echo", "a\0b")
    assert not nursery.start("/bin/true", ONE="a\0b")
    assert nursery.starters.under_way == 0


def test_a_machine_without_room_for_threads(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is started beside anything, until there is room again; one thread will do."""
    room = [False, True, False]

    def start(thread: threading.Thread) -> None:
        if not room.pop(0):
            raise RuntimeError("can't start new thread")
        really(thread)

    really = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    assert not nursery.start("/bin/true")
    assert nursery.start("/bin/true")
    assert nursery.start("/bin/true", slot=2)
    nursery.starters.finish()
    assert nursery.reap() == [0, 0]
    assert room == []


def test_a_slot_with_other_pipes(nursery: Nursery, tmp_path: Path) -> None:
    """What a slot has anew is used from then on."""
    nursery.start("/bin/sh", "-c", "echo first")
    nursery.hear(1)
    nursery.reap()
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    nursery.slots[0].actions = [(os.POSIX_SPAWN_DUP2, other, 1)]
    nursery.start("/bin/sh", "-c", "echo second")
    nursery.hear(1)
    assert nursery.reap() == [0]
    os.close(other)
    assert (tmp_path / "out").read_text() == "first\n"
    assert (tmp_path / "other").read_text() == "second\n"


@pytest.mark.rule("R36")
def test_they_are_no_orphans(nursery: Nursery) -> None:
    """The kernel files them with another thread: they are neither missed nor taken for strays."""
    trees = Trees()
    # Of other tests in this process.
    trees.leaders.update(dict.fromkeys(map(int, trees.own()), 0))
    nursery.start("/bin/sleep", "1000")
    nursery.starters.finish()
    pid = nursery.heard[0].pid
    assert not trees.crowded()
    trees.leaders[pid] = 1
    trees.elsewhere.add(pid)
    assert not trees.crowded()
    trees.look([])
    assert trees.orphans == {}
    os.kill(pid, signal.SIGKILL)
    assert nursery.reap() == [-signal.SIGKILL]


# In an agent


def together(server: FakeServer, first: int, commands: Sequence[tuple[str, ...]]) -> None:
    """Order attempts in one answer, one for each slot."""
    with server.lock:
        for slot, command in enumerate(commands, 1):
            server.start(first + slot, *command, slot=slot)


def are_named(server: FakeServer, attempts: set[int]) -> bool:
    """Return whether the newest sync names them: as running, or as held to be started."""
    return any(
        attempts <= {alive.attempt for alive in newest.running} | {*newest.held}
        for newest in server.syncs[-1:]
    )


@pytest.mark.rule("R36", "R38")
def test_attempts_that_begin_together(
    server: FakeServer, agent: AgentProcess, tmp_path: Path
) -> None:
    """Each has its own output from the first byte on, and leaves nothing behind."""
    witness = tmp_path / "witness"
    say = f"echo $TASK_UUID; pwd; (sleep 1000 & echo $! >> {witness}); seq 3000; exit $1"
    for turn in range(10):
        first = 10 * turn
        commands = [("sh", "-c", say, "sh", str(slot)) for slot in range(1, SLOTS + 1)]
        together(server, first, commands)
        for slot in range(1, SLOTS + 1):
            attempt = first + slot
            ended = server.end_of(attempt)
            assert (ended.kind, ended.exit_code) == (EndKind.EXIT, slot)
            place = agent.node / "work" / f"slot-{slot}"
            head = f"zzzzz-ot0gb-{attempt:015d}\n{place}\n"
            assert server.text_of(attempt) == head + "".join(f"{n}\n" for n in range(1, 3001))
    pids = [int(word) for word in witness.read_text().split()]
    assert len(pids) == 10 * SLOTS
    assert not any(map(is_alive, pids))


def test_why_one_of_many_cannot_start(
    server: FakeServer, agent: AgentProcess, tmp_path: Path
) -> None:
    """It is told as of one that starts alone."""
    plain = tmp_path / "plain"
    plain.write_text("x")
    programs = [(str(plain),), ("no-such-program",), ("/bin/echo", "a\0b"), ("true",)]
    for attempt, command in enumerate(programs, 1):
        server.start(attempt, *command)
        server.end_of(attempt)
    together(server, 10, programs)
    for attempt in range(1, SLOTS + 1):
        alone, beside = server.end_of(attempt), server.end_of(10 + attempt)
        assert (alone.kind, alone.reason) == (beside.kind, beside.reason)
    assert server.end_of(1).kind is EndKind.UNABLE_TO_START


def test_a_script_that_is_written_meanwhile(
    server: FakeServer, agent: AgentProcess, tmp_path: Path
) -> None:
    """Open for writing while it is to start, it is tried once more, and then told."""
    program = tmp_path / script(tmp_path, "#!/bin/sh\nexit 0\n")
    with program.open("a"):
        together(server, 0, [("true",), (str(program),), ("true",)])
        assert "Text file busy" in server.end_of(2).reason
    together(server, 10, [("true",), (str(program),), ("true",)])
    assert server.end_of(12).exit_code == 0


@pytest.mark.rule("R14")
def test_to_stop_what_begins(server: FakeServer, agent: AgentProcess) -> None:
    """A stop that comes as soon as the agent has named an attempt ends it."""
    for turn in range(10):
        first = 10 * turn
        attempts = {first + slot for slot in range(1, SLOTS + 1)}
        together(server, first, [("sleep", "1000")] * SLOTS)
        server.wait(partial(are_named, server, attempts), "they are named")
        with server.lock:
            for attempt in attempts:
                server.stop(attempt)
        for slot in range(1, SLOTS + 1):
            assert server.end_of(first + slot).kind is EndKind.STOPPED


@pytest.mark.rule("R14", "R36")
def test_to_leave_while_they_begin(server: FakeServer, launch: Launch) -> None:
    """TERM while processes are being started: each ends, and is told of or given back."""
    agent = launch()
    wait_joined(server, agent)
    together(server, 0, [("sleep", "1000")] * SLOTS)
    assert agent.end() == 0
    for attempt in range(1, SLOTS + 1):
        ended = server.ended.get(attempt)
        assert ended is None or ended.kind is EndKind.STOPPED
    # That nothing is left running the fixture sees to.
