"""A node's machine: an agent with the real reconciler, processes that are played, a journal."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from jobtasks.agent.attempt import Busy
from jobtasks.agent.loop import Timer
from jobtasks.agent.pace import Pace
from jobtasks.agent.reconcile import Reconciler
from jobtasks.protocol.messages import (
    VERSION,
    Alive,
    Assignment,
    Ended,
    EndKind,
    JobBrief,
    Join,
)
from jobtasks.testing.service import AGENT_TOKEN
from jobtasks.testing.simulation.happenings import Happenings
from jobtasks.testing.simulation.network import Answered, Failed, Network, Receive
from jobtasks.testing.simulation.process import Misfortune, Process

WATCH_SECONDS = 0.5
"""How often an agent looks at its patience."""


YOUNG_SHARE = 0.3
"""Of the attempts these are too young to be told when the next sync is made."""


@dataclass(eq=False)
class Running:
    """An attempt on a slot."""

    process: Process
    slot: int
    kind: EndKind = EndKind.EXIT
    reason: str = ""
    discard: bool = False
    told: bool = False
    """A sync was made since it began."""


class Nothing:
    """Stands for parts that do nothing here: logs, certificates, the freezer of exclusive jobs."""

    url, mark, agent, idle = "simulated", "", 0, True

    def __getattr__(self, name: str) -> Callable[..., dict[str, str]]:
        return lambda *arguments: {}


class Journal:
    """Ends that the server has not acknowledged; it outlives the agent, as agent/ends.py does."""

    def __init__(self) -> None:
        self.pending: dict[int, Ended] = {}
        self.changes = 0

    def add(self, ended: Ended) -> None:
        """Take one end."""
        self.pending[ended.attempt] = ended
        self.changes += 1

    def acknowledge(self, attempts: list[int]) -> None:
        """Forget what is on record."""
        for attempt in attempts:
            self.pending.pop(attempt, None)


class Processes:
    """What agent/attempts.py is to the reconciler, with processes that are played."""

    def __init__(self, agent: Agent, size: int) -> None:
        self._agent = agent
        self.size = size
        self.live: dict[int, Running] = {}
        self.starting: dict[int, Assignment] = {}
        """Always empty: what begins is there at once."""
        self._pace = Pace(size)
        self.grace_seconds = 10.0
        self.log_bytes_max = 0
        self.exclusive = Nothing()

    def free_slots(self) -> list[int]:
        """Numbers of the slots without an attempt."""
        return [number for number in range(1, self.size + 1) if self.is_free(number)]

    def is_free(self, number: int) -> bool:
        """Whether there is that slot, and nothing in it."""
        return 1 <= number <= self.size and all(one.slot != number for one in self.live.values())

    def places(self) -> int:
        """How many attempts a slot may have: in some worlds more than one, as if all were short."""
        return self._agent.node.random.choice(self._agent.node.places)

    def gather_seconds(self, told: int, *, is_busy: bool) -> float:
        """How long an end waits for others, when nothing is known of what tasks take."""
        return self._pace.gather_seconds(told, is_busy=is_busy)

    def finish_starts(self) -> None:
        """Nothing is ever under way."""

    def alive(self) -> tuple[list[Alive], list[int]]:
        """Every attempt that has not ended; some are not told yet."""
        young = [number for number, one in self.live.items() if not one.told and self._is_young()]
        for one in self.live.values():
            one.told = True
        return [Alive(attempt) for attempt in self.live if attempt not in young], young

    def _is_young(self) -> bool:
        return self._agent.node.random.random() < YOUNG_SHARE

    def has_untold(self) -> bool:
        """The next sync names all."""
        return True

    def repeat_tails(self) -> None:
        """Nothing is kept of stderr here."""

    def start(
        self,
        assignment: Assignment,
        job: KnownJob,
        server: dict[str, str],
        scripts: str | None,
        busy: Busy | None = None,
    ) -> None:
        """Start a process."""
        process = self._agent.node.make_process(
            assignment, job.brief, partial(self._ended, assignment.attempt)
        )
        self.live[assignment.attempt] = Running(process, assignment.slot)
        process.start()

    def stop(
        self,
        attempt: Running,
        kind: EndKind,
        reason: str,
        discard: bool = False,
        kill: bool = False,
    ) -> None:
        """TERM: it ends within the grace."""
        attempt.discard |= discard
        if attempt.kind is EndKind.EXIT:
            attempt.kind, attempt.reason = kind, reason
            seconds = self._agent.node.random.uniform(0, self.grace_seconds)
            self._agent.loop.after(seconds, partial(self._killed, attempt))

    def stop_all(self, kind: EndKind, reason: str, kill: bool = False) -> None:
        """Stop every attempt."""
        for attempt in list(self.live.values()):
            self.stop(attempt, kind, reason)

    def _killed(self, attempt: Running) -> None:
        if attempt.process.alive:
            attempt.process.kill()
            self._over(attempt, attempt.kind, None, 15)

    def _ended(self, number: int, kind: EndKind, exit_code: int | None, signal: int | None) -> None:
        """A process ended by itself; the agent sees it when it runs."""
        attempt = self.live[number]

        def see() -> None:
            reported = kind if attempt.kind is EndKind.EXIT else attempt.kind
            self._over(attempt, reported, exit_code, signal)

        self._agent.loop.after(0.0, see)

    def _over(
        self, attempt: Running, kind: EndKind, exit_code: int | None, signal: int | None
    ) -> None:
        number = attempt.process.assignment.attempt
        del self.live[number]
        if attempt.discard:
            self._agent.journal.changes += 1
        else:
            ended = Ended(number, kind, exit_code, signal, 300, 1.0, reason=attempt.reason)
            self._agent.journal.add(ended)


@dataclass
class KnownJob:
    """What the order book needs of a job."""

    brief: JobBrief


class Jobs:
    """Briefs, as agent/jobs.py keeps them."""

    def __init__(self, processes: Processes) -> None:
        self.known: dict[str, KnownJob] = {}
        self._processes = processes

    def take(self, brief: JobBrief) -> None:
        """Learn of a job."""
        self.known[brief.uuid] = KnownJob(brief)

    def over(self, uuid: str) -> None:
        """Forget a job, unless one of its attempts runs."""
        if all(one.process.assignment.job != uuid for one in self._processes.live.values()):
            self.known.pop(uuid, None)


class AgentLoop:
    """The agent's loop: its timers happen when the machine runs and the agent lives."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def now(self) -> float:
        """The machine's monotonic clock: nobody else's begins where it does."""
        node = self._agent.node
        return node.happenings.now + node.clock_ahead_seconds

    def at(self, when: float, action: Callable[[], None]) -> Timer:
        """Call `action` at `when`, then let the loop turn."""
        timer = Timer(action)
        node = self._agent.node
        node.happenings.at(when - node.clock_ahead_seconds, lambda: self._agent.do(timer))
        return timer

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Call `action` in so many seconds."""
        return self.at(self.now() + seconds, action)


class Line:
    """A connection to the server, as agent/channel.py has it."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._call = 0
        self.busy = False

    def post(
        self, path: str, body: bytes, timeout: float, answered: Answered, failed: Failed
    ) -> None:
        """Send a call; one of the two is called, in a turn of the loop."""
        agent, node = self._agent, self._agent.node
        self.busy = True
        self._call += 1
        call = self._call

        def end(action: Callable[[], None]) -> None:
            if self.busy and self._call == call:
                self.busy = False
                action()

        def answer(status: int, content: bytes) -> None:
            agent.loop.after(0.0, lambda: end(lambda: answered(status, content)))

        def fail(reason: str) -> None:
            agent.loop.after(0.0, lambda: end(lambda: failed(reason)))

        node.network.call(
            node.name,
            lambda respond, broken: node.receive(path, AGENT_TOKEN, body, respond, broken),
            answer,
            fail,
        )
        agent.loop.after(timeout, lambda: fail("no answer in time"))


