"""Why a task or a job does not run, from values: every reason, and what would lift it (R31)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobtasks.core.constraints import Needs
from jobtasks.core.node_reasons import (
    Fleet,
    Wish,
    blocked_reasons,
    engine_reasons,
    lasting_reasons,
    node_reasons,
)
from jobtasks.core.reasons import LISTED_MAX, MICROSECONDS, Reason, counted, moment, named, until
from jobtasks.core.sequencing import Level
from jobtasks.core.states import JobState, TaskState
from jobtasks.core.timestamps import render_time


@dataclass(frozen=True, slots=True)
class AttemptView:
    """An attempt of a task."""

    number: int
    node: str
    slot: int
    has_begun: bool
    """Whether its agent has said that it runs."""
    since: int
    """When it was started or, before that, given to its agent."""
    end: str = ""
    """What ended it, in a few words."""


@dataclass(frozen=True, slots=True)
class Creator:
    """The task that created another and is not complete yet (R3)."""

    uuid: str
    attempt: AttemptView | None


@dataclass(frozen=True, slots=True)
class TaskView:
    """The task to explain."""

    uuid: str
    sequence: int
    state: TaskState
    needs: Needs
    newest: AttemptView | None = None
    creator: Creator | None = None
    """None from the moment at which it completed."""
    failed_count: int = 0
    finished_at: int | None = None
    not_before: int = 0
    """Unix microseconds: end of its delay (R15)."""
    avoid_nodes: frozenset[int] = frozenset()
    avoid_until: int = 0
    is_memory_raised: bool = False
    unknown_constraints: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class JobView:
    """The job to explain, or that of the task."""

    id: int
    uuid: str
    state: JobState
    needs: Needs
    """Of its tasks without constraints of their own."""
    min_nodes: int = 1
    halt: str | None = None
    """How a permanent failure stopped new starts: ``finish`` or ``cancel`` (R19)."""
    failed_tasks: Sequence[str] = ()
    """UUIDs of some tasks that failed for good."""
    ended_at: int | None = None
    log: str | None = None
    """Why it failed or was cancelled."""
    todo: int = 0
    running: int = 0
    failed: int = 0
    live: int = 0
    """Processes that may still be there."""
    unknown_constraints: Sequence[str] = ()

    @property
    def retry(self) -> str:
        """The command that queues it again."""
        return f"jobtasks job retry {self.uuid}"


HOLDER_WORDS = {
    "running": "runs",
    "failed": "failed for good",
    "delayed": "waits until {until}",
    "child": "waits for its creator",
    "waiting": "waits for a node",
}
"""How a task can hold its sequence, and the words for it."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A task that holds its sequence, being not complete (R5)."""

    uuid: str
    kind: str
    """A key of `HOLDER_WORDS`."""
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks of the frontier that could start, with needs in common."""

    tasks: int
    needs: Needs
    avoid_nodes: frozenset[int] = frozenset()
    avoid_until: int = 0


@dataclass(frozen=True, slots=True)
class Frontier:
    """The tasks of a job's lowest sequence that is not all complete (R5)."""

    level: Level
    groups: Sequence[Group] = ()
    groups_left: int = 0
    """Tasks whose groups were not looked at: there are too many different needs."""
    delayed: int = 0
    delayed_until: int | None = None
    """When the first of these delays is over, as far as was looked."""
    children: int = 0
    """Tasks that wait for their creator."""


def explain_task(
    task: TaskView,
    job: JobView,
    frontier: Level | None,
    holders: Sequence[Holder],
    fleet: Fleet,
) -> list[Reason]:
    """Return why a task does not run; one reason says it all when it runs or has ended.

    `frontier` is the lowest sequence of its job that is not all complete, `holders` are some of
    the tasks that hold it.
    """
    if task.state is not TaskState.WAITING:
        return [_state_of_task(task, job)]
    if job.state.is_final:
        return [_job_over(job)]
    unknown = _unknown([*job.unknown_constraints, *task.unknown_constraints])
    if job.state is JobState.QUEUED:
        return [_job_queued(job), *start_reasons(job, fleet), *unknown]
    if job.halt:
        return [_job_halted(job), *unknown]
    wish = _wish_of_task(task, job)
    waits = _task_waits(task, frontier, holders, fleet.now)
    if waits:
        return [*waits, *lasting_reasons(wish, fleet), *unknown]
    return [*node_reasons(wish, fleet), *unknown]


