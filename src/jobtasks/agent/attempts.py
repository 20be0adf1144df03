"""The life of attempts on this node: start, stop, end."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable
from functools import partial

from jobtasks.agent import launcher, memory, reports
from jobtasks.agent.attempt import Attempt, Beginning, Busy, Job
from jobtasks.agent.cgroups import Group
from jobtasks.agent.ends import Ends
from jobtasks.agent.exclusive import CutOffError, Exclusive
from jobtasks.agent.launcher import Birth
from jobtasks.agent.logs import Log
from jobtasks.agent.loop import Loop
from jobtasks.agent.pace import Pace
from jobtasks.agent.room import Room
from jobtasks.agent.slot_table import SlotTable
from jobtasks.agent.slots import Slot
from jobtasks.agent.starters import Started, Starters
from jobtasks.agent.trees import Owner, Trees
from jobtasks.agent.warm import ColdError, Warm
from jobtasks.protocol.messages import Alive, Assignment, Ended, EndKind

logger = logging.getLogger(__name__)

CLEAR_SECONDS_MIN = 0.001
CLEAR_SECONDS_MAX = 0.1
CLEAR_ROUNDS_MAX = 200
"""Rounds of killing before an end is reported though a process hangs in the kernel (about 20 s)."""

YOUNG_SECONDS = 0.005
"""An attempt is told as running once it has run for so long: many have ended by then."""

REST_SECONDS = 1.0
"""A slot on which the node could not start a process is not offered for so long."""


class Attempts:
    """All attempts of this agent. Exits gather in a turn of the loop and are settled together."""

    def __init__(
        self,
        loop: Loop,
        slots: list[Slot],
        table: SlotTable,
        trees: Trees,
        ends: Ends,
        finished: Callable[[Log], None],
        room: Room,
        exclusive: Exclusive,
    ) -> None:
        self._loop = loop
        self._slots = slots
        self._table = table
        self._trees = trees
        self._ends = ends
        self._finished = finished
        self._room = room
        self.exclusive = exclusive
        self._pace = Pace(len(slots))
        self._exited: list[Attempt] = []
        self.live: dict[int, Attempt] = {}
        self.starting: dict[int, Assignment] = {}
        """Attempts that have their slots, and of whose processes nobody has heard yet."""
        self.starters: Starters | None = None
        """Who starts processes one beside the other."""
        self.grace_seconds = 10.0
        self.log_bytes_max = 64 * 1024 * 1024
        self.log_directory = ""
        self.warm: Warm | None = None
        """Who starts what is to have modules imported already."""
        self.groups_all = False
        """Whether every attempt runs in its slot's control group, also those that need none."""
        self.groups_name = ""
        """How /proc calls the group in which the slots' control groups are."""

    def free_slots(self) -> list[int]:
        """Numbers of the slots that may take an attempt now."""
        if not self._room.is_there():
            return []
        now = self._loop.now()
        return [
            slot.number
            for slot in self._slots
            if not slot.attempt and slot.rest_until <= now and slot.is_fit()
        ]

    def places(self) -> int:
        """How many attempts a slot may have (agent/pace.py); 1 when some slot is to have none."""
        now = self._loop.now()
        if not self._room.is_there() or any(
            slot.rest_until > now or not slot.is_fit() for slot in self._slots
        ):
            return 1
        longest_seconds = max((now - one.started for one in self.live.values()), default=0.0)
        return self._pace.places(longest_seconds)

    def gather_seconds(self, told: int, *, is_busy: bool) -> float:
        """How long an end waits for others to be told with it (agent/pace.py)."""
        return self._pace.gather_seconds(told, is_busy=is_busy)

    @property
    def size(self) -> int:
        """How many slots there are."""
        return len(self._slots)

    def is_free(self, number: int) -> bool:
        """Does this node have that slot, and no attempt in it?"""
        return 1 <= number <= len(self._slots) and not self._slots[number - 1].attempt

    def alive(self) -> tuple[list[Alive], list[int]]:
        """Return every attempt that has not ended, for a sync; those too young by their ids."""
        old_enough = self._loop.now() - YOUNG_SECONDS
        alive: list[Alive] = []
        young: list[int] = []
        for attempt in self.live.values():
            if attempt.named or attempt.started <= old_enough:
                attempt.named = True
                alive.append(Alive(attempt.id, attempt.pid, attempt.log.live_tail()))
            else:
                young.append(attempt.id)
        return alive, young

    def has_untold(self) -> bool:
        """Return whether an attempt is old enough to be told, and was not."""
        old_enough = self._loop.now() - YOUNG_SECONDS
        return any(not one.named and one.started <= old_enough for one in self.live.values())

    def repeat_tails(self) -> None:
        """A sync was lost: the ends of stderr that it carried go along again."""
        for attempt in self.live.values():
            attempt.log.tail_changed = True

    def start(
        self,
        assignment: Assignment,
        job: Job,
        server: dict[str, str],
        scripts: str | None,
        busy: Busy | None = None,
    ) -> None:
        """Start an attempt in its slot, which must be free; `scripts`: where the job's script is.

        A program that cannot be executed is an end like any other. With `busy` others are about to
        start, too: then the process may be started beside them, and `busy` is called when the node
        could not. Errors: `NodeBusyError`.
        """
        slot = self._slots[assignment.slot - 1]
        group = self._group(assignment, slot)
        before = SlotTable.ticks()
        try:
            command = launcher.words(assignment, job.brief, scripts)
            variables = job.environment.of(assignment, slot.work, server)
            birth = Birth(command, variables, slot, group, assignment.memory_kib)
            beginning = Beginning(assignment, job, birth, before)
            if busy is not None and self._start_beside(beginning, busy):
                return
            self.finish_starts()
            pid, remark = self._spawn(assignment, birth)
        except launcher.StartError as error:
            self._note_unable(assignment, job, error)
            return
        except launcher.NodeBusyError:
            slot.rest_until = self._loop.now() + REST_SECONDS
            raise
        self._note(beginning, pid)
        attempt = self._adopt(beginning, pid, self._new_log(assignment), self._loop.now())
        if remark:
            attempt.log.remark(remark)

    def _note_unable(self, assignment: Assignment, job: Job, error: launcher.StartError) -> None:
        reason = launcher.told(error, assignment, job.brief)
        self._ends.add(Ended(assignment.attempt, EndKind.UNABLE_TO_START, reason=reason))

    def _note(self, beginning: Beginning, pid: int) -> None:
        slot, attempt = beginning.birth.slot.number, beginning.assignment.attempt
        self._table.note(slot, attempt, pid, beginning.before, SlotTable.ticks())

    def _start_beside(self, beginning: Beginning, busy: Busy) -> bool:
        """Have a plain process started by another thread; return whether it will be."""
        assignment, job, birth, _ = beginning
        is_plain = not (assignment.exclusive or assignment.preload or birth.group)
        if self.starters is None or not is_plain:
            return False
        note, heard = partial(self._note, beginning), partial(self._heard, beginning, busy)
        if not self.starters.start(birth, note, heard):
            return False
        self.starting[assignment.attempt] = assignment
        job.live += 1
        birth.slot.attempt = assignment.attempt
        # It may write before we hear of it.
        birth.slot.log = self._new_log(assignment)
        return True

    def _heard(self, beginning: Beginning, busy: Busy, started: Started) -> None:
        """Take the process that another thread has started; else try once more.

        A script that was just written may have been open for writing in a child of that moment,
        which had a copy of all our descriptors until it became its program.
        """
        assignment, job, birth, _ = beginning
        slot = birth.slot
        del self.starting[assignment.attempt]
        job.live -= 1
        log, slot.attempt, slot.log = slot.log, 0, None
        if not started.error:
            assert log is not None, "it was given with the slot"
            self._trees.elsewhere.add(started.pid)
            self._adopt(beginning, started.pid, log, started.at)
            return
        self.finish_starts()
        try:
            pid = launcher.spawn(birth)
        except launcher.StartError as error:
            self._note_unable(assignment, job, error)
        except launcher.NodeBusyError as error:
            slot.rest_until = self._loop.now() + REST_SECONDS
            busy(assignment, str(error))
        else:
            self._note(beginning, pid)
            self._adopt(beginning, pid, self._new_log(assignment), self._loop.now())

    def finish_starts(self) -> None:
        """Wait until every process that is being started has become its program, or cannot."""
        if self.starters is not None:
            self.starters.finish()

    def _spawn(self, assignment: Assignment, birth: Birth) -> tuple[int, str]:
        """Start its process; return the pid, and what the user should know of the start."""
        if not assignment.exclusive:
            return self._begin(assignment, birth)
        task, number, group = assignment.task, assignment.number, birth.group
        frozen = str(group.path) if group is not None and group.freezes else ""
        try:
            # Before it runs: we may be stopped as soon as it does.
            self.exclusive.hold(task, number, frozen)
            pid, remark = self._begin(assignment, birth)
        except CutOffError as error:
            raise launcher.NodeBusyError(str(error)) from None
        except (launcher.StartError, launcher.NodeBusyError):
            self.exclusive.drop(task, number)
            raise
        self.exclusive.started(task, number, pid, frozen)
        return pid, remark

    def _begin(self, assignment: Assignment, birth: Birth) -> tuple[int, str]:
        remark = ""
        if assignment.preload and self.warm is not None:
            try:
                return self.warm.start(assignment.preload, birth), ""
            except ColdError as cold:
                remark = str(cold)
        return launcher.spawn(birth), remark

    def _group(self, assignment: Assignment, slot: Slot) -> Group | None:
        """Return the slot's control group when the attempt is to run in it: a start costs more."""
        group = slot.group
        if group is None or self.groups_all:
            return group
        is_frozen = assignment.exclusive and group.freezes
        is_limited = assignment.memory_kib and group.limits
        return group if is_frozen or is_limited else None

    def _new_log(self, assignment: Assignment) -> Log:
        log_bytes = assignment.log_bytes_max or self.log_bytes_max
        return Log(self.log_directory, assignment.attempt, log_bytes)

    def _adopt(self, beginning: Beginning, pid: int, log: Log, started: float) -> Attempt:
        assignment, job, birth, _ = beginning
        slot, group = birth.slot, birth.group
        pidfd = os.pidfd_open(pid)
        attempt = Attempt(assignment, job, slot, group, log, pid, pidfd, started)
        slot.attempt, slot.log = assignment.attempt, log
        job.live += 1
        self.live[attempt.id] = attempt
        self._trees.leaders[pid] = attempt.id
        if group is not None:
            self._trees.groups[attempt.id] = group
        self._loop.watch(pidfd, lambda events: self._exited.append(attempt))
        if assignment.max_run_seconds > 0:
            timer = self._loop.after(assignment.max_run_seconds, partial(self._overdue, attempt))
            attempt.timers.append(timer)
        return attempt

    def _overdue(self, attempt: Attempt) -> None:
        limit = attempt.assignment.max_run_seconds
        self.stop(attempt, EndKind.TIME_LIMIT, f"it ran longer than {limit:g} s")

    def stop(
        self,
        attempt: Attempt,
        kind: EndKind,
        reason: str,
        discard: bool = False,
        kill: bool = False,
    ) -> None:
        """End an attempt: TERM to its tree, KILL after the grace, or at once with `kill`.

        What stops it first is what is reported; `discard`: nothing is.
        """
        kill = kill or self._must_not_move(attempt, kind, discard)
        attempt.discard |= discard
        if attempt.kind is EndKind.EXIT and attempt.status is None:
            attempt.kind, attempt.reason = kind, reason
        elif not kill:
            return
        if kill:
            self._kill(attempt)
        elif attempt.status is None:
            self._trees.look(self._owners())
            members = self._trees.members(attempt.id, attempt.pid)
            _signal(members, signal.SIGTERM)
            # A stopped process takes note of TERM only when it goes on.
            _signal(members, signal.SIGCONT)
            timer = self._loop.after(self.grace_seconds, partial(self._kill, attempt))
            attempt.timers.append(timer)

    def _must_not_move(self, attempt: Attempt, kind: EndKind, discard: bool) -> bool:
        """May another attempt of an exclusive task run elsewhere? Then there is no grace (R34)."""
        lost = discard or kind is EndKind.AGENT_LOST or self.exclusive.is_cut_off()
        return attempt.assignment.exclusive and lost

    def stop_all(self, kind: EndKind, reason: str, kill: bool = False) -> None:
        """`stop` every attempt."""
        self.finish_starts()
        for attempt in list(self.live.values()):
            self.stop(attempt, kind, reason, kill=kill)

    def _kill(self, attempt: Attempt) -> None:
        if attempt.killed or attempt.id not in self.live:
            return
        attempt.killed = True
        attempt.stained = True
        self._clear(attempt)

    def settle(self) -> None:
        """Deal with the exits that this turn of the loop has seen; write down the ends."""
        if self.starters is not None:
            self.starters.tell()
        if self._exited:
            exited, self._exited = self._exited, []
            if self._trees.crowded():
                self._settle_crowded(exited)
            else:
                for attempt in exited:
                    self._reap(attempt)
                    self._end(attempt)
        self._ends.flush()

    def _settle_crowded(self, exited: list[Attempt]) -> None:
        for attempt in exited:
            # While the leader is a zombie, nobody else can have its group's number.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(attempt.pid, signal.SIGKILL)
        self._trees.look(self._owners())
        for attempt in exited:
            self._reap(attempt)
            self._trees.over(attempt.id)
        for attempt in exited:
            self._clear(attempt)

    def _reap(self, attempt: Attempt) -> None:
        _, attempt.status, usage = os.wait4(attempt.pid, 0)
        attempt.peak_memory_kib = max(attempt.peak_memory_kib, usage.ru_maxrss)
        self._loop.forget(attempt.pidfd)
        os.close(attempt.pidfd)
        del self._trees.leaders[attempt.pid]
        self._trees.elsewhere.discard(attempt.pid)

    def _clear(self, attempt: Attempt) -> None:
        """Kill what there is of a tree, and look again until nothing is."""
        if attempt.id not in self.live:
            return
        if attempt.rounds:
            self._trees.look(self._owners())
        leader = attempt.pid if attempt.status is None else None
        members = self._trees.members(attempt.id, leader)
        group = attempt.group
        # Who dies is for a moment in no list, and still in the group.
        gone = not members and (group is None or group.is_empty())
        if gone or attempt.rounds >= CLEAR_ROUNDS_MAX:
            self._end_cleared(attempt, members)
            return
        attempt.stained = True
        attempt.rounds += 1
        if group is not None:
            group.kill()
        _signal(members, signal.SIGKILL)
        pause = min(CLEAR_SECONDS_MIN * attempt.rounds, CLEAR_SECONDS_MAX)
        attempt.timers.append(self._loop.after(pause, partial(self._clear, attempt)))

    def _end_cleared(self, attempt: Attempt, members: set[int]) -> None:
        if members:
            logger.warning("attempt %d: cannot kill %s", attempt.id, sorted(members))
        if attempt.status is None:
            # It hangs in the kernel; its slot stays taken until it is gone.
            attempt.timers.append(self._loop.after(1.0, partial(self._clear, attempt)))
            return
        self._end(attempt)

    def _owners(self) -> list[Owner]:
        # What a process leaves behind must not be seen before the process itself is known.
        self.finish_starts()
        return [
            Owner(
                attempt.id,
                attempt.pid,
                frozenset(
                    {
                        f"TASK_UUID={attempt.assignment.task}".encode(),
                        f"TASK_ATTEMPT={attempt.assignment.number}".encode(),
                    }
                ),
                attempt.slot.work,
                attempt.slot.pipes(),
                self._group_name(attempt.group),
            )
            for attempt in self.live.values()
        ]

    def _group_name(self, group: Group | None) -> str:
        return f"{self.groups_name}/{group.path.name}" if group is not None else ""

    def _end(self, attempt: Attempt) -> None:
        """The tree is gone: report, and free the slot."""
        for timer in attempt.timers:
            timer.cancel()
        self._trees.forget(attempt.id)
        if attempt.assignment.exclusive:
            self.exclusive.drop(attempt.assignment.task, attempt.assignment.number)
        del self.live[attempt.id]
        attempt.job.live -= 1
        slot = attempt.slot
        reports.take_figures(attempt)
        slot.drain()
        attempt.log.finish()
        ended = reports.ended(attempt, self._loop.now())
        is_success = ended.kind is EndKind.EXIT and ended.exit_code == 0
        self._pace.note(ended.run_seconds or 0.0, is_success)
        if not attempt.discard:
            self._ends.add(ended)
        else:
            attempt.log.ended = True
            # Nothing to report, but the slot is free again.
            self._ends.changes += 1
        attempt.log.forget_tail()
        slot.release(attempt.stained, attempt.group)
        if not slot.is_fit():
            self._room.lack(f"no directory can be made for slot {slot.number}")
        if attempt.log.lost:
            self._room.lack(f"{attempt.log.lost} bytes of output of attempt {attempt.id} are lost")
        if attempt.log.head is not None:
            self._finished(attempt.log)

    def watch_trees(self) -> None:
        """From time to time: reap orphans that died while their attempts go on."""
        if self._trees.crowded():
            self._trees.look(self._owners())
            self._end_strays()

    def watch_memory(self) -> None:
        """From time to time: end attempts that use more than what is reserved for them (R28)."""
        for attempt in list(self.live.values()):
            group = attempt.group
            watched = attempt.assignment.memory_kib and not (group is not None and group.limits)
            if watched and attempt.status is None and not attempt.killed:
                self._weigh(attempt)

    def _weigh(self, attempt: Attempt) -> None:
        limit = attempt.assignment.memory_kib
        used = memory.used_kib(self._trees.members(attempt.id, attempt.pid), limit)
        attempt.peak_memory_kib = max(attempt.peak_memory_kib, used)
        if used > limit:
            reason = f"it used {used} KiB of memory; {limit} KiB are reserved for it"
            self.stop(attempt, EndKind.OUT_OF_MEMORY, reason, kill=True)

    def _end_strays(self) -> None:
        _signal(self._trees.orphans_of(0), signal.SIGKILL)


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
