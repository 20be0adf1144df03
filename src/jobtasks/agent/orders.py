"""Carries out what the server orders: start these, stop those, tell me about that one."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain

from jobtasks.agent import launcher
from jobtasks.agent.access import TaskAccess
from jobtasks.agent.attempt import Job
from jobtasks.agent.attempts import Attempts
from jobtasks.agent.channel import Server
from jobtasks.agent.ends import Ends
from jobtasks.agent.jobs import Jobs
from jobtasks.agent.loop import Loop, Timer
from jobtasks.agent.pace import GIVE_BACK_SECONDS
from jobtasks.agent.pushing import FOLLOW_SECONDS, Pusher
from jobtasks.agent.room import Room
from jobtasks.agent.scripts import Scripts
from jobtasks.protocol.messages import Assignment, Ended, EndKind, JobBrief, Orders, Stop

logger = logging.getLogger(__name__)

TURN_SECONDS = 0.001
"""How long one turn of the loop starts processes before it looks for ends."""

BESIDE_SLOTS_MIN = 4
"""With so many slots, and more to start, processes are started beside each other; with fewer to
hand a start over takes longer than it saves."""

DONE_MAX = 10_000
"""So many attempts are remembered after their end: should the server repeat one against its word,
it is not started a second time."""


class Notes:
    """Attempts that a sync has to name, until the answer to one that named them."""

    def __init__(self) -> None:
        self._named: dict[int, int] = {}

    def add(self, attempt: int) -> None:
        """Name `attempt` from the next sync on."""
        self._named.setdefault(attempt, 0)

    def name(self, number: int) -> list[int]:
        """Return all; the sync `number` names them."""
        if not self._named:
            return []
        for attempt, first in self._named.items():
            self._named[attempt] = first or number
        return list(self._named)

    def answered(self, number: int) -> None:
        """The sync `number` was served."""
        if self._named:
            self._named = {a: first for a, first in self._named.items() if not 0 < first <= number}

    def clear(self) -> None:
        """Forget all."""
        self._named.clear()

    def __contains__(self, attempt: int) -> bool:
        return attempt in self._named


class OrderBook:
    """Orders at hand, and what the server must hear about them.

    An assignment is started at most once: it is taken only from answers in rising order, and the
    server does not repeat one in the answer to a sync that has named it. It is not started after
    its time (R33); in a slot that is taken it waits for a moment (agent/pace.py). Else it is
    *refused*. `tell` is called when something should be said soon.
    """

    def __init__(
        self,
        loop: Loop,
        server: Server,
        access: TaskAccess,
        attempts: Attempts,
        ends: Ends,
        jobs: Jobs,
        pusher: Pusher,
        room: Room,
        tell: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._server = server
        self._access = access
        self._attempts = attempts
        self._ends = ends
        self._jobs = jobs
        self._pusher = pusher
        self._room = room
        self._tell = tell
        self._newest = 0
        self._done: dict[int, None] = {}
        self._follow: list[int] = []
        self._follow_timer: Timer | None = None
        self.to_start: deque[tuple[Assignment, float]] = deque()
        """Assignments, each with the time after which it is not started."""
        self.behind: deque[tuple[Assignment, float]] = deque()
        """What waits behind the attempts in its slots, each with the time when it is given back."""
        self.scripts: Scripts | None = None
        """Who fetches the directories of scripts; None: nobody does."""
        self.fetching: deque[tuple[Assignment, float]] = deque()
        """What waits for its script, each with the time after which it is not started."""
        self._heard = 0
        self.refused = Notes()
        self.unknown = Notes()
        self.closed = False
        """Start nothing any more: the agent ends."""

    def forget(self) -> None:
        """A new life with the server begins: what an old one ordered is void."""
        self.to_start.clear()
        self.behind.clear()
        self.fetching.clear()
        self.refused.clear()
        self.unknown.clear()

    def obey(self, orders: Orders, sent_at: float) -> None:
        """Take the answer to a sync that was sent at `sent_at`."""
        self.refused.answered(orders.number)
        self.unknown.answered(orders.number)
        if orders.trust is not None:
            self._access.take(orders.trust)
        if orders.acknowledged:
            self.acknowledge(orders.acknowledged)
        for brief in orders.jobs:
            self._learn(brief)
        if orders.number > self._newest:
            self._newest = orders.number
            for assignment in orders.start:
                late = sent_at + orders.held_seconds + assignment.start_within_seconds
                self._take(assignment, late)
        if orders.stop:
            self._attempts.finish_starts()
        for stop in orders.stop:
            self._stop(stop)
        for attempt in orders.ask:
            self._asked(attempt)
        for uuid in orders.jobs_over:
            self._jobs.over(uuid)
        self._follow = orders.follow
        if self._follow and self._follow_timer is None:
            self._push_followed()

    def acknowledge(self, attempts: list[int]) -> None:
        """These ends are on record at the server."""
        done = self._done
        done.update(dict.fromkeys(attempts))
        while len(done) > DONE_MAX:
            del done[next(iter(done))]
        self._ends.acknowledge(attempts)
        self._pusher.ended(attempts)

    def _push_followed(self) -> None:
        """Push what there is of the logs that somebody reads, again and again."""
        self._follow_timer = None
        for attempt in self._follow:
            if (found := self._attempts.live.get(attempt)) is not None:
                self._pusher.add(found.log)
        if self._follow:
            self._follow_timer = self._loop.after(FOLLOW_SECONDS, self._push_followed)

    def _learn(self, brief: JobBrief) -> None:
        try:
            self._jobs.take(brief)
        except OSError as error:
            self._room.lack(f"no directory can be made for job {brief.uuid}: {error.strerror}")

    def _has(self, attempt: int) -> bool:
        """Do we run it, start it, or have its end?"""
        attempts = self._attempts
        is_ours = attempt in attempts.live or attempt in attempts.starting
        return is_ours or attempt in self._ends.pending

    def held(self) -> list[int]:
        """Return the attempts that are not started yet."""
        waiting = [assignment.attempt for assignment, _ in self._waiting()]
        return [*self._attempts.starting, *waiting]

    def _waiting(self) -> Iterator[tuple[Assignment, float]]:
        return chain(self.to_start, self.behind, self.fetching)

    def _is_at_hand(self, attempt: int) -> bool:
        return attempt in self.held()

    def _take(self, assignment: Assignment, late: float) -> None:
        attempt = assignment.attempt
        if self._has(attempt) or attempt in self.refused or self._is_at_hand(attempt):
            return
        if self.closed:
            self._refuse(assignment, "the agent ends")
        elif attempt in self._done:
            self._refuse(assignment, "it has been here before")
        else:
            self.to_start.append((assignment, late))

    def _refuse(self, assignment: Assignment, why: str) -> None:
        logger.warning("attempt %d: not started: %s", assignment.attempt, why)
        self._give_back(assignment)

    def _give_back(self, assignment: Assignment) -> None:
        self.refused.add(assignment.attempt)
        self._tell()

    def start_some(self) -> None:
        """Start what is at hand, for about `TURN_SECONDS`."""
        until = self._loop.now() + TURN_SECONDS
        while self.to_start:
            assignment, late = self.to_start.popleft()
            now = self._loop.now()
            if now > late:
                self._refuse(assignment, f"it came {now - late:.1f} s too late")
            else:
                self._start(assignment, late)
            if now > until:
                return

    def _start(self, assignment: Assignment, late: float) -> None:
        job = self._jobs.known.get(assignment.job)
        if job is None:
            self._refuse(assignment, f"its job {assignment.job} is not known here")
        elif not 1 <= assignment.slot <= self._attempts.size:
            self._refuse(assignment, f"there is no slot {assignment.slot}")
        elif not self._attempts.is_free(assignment.slot):
            self._wait(assignment, late)
        else:
            self._begin(assignment, job, late)

    def _begin(self, assignment: Assignment, job: Job, late: float) -> None:
        """Start an attempt, when its script is here; else that is waited for."""
        directory = job.brief.script_version
        try:
            if self.scripts is not None and launcher.runs_script(assignment, job.brief):
                directory = self.scripts.directory_of(assignment, job.brief)
                if directory is None:
                    self.fetching.append((assignment, late))
                    self._loop.at(late, lambda: None)
                    return
            variables = self._access.variables(self._server.url)
            attempts = self._attempts
            are_more = self.to_start or self.behind or attempts.starting
            is_beside = are_more and attempts.size >= BESIDE_SLOTS_MIN
            busy = self._refuse_busy if is_beside else None
            attempts.start(assignment, job, variables, directory, busy)
        except launcher.StartError as error:
            ended = Ended(assignment.attempt, EndKind.UNABLE_TO_START, reason=str(error))
            self._ends.add(ended)
        except launcher.NodeBusyError as error:
            self._refuse_busy(assignment, str(error))

    def _refuse_busy(self, assignment: Assignment, why: str) -> None:
        self._refuse(assignment, f"this node cannot start a process: {why}")

    def look_for_scripts(self) -> None:
        """Start what waits for scripts that have come; give back what has waited too long."""
        if self.scripts is None:
            return
        is_news = self.scripts.changes != self._heard
        self._heard = self.scripts.changes
        now = self._loop.now()
        for _ in range(len(self.fetching)):
            assignment, late = self.fetching.popleft()
            if now > late:
                self._refuse(assignment, "the directory of its script did not come in time")
            elif is_news:
                self._start(assignment, late)
            else:
                self.fetching.append((assignment, late))

    def packs_in_use(self) -> set[str]:
        """Return the packs that attempts run in, or wait for."""
        waiting = {assignment.script_hash for assignment, _ in self._waiting()}
        live = {one.assignment.script_hash for one in self._attempts.live.values()}
        starting = {one.script_hash for one in self._attempts.starting.values()}
        return waiting | starting | live

    def _wait(self, assignment: Assignment, late: float) -> None:
        until = min(self._loop.now() + GIVE_BACK_SECONDS, late)
        self.behind.append((assignment, until))
        # The loop turns by then, whatever happens.
        self._loop.at(until, lambda: None)

    def advance(self) -> None:
        """Start what waits behind slots that are free now; give back what has waited too long."""
        now = self._loop.now()
        for _ in range(len(self.behind)):
            assignment, until = self.behind.popleft()
            if until <= now:
                self._give_back(assignment)
            elif self._attempts.is_free(assignment.slot):
                self._start(assignment, until)
            else:
                self.behind.append((assignment, until))

    def close(self) -> None:
        """Start nothing any more."""
        self.closed = True
        self.to_start += [*self.behind, *self.fetching]
        self.behind.clear()
        self.fetching.clear()
        while self.to_start:
            self._refuse(self.to_start.popleft()[0], "the agent ends")

    def _stop(self, stop: Stop) -> None:
        attempt = self._attempts.live.get(stop.attempt)
        if attempt is not None:
            self._attempts.stop(attempt, EndKind.STOPPED, stop.reason, stop.discard)
        elif stop.discard:
            self.acknowledge([stop.attempt])
        elif self._is_at_hand(stop.attempt):
            self._ends.add(Ended(stop.attempt, EndKind.STOPPED, reason=stop.reason))
        if attempt is None:
            self._drop(stop.attempt)

    def _drop(self, attempt: int) -> None:
        """Forget an assignment that is at hand."""
        self.to_start = deque(entry for entry in self.to_start if entry[0].attempt != attempt)
        self.behind = deque(entry for entry in self.behind if entry[0].attempt != attempt)
        self.fetching = deque(entry for entry in self.fetching if entry[0].attempt != attempt)

    def _asked(self, attempt: int) -> None:
        if not self._has(attempt) and not self._is_at_hand(attempt):
            self.unknown.add(attempt)
        self._tell()