def explain_job(job: JobView, frontier: Frontier | None, fleet: Fleet) -> list[Reason]:
    """Return what keeps a job from starting, from going on, or from ending."""
    if job.state.is_final:
        return [_job_over(job)]
    unknown = _unknown(job.unknown_constraints)
    if job.state is JobState.QUEUED:
        return [*start_reasons(job, fleet), *unknown]
    if job.halt:
        return [_job_halted(job), *unknown]
    if frontier is None:
        return [_job_ending(job), *unknown]
    return [*_frontier_reasons(job, frontier, fleet), *unknown]


def start_reasons(job: JobView, fleet: Fleet) -> list[Reason]:
    """Return why a queued job has not started (R18)."""
    wish = Wish("its tasks", job.id, job.needs, job.retry)
    found = lasting_reasons(wish, fleet) or blocked_reasons(wish, fleet)
    if not found and job.min_nodes > 1:
        found = _min_nodes(job, fleet)
    if not found:
        lift = "Wait a moment: the manager starts it."
        found = [Reason("ready", "Nothing keeps the job from starting.", lift)]
    return [*found, *engine_reasons(found, fleet)]


def _wish_of_task(task: TaskView, job: JobView) -> Wish:
    return Wish(
        "it",
        job.id,
        task.needs,
        f"{job.retry} {task.uuid}",
        task.uuid,
        task.avoid_nodes,
        task.avoid_until,
        task.is_memory_raised,
    )


def _task_waits(
    task: TaskView, frontier: Level | None, holders: Sequence[Holder], now: int
) -> list[Reason]:
    found: list[Reason] = []
    if task.creator is not None:
        found.append(_creator(task.creator))
    if frontier is not None and frontier.sequence < task.sequence:
        found.append(_lower_sequence(task.sequence, frontier, holders, now))
    if task.not_before > now:
        found.append(_delay(task, now))
    return found


def _state_of_task(task: TaskView, job: JobView) -> Reason:
    if task.state is TaskState.RUNNING:
        text = f"It runs: {_attempt(task.newest)}."
        return Reason("running", text, "It reports and its process ends.", _facts(task.newest))
    at = f" since {moment(task.finished_at)}" if task.finished_at else ""
    if task.state is TaskState.COMPLETE:
        return Reason("complete", f"It is complete{at}.", None, _facts(task.newest))
    why = f": {task.newest.end}" if task.newest and task.newest.end else ""
    text = f"It has failed for good{at}{why}."
    lift = f"`{job.retry} {task.uuid}`, once the job is over."
    details = {**_facts(task.newest), "failed_count": task.failed_count}
    return Reason("failed", text, lift, details)


def _attempt(attempt: AttemptView | None) -> str:
    if attempt is None:
        return "an attempt is about to start"
    where = f"slot {attempt.slot} of {attempt.node}"
    if not attempt.has_begun:
        return f"attempt {attempt.number} was given to {where} at {moment(attempt.since)}"
    return f"attempt {attempt.number} on {where} since {moment(attempt.since)}"


def _facts(attempt: AttemptView | None) -> dict[str, Any]:
    if attempt is None:
        return {}
    return {
        "attempt": attempt.number,
        "node": attempt.node,
        "slot": attempt.slot,
        "since": render_time(attempt.since),
    }


def _creator(creator: Creator) -> Reason:
    text = (
        f"The task that created it, {creator.uuid}, is not complete: {_attempt(creator.attempt)}."
    )
    lift = "That task succeeds and its process ends; if it fails, this one is deleted."
    return Reason("creator", text, lift, {"creator": creator.uuid, **_facts(creator.attempt)})


def _lower_sequence(sequence: int, level: Level, holders: Sequence[Holder], now: int) -> Reason:
    total = level.todo + level.running + level.failed
    names = [f"{holder.uuid} {_holds(holder, now)}" for holder in holders]
    text = (
        f"Sequence {sequence} waits for sequence {level.sequence}, of which"
        f" {counted(total, 'task')} {'is' if total == 1 else 'are'} not complete"
    )
    text += f": {named(names, total)}." if names else "."
    details = {
        "sequence": sequence,
        "waits_for_sequence": level.sequence,
        **_counts(level),
        "tasks": [_holder_row(holder) for holder in holders[:LISTED_MAX]],
    }
    lift = f"All tasks of sequence {level.sequence} are complete."
    if level.failed:
        lift = (
            "Nothing in this run of the job, as a task of a lower sequence failed for good;"
            " once the job is Failed, it can be queued again."
        )
    return Reason("lower_sequence", text, lift, details)