class Agent:
    """One life of an agent on a node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.alive = True
        self.loop = AgentLoop(self)
        self.journal = node.journal
        self.processes = Processes(self, node.slots)
        nothing: Any = Nothing()
        self.reconciler = Reconciler(
            cast(Any, self.loop), nothing, nothing, cast(Any, self.processes),
            cast(Any, self.journal), cast(Any, Jobs(self.processes)), nothing,
            cast(Any, Room()), self._join, cast(Any, lambda loop, server: Line(self)),
        )  # fmt: skip
        self._watch()

    def _join(self) -> Join:
        node = self.node
        return Join(VERSION, node.name, node.name, f"{node.name}-{node.lives}", node.slots,
            node.memory_kib, 4, 1000)  # fmt: skip

    def _watch(self) -> None:
        self.reconciler.watch_patience()
        self.loop.after(WATCH_SECONDS, self._watch)

    def do(self, timer: Timer) -> None:
        """Let a timer go off and the loop turn; later, when the machine is stopped."""
        if self.node.stopped:
            self.node.backlog.append(lambda: self.do(timer))
        elif self.alive and timer.action is not None:
            timer.action()
            self.reconciler.pump()
            if self.reconciler.is_over():
                self.node.agent_left()

    def die(self) -> None:
        """kill -9 of the agent: its keeper ends every process."""
        self.alive = False
        for attempt in self.processes.live.values():
            attempt.process.kill()


class Room:
    """A disk with room."""

    def is_there(self) -> bool:
        """There is room."""
        return True

    def lack(self, what: str) -> None:
        """Never happens here."""


@dataclass(eq=False)
class Node:
    """A machine with slots; `stopped` while all that runs on it is frozen."""

    name: str
    slots: int
    memory_kib: int
    happenings: Happenings
    random: random.Random
    network: Network
    receive: Receive
    misfortune: Misfortune
    started: Callable[[Assignment], None]
    said_success: Callable[[int], None]
    journal: Journal = field(default_factory=Journal)
    agent: Agent | None = None
    lives: int = 0
    places: tuple[int, ...] = (1,)
    """How many attempts a slot may have, one of these at a time."""
    clock_ahead_seconds: float = 0.0
    """How far its monotonic clock is ahead of simulated time; it begins anew with the machine."""
    stopped: bool = False
    backlog: list[Callable[[], None]] = field(default_factory=list)

    def boot(self) -> None:
        """Start an agent, unless there is one."""
        if self.agent is None:
            self.lives += 1
            self.agent = Agent(self)

    def kill_agent(self) -> None:
        """kill -9 of the agent."""
        if self.agent is not None:
            self.agent.die()
            self.agent = None

    def end_agent(self) -> None:
        """TERM: it ends and reports what runs, then goes."""
        if self.agent is not None:
            self.agent.loop.after(0.0, self.agent.reconciler.leave)

    def agent_left(self) -> None:
        """It has gone as it was told to; after a while there is another."""
        self.kill_agent()
        self.happenings.after(self.random.uniform(0, 20.0), self.boot)

    def crash(self) -> None:
        """The machine fails: also what was written and not yet on disk is gone."""
        self.kill_agent()
        self.stopped = False
        self.backlog.clear()
        self.journal = Journal()
        self.clock_ahead_seconds = -self.happenings.now

    def stop(self) -> None:
        """Freeze the machine."""
        self.stopped = True

    def go_on(self) -> None:
        """Let it run again: all that was due happens now."""
        self.stopped = False
        waiting, self.backlog = self.backlog, []
        for action in waiting:
            action()

    def make_process(
        self,
        assignment: Assignment,
        brief: JobBrief,
        ended: Callable[[EndKind, int | None, int | None], None],
    ) -> Process:
        """Return the process of an attempt that starts here; the job's tree begins at the seed."""
        self.started(assignment)
        text = assignment.parameters if assignment.qsequence else brief.script_parameters
        tree = json.loads(text)["tree"]
        return Process(
            assignment, tree, self.name, self.happenings, self.random, self.network, self.receive,
            self.misfortune, ended, self.said_success,
        )  # fmt: skip