def _counts(level: Level) -> dict[str, int]:
    return {
        "todo": level.todo,
        "running": level.running,
        "done": level.done,
        "failed": level.failed,
    }


def _holds(holder: Holder, now: int) -> str:
    return HOLDER_WORDS[holder.kind].format(until=until(holder.until or now, now))


def _holder_row(holder: Holder) -> dict[str, Any]:
    row = {"task": holder.uuid, "state": holder.kind}
    return row if holder.until is None else {**row, "until": render_time(holder.until)}


def _delay(task: TaskView, now: int) -> Reason:
    end = f" ({task.newest.end})" if task.newest and task.newest.end else ""
    text = (
        f"It failed {'once' if task.failed_count == 1 else f'{task.failed_count} times'}{end};"
        f" its next attempt may start at {until(task.not_before, now)}."
    )
    details = {
        "not_before": render_time(task.not_before),
        "seconds": round((task.not_before - now) / MICROSECONDS, 3),
        "failed_count": task.failed_count,
    }
    return Reason("delay", text, "That time passes.", details)


def _job_queued(job: JobView) -> Reason:
    lift = "The job starts."
    return Reason("job_queued", f"Its job {job.uuid} has not started.", lift, {"job": job.uuid})


def _job_over(job: JobView) -> Reason:
    word = job.state.value
    at = f" since {moment(job.ended_at)}" if job.ended_at else ""
    why = f": {' '.join(job.log.split())}" if job.log else ""
    text = f"Job {job.uuid} is {word}{at}{why}."
    if job.live:
        text = f"{text[:-1]}; processes that have not ended yet: {job.live}."
    lift = None if job.state is JobState.COMPLETE else f"`{job.retry}`"
    return Reason(f"job_{word.lower()}", text, lift, {"job": job.uuid, "processes": job.live})


def _job_halted(job: JobView) -> Reason:
    tasks = named(job.failed_tasks, job.failed) if job.failed_tasks else "a task"
    left = f"{counted(job.running, 'task')} still {'runs' if job.running == 1 else 'run'}"
    text = (
        f"Job {job.uuid} starts nothing more (on_failure: {job.halt}), because {tasks} failed for"
        f" good; {left}."
    )
    lift = f"`{job.retry}`, once the running tasks have ended and the job is Failed."
    details = {
        "job": job.uuid,
        "on_failure": job.halt,
        "failed": job.failed,
        "running": job.running,
        "tasks": list(job.failed_tasks),
    }
    return Reason("job_halted", text, lift, details)


def _job_ending(job: JobView) -> Reason:
    text = f"All tasks of job {job.uuid} are over; processes that have not ended yet: {job.live}."
    return Reason("job_ending", text, "These end.", {"job": job.uuid, "processes": job.live})


def _min_nodes(job: JobView, fleet: Fleet) -> list[Reason]:
    """Return why a job that wants several free nodes at the start has not started (R18)."""
    fitting = [
        node
        for node in fleet.fitting(job.needs)
        if not node.is_draining and not node.is_held(fleet.now)
    ]
    free = [
        node.hostname
        for node in fitting
        if node.free_slots and node.room.free_kib >= job.needs.memory_kib
    ]
    if len(free) >= job.min_nodes:
        return []
    have = f"free {'is' if len(free) == 1 else 'are'} {named(free)}" if free else "none is free"
    text = (
        f"min_nodes asks for {job.min_nodes} large enough nodes with room at the same time;"
        f" {counted(len(fitting), 'node')} would do, of which {have}."
    )
    lift = "Tasks of other jobs end there, or more nodes join."
    if any(node.kept_for_job == job.uuid for node in fitting):
        text = f"{text[:-1]}; they take nothing new until it has started."
    if len(fitting) < job.min_nodes:
        lift = f"More nodes join, or you ask for fewer: cancel, `{job.retry} -c min_nodes=N`."
    details = {"min_nodes": job.min_nodes, "large_enough": len(fitting), "free": free[:LISTED_MAX]}
    return [Reason("min_nodes", text, lift, details)]


def _frontier_reasons(job: JobView, frontier: Frontier, fleet: Fleet) -> list[Reason]:
    level = frontier.level
    found: list[Reason] = []
    if level.running:
        found.append(_tasks_running(level))
    if frontier.children:
        found.append(_children(frontier))
    if frontier.delayed:
        found.append(_delays(frontier, fleet.now))
    for group in frontier.groups:
        found += _group_reasons(job, level.sequence, group, fleet)
    if frontier.groups_left:
        whom = _of(frontier.groups_left, level.sequence)
        text = f"Not looked at because of their different constraints: {whom}."
        lift = "Ask about one of them: `jobtasks task explain TASK`."
        found.append(Reason("not_looked_at", text, lift, {"tasks": frontier.groups_left}))
    if level.failed:
        found.append(_tasks_failed(job, level))
    higher = job.todo - level.todo
    if higher > 0:
        found.append(_higher(higher, level))
    return found


def _of(tasks: int, sequence: int) -> str:
    return f"{counted(tasks, 'task')} of sequence {sequence}"


def _tasks_running(level: Level) -> Reason:
    text = f"{_of(level.running, level.sequence)} {'runs' if level.running == 1 else 'run'}."
    details = {"sequence": level.sequence, "tasks": level.running}
    return Reason("running", text, "They report and their processes end.", details)


def _children(frontier: Frontier) -> Reason:
    whom = _of(frontier.children, frontier.level.sequence)
    verb = "waits" if frontier.children == 1 else "wait"
    text = f"{whom} {verb} for the task that created {'it' if verb == 'waits' else 'them'}."
    details = {"sequence": frontier.level.sequence, "tasks": frontier.children}
    return Reason("creator", text, "Their creators succeed and their processes end.", details)


def _delays(frontier: Frontier, now: int) -> Reason:
    whom = _of(frontier.delayed, frontier.level.sequence)
    text = (
        f"{whom} failed and {'waits' if frontier.delayed == 1 else 'wait'} before the next attempt"
    )
    details: dict[str, Any] = {"sequence": frontier.level.sequence, "tasks": frontier.delayed}
    if frontier.delayed_until is not None:
        text += f", the first until {until(frontier.delayed_until, now)}"
        details["not_before"] = render_time(frontier.delayed_until)
    return Reason("delay", text + ".", "That time passes.", details)


def _group_reasons(job: JobView, sequence: int, group: Group, fleet: Fleet) -> list[Reason]:
    wish = Wish(
        _of(group.tasks, sequence),
        job.id,
        group.needs,
        job.retry,
        avoid_nodes=group.avoid_nodes,
        avoid_until=group.avoid_until,
    )
    place = {"sequence": sequence, "tasks": group.tasks}
    return [
        Reason(reason.code, reason.text, reason.lift, {**place, **reason.details})
        for reason in node_reasons(wish, fleet)
    ]


def _tasks_failed(job: JobView, level: Level) -> Reason:
    text = (
        f"{_of(level.failed, level.sequence)} failed for good"
        f" ({named(job.failed_tasks, job.failed)});"
        " nothing of a higher sequence starts (on_failure: continue)."
    )
    lift = f"`{job.retry}`, once the job is Failed."
    details = {
        "sequence": level.sequence,
        "tasks": level.failed,
        "failed": list(job.failed_tasks),
    }
    return Reason("tasks_failed", text, lift, details)


def _higher(tasks: int, level: Level) -> Reason:
    text = (
        f"{counted(tasks, 'task')} of higher sequences {'waits' if tasks == 1 else 'wait'}"
        f" for sequence {level.sequence}."
    )
    lift = f"All tasks of sequence {level.sequence} are complete."
    details = {"waits_for_sequence": level.sequence, "tasks": tasks, **_counts(level)}
    return Reason("lower_sequence", text, lift, details)


def _unknown(names: Sequence[str]) -> list[Reason]:
    if not names:
        return []
    names = sorted(set(names))
    verb = "has" if len(names) == 1 else "have"
    text = f"The constraints {named(names)} are kept and {verb} no meaning here."
    if len(names) == 1:
        text = f"The constraint {names[0]} is kept and has no meaning here."
    lift = "It keeps nothing from running; look for a misspelling."
    return [Reason("unknown_constraints", text, lift, {"names": names[:LISTED_MAX]})]
