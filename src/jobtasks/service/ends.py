"""How an attempt's end is recorded: verdict, retry, children, counters (R4, R10–R15, R39)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from jobtasks.core import retry
from jobtasks.core.constraints import Needs
from jobtasks.core.retry import Again, Cause, GiveUp, Spent
from jobtasks.core.states import AttemptState, TaskState
from jobtasks.core.verdict import Verdict, command_record, judge
from jobtasks.protocol.messages import STDERR_TAIL_BYTES_MAX, Ended, EndKind
from jobtasks.service import events, families, fleet, gangs, shapes, suspicion
from jobtasks.service.context import Context
from jobtasks.service.ledger import Ledger
from jobtasks.service.suspicion import Failed
from jobtasks.store.base import Value

MICROSECONDS = 1_000_000
MARK = "[jobtasks] "
"""Begins the one line that we add to a failure's log (R13)."""
REASON_CHARACTERS_MAX = 1000
"""Length of a reason: it comes from the agent, and the end of stderr matters more."""


class EndFacts(NamedTuple):
    """What deciding an attempt's end needs."""

    id: int
    task_id: int
    job_id: int
    number: int
    node_id: int
    agent_id: int
    state: int
    shape_id: int
    memory_kib: int
    children: int
    stop: str | None
    canary: int
    sequence: int
    progress: float | None
    success: int | None
    spent: str | None
    runs_command: int
    """Whether its exit code is the verdict (R39)."""
    needs: str


class FailureFacts(NamedTuple):
    """What a task's failure for good means for its job."""

    job_uuid: str
    task_uuid: str
    runtime_constraints: str


class BatchRow(NamedTuple):
    """A latent batch of an attempt."""

    id: int
    sequence: int
    shape_id: int
    size: int
    ready: int


def record_ends(ctx: Context, ledger: Ledger, ends: Sequence[Ended], node_id: int) -> bool:
    """Record how attempts ended, each once; what is on record already stays as it is.

    An attempt of another node is none of this agent's business and is passed over. Return whether
    all that ended completed their tasks: then nothing has changed but these.
    """
    known = facts_of(ctx, [ended.attempt for ended in ends])
    all_completed = True
    for ended in ends:
        if not all_completed:
            # What has not completed may have changed what is known of the others.
            ledger.write_ended()
            known = facts_of(ctx, [ended.attempt])
        facts = known.pop(ended.attempt, None)
        if facts is None or facts.node_id != node_id or facts.state == AttemptState.ENDED:
            continue
        all_completed = _record(ctx, ledger, facts, ended) and all_completed
    ledger.write_ended()
    return all_completed


def record_end(ctx: Context, ledger: Ledger, ended: Ended, node_id: int) -> None:
    """Do the same for one."""
    record_ends(ctx, ledger, [ended], node_id)


def facts_of(ctx: Context, attempt_ids: Sequence[int]) -> dict[int, EndFacts]:
    """Return what deciding the ends of these attempts needs, by id."""
    if not attempt_ids:
        return {}
    wanted = msgspec.json.encode(attempt_ids).decode()
    return {one.id: one for one in ctx.tx.all(EndFacts, "attempts_end_facts", attempt_ids=wanted)}


def _record(ctx: Context, ledger: Ledger, facts: EndFacts, ended: Ended) -> bool:
    """Record one end; return whether its task is complete by it."""
    nodes = shapes.decode_needs(facts.needs).nodes
    ledger.vacate(facts.job_id, nodes)
    ledger.log_bytes[facts.job_id] += ended.log_bytes
    lost_a_node = nodes > 1 and gangs.give_back(ctx, facts.id)
    if facts.state == AttemptState.STOPPING:
        _record_gone(ctx, ended)
        return False
    if lost_a_node and ended.exit_code != 0:
        lost = msgspec.structs.replace(ended, kind=EndKind.AGENT_LOST, reason=gangs.LOST)
        return _decide(ctx, ledger, facts._replace(stop=None), lost)
    return _decide(ctx, ledger, facts, ended)


def _record_gone(ctx: Context, ended: Ended) -> None:
    ctx.tx.run(
        "attempt_gone",
        attempt_id=ended.attempt,
        now=ctx.now,
        **_measures(ended),
    )
    if ended.stderr_tail:
        _put_tail(ctx, ended.attempt, ended.stderr_tail, "")


def _measures(ended: Ended) -> dict[str, Value]:
    """Return what the agent measured, as the statements that end an attempt take it.

    SQLite's module looks for long what None stands for: what mostly is nothing is 0 there.
    """
    return {
        "exit_code": ended.exit_code,
        "signal": ended.signal or 0,
        "peak_memory_kib": ended.peak_memory_kib,
        "run_seconds": ended.run_seconds,
        "log_bytes": ended.log_bytes,
        "log_dropped_bytes": ended.log_dropped_bytes,
    }


def _decide(ctx: Context, ledger: Ledger, facts: EndFacts, ended: Ended) -> bool:
    spent = _spent(facts)
    needs = shapes.decode_needs(facts.needs)
    progress, success = _record_of(facts, ended, needs, spent)
    verdict = judge(progress, success)
    if verdict is not Verdict.COMPLETE:
        # What follows may look at what has ended before.
        ledger.write_ended()
    cause = retry.cause_of(ended.kind, ended.exit_code)
    was_stopped = cause in retry.STOPS or facts.stop is not None
    if verdict is Verdict.TEMPORARY and was_stopped:
        wait_again(ctx, ledger, facts)
        _close(ctx, ledger, facts, TaskState.WAITING, ended, cause, ended.reason, counted=False)
    elif verdict is Verdict.COMPLETE:
        _complete(ctx, ledger, facts, progress, success)
        suspicion.note_success(
            ctx, ledger, facts.node_id, facts.job_id, is_canary=bool(facts.canary)
        )
        _close(ctx, ledger, facts, TaskState.COMPLETE, ended, cause, ended.reason, counted=False)
    elif verdict is Verdict.FAILED:
        reason = ended.reason or _own_verdict(facts, ended)
        _fail(ctx, ledger, facts, spent, progress)
        said = reason or "it reported success=false"
        family_id = _family(ctx, facts, ended, cause, said, is_final=True)
        _close(
            ctx,
            ledger,
            facts,
            TaskState.FAILED,
            ended,
            cause,
            reason,
            counted=True,
            family_id=family_id,
        )
    else:
        _retry(ctx, ledger, facts, ended, spent, needs, cause)
    return verdict is Verdict.COMPLETE


def _spent(facts: EndFacts) -> Spent:
    return msgspec.json.decode(facts.spent, type=Spent) if facts.spent else Spent()


def _record_of(
    facts: EndFacts, ended: Ended, needs: Needs, spent: Spent
) -> tuple[float | None, bool | None]:
    """Return (progress, success) as they are, or as the agent writes them for a command (R39)."""
    success = None if facts.success is None else bool(facts.success)
    if not facts.runs_command or success is not None or ended.kind != "exit":
        return facts.progress, success
    attempts_left = bool(needs.max_attempts) and spent.own + 1 < needs.max_attempts
    exit_code = None if ended.signal else ended.exit_code
    return command_record(exit_code, attempts_left)


def _own_verdict(facts: EndFacts, ended: Ended) -> str:
    """Return what to add to the log of a task that failed by its own verdict: nothing, mostly."""
    if facts.success is not None:
        return ""
    return f"the command ended with exit code {ended.exit_code}"


def _complete(
    ctx: Context, ledger: Ledger, facts: EndFacts, progress: float | None, success: bool | None
) -> None:
    ledger.completed.append(
        {
            "task_id": facts.task_id,
            "attempt_id": facts.id,
            "state": int(TaskState.COMPLETE),
            "progress": progress,
            "success": int(bool(success)),
            "now": ctx.now,
        }
    )
    ledger.move(facts.job_id, facts.sequence, TaskState.RUNNING, TaskState.COMPLETE)
    if facts.children:
        batches = ctx.tx.all(BatchRow, "batches_of_attempt", attempt_id=facts.id)
        for batch in batches:
            ledger.make_ready(facts.job_id, batch.sequence, batch.shape_id, batch.ready)
            ledger.descend(facts.job_id, facts.sequence, batch.sequence, batch.size, 0)
        for sequence in {batch.sequence for batch in batches}:
            ledger.descend(facts.job_id, facts.sequence, sequence, 0, 1)
        ctx.tx.run("batches_publish", attempt_id=facts.id)


def _bury_children(ctx: Context, ledger: Ledger, facts: EndFacts) -> None:
    """Let the children of an attempt that did not complete its task vanish (R4)."""
    if facts.children:
        for batch in ctx.tx.all(BatchRow, "batches_of_attempt", attempt_id=facts.id):
            ledger.add(facts.job_id, batch.sequence, TaskState.WAITING, -batch.size)
        ctx.tx.run("batches_bury", attempt_id=facts.id)


def wait_again(ctx: Context, ledger: Ledger, facts: EndFacts) -> None:
    """Let a task wait again after an ordered stop: nothing counted, no delay (R14).

    Where it failed before is still avoided (R12).
    """
    _bury_children(ctx, ledger, facts)
    ctx.tx.run("task_stopped", task_id=facts.task_id, attempt_id=facts.id, now=ctx.now)
    ledger.move(facts.job_id, facts.sequence, TaskState.RUNNING, TaskState.WAITING)
    avoid = _spent(facts).failed_nodes
    avoid_seconds = _avoid_seconds(ctx, facts.job_id, shapes.decode_needs(facts.needs), avoid)
    _requeue(ctx, ledger, facts, facts.shape_id, 0.0, avoid, avoid_seconds)


def _fail(
    ctx: Context, ledger: Ledger, facts: EndFacts, spent: Spent, progress: float | None
) -> None:
    """Record a permanent failure and what it means for the job (R11, R19)."""
    _bury_children(ctx, ledger, facts)
    ctx.tx.run(
        "task_finish_failed",
        task_id=facts.task_id,
        attempt_id=facts.id,
        progress=progress,
        spent=shapes.encode(spent),
        now=ctx.now,
    )
    ledger.move(facts.job_id, facts.sequence, TaskState.RUNNING, TaskState.FAILED)
    failure = ctx.tx.one(FailureFacts, "failure_facts", job_id=facts.job_id, task_id=facts.task_id)
    assert failure is not None
    on_failure = shapes.job_constraints(failure.runtime_constraints).on_failure or "finish"
    if on_failure != "continue":
        ctx.tx.run("tally_halt", job_id=facts.job_id, halt=on_failure)
    if on_failure == "cancel":
        reason = f"task {failure.task_uuid} failed"
        ctx.tx.run("attempts_stop_job", job_id=facts.job_id, reason=reason)
        ctx.wake.update({"nodes", failure.job_uuid})


def _retry(
    ctx: Context,
    ledger: Ledger,
    facts: EndFacts,
    ended: Ended,
    spent: Spent,
    needs: Needs,
    cause: Cause,
) -> None:
    """Record a temporary failure: another attempt, or none when a budget is spent (R12, R14)."""
    said = reason = ended.reason or _ended_without_verdict(ended, cause)
    failed = Failed(facts.id, facts.job_id, facts.node_id, bool(facts.canary), cause, reason)
    node_fault = suspicion.note_failure(ctx, ledger, failed)
    if node_fault:
        # Read again: earlier failures of this very task may have been excused with this one.
        known = ctx.tx.value("task_spent", task_id=facts.task_id)
        spent = _spent(facts._replace(spent=known))
        decision: Again | GiveUp = retry.after_nodes_fault(
            spent, facts.node_id, ctx.world.random(), ctx.settings
        )
        reason = f"{reason}; {suspicion.MARK}"
    else:
        decision = _charged(ctx, facts, ended, spent, needs, cause)
    if isinstance(decision, GiveUp):
        _fail(ctx, ledger, facts, decision.spent, None)
        reason = f"{reason}; not tried again: {decision.reason}"
        state = TaskState.FAILED
    else:
        _try_again(ctx, ledger, facts, needs, decision)
        state = TaskState.WAITING
    family_id = _family(ctx, facts, ended, cause, said, is_final=state is TaskState.FAILED)
    _close(
        ctx,
        ledger,
        facts,
        state,
        ended,
        cause,
        reason,
        counted=not node_fault,
        node_fault=node_fault,
        family_id=family_id,
    )


def _family(
    ctx: Context, facts: EndFacts, ended: Ended, cause: Cause, said: str, *, is_final: bool
) -> int:
    """Note a failure among those that are like it; return the id of their family."""
    failure = families.failure(cause, ended.exit_code, ended.signal, said, ended.stderr_tail)
    return families.note(ctx, facts.job_id, facts.id, failure, is_final=is_final)


def _charged(
    ctx: Context,
    facts: EndFacts,
    ended: Ended,
    spent: Spent,
    needs: Needs,
    cause: Cause,
) -> Again | GiveUp:
    """Return what follows from a failure that uses a budget (R14)."""
    largest_kib = facts.memory_kib
    if cause is Cause.OUT_OF_MEMORY:
        largest_kib = fleet.largest_kib(ctx, facts.job_id) or largest_kib
    return retry.after_failure(
        cause,
        spent,
        node=facts.node_id,
        nodes_left=_has_other(ctx, facts.job_id, needs, {*spent.unable_nodes, facts.node_id}),
        max_attempts=needs.max_attempts or None,
        used_memory_kib=max(facts.memory_kib, ended.peak_memory_kib or 0),
        largest_node_kib=largest_kib,
        random=ctx.world.random(),
        settings=ctx.settings,
    )


def _try_again(
    ctx: Context,
    ledger: Ledger,
    facts: EndFacts,
    needs: Needs,
    decision: Again,
) -> None:
    _bury_children(ctx, ledger, facts)
    ctx.tx.run(
        "task_failed_once",
        task_id=facts.task_id,
        attempt_id=facts.id,
        spent=shapes.encode(decision.spent),
        now=ctx.now,
    )
    ledger.move(facts.job_id, facts.sequence, TaskState.RUNNING, TaskState.WAITING)
    shape_id = facts.shape_id
    if decision.spent.memory_kib > needs.memory_kib:
        needs = msgspec.structs.replace(needs, memory_kib=decision.spent.memory_kib)
        shape_id = shapes.shape_of(ctx, needs)
    avoid_seconds = _avoid_seconds(ctx, facts.job_id, needs, decision.avoid_nodes)
    _requeue(
        ctx, ledger, facts, shape_id, decision.delay_seconds, decision.avoid_nodes, avoid_seconds
    )


def _avoid_seconds(ctx: Context, job_id: int, needs: Needs, avoid: tuple[int, ...]) -> float:
    """Return how long a task waits for another node; 0 where none exists (R12)."""
    has_other = avoid and _has_other(ctx, job_id, needs, set(avoid))
    return ctx.settings.avoid_seconds if has_other else 0.0


def _has_other(ctx: Context, job_id: int, needs: Needs, tried: set[int]) -> bool:
    """Return whether usable nodes outside `tried` could run a task of these needs (R12, R25)."""
    return fleet.count_able(ctx, job_id, needs, tried) >= needs.nodes


def _requeue(
    ctx: Context,
    ledger: Ledger,
    facts: EndFacts,
    shape_id: int,
    delay_seconds: float,
    avoid_nodes: tuple[int, ...],
    avoid_seconds: float,
) -> None:
    not_before = ctx.now + round(delay_seconds * MICROSECONDS)
    is_due = delay_seconds == 0
    ctx.tx.run(
        "requeue_add",
        task_id=facts.task_id,
        job_id=facts.job_id,
        sequence=facts.sequence,
        shape_id=shape_id,
        not_before=not_before,
        due=int(is_due),
        avoid=json.dumps(avoid_nodes) if avoid_seconds else None,
        avoid_until=not_before + round(avoid_seconds * MICROSECONDS) if avoid_seconds else None,
    )
    if is_due:
        ledger.make_ready(facts.job_id, facts.sequence, shape_id)
    else:
        ctx.wake.add("manager")


def _ended_without_verdict(ended: Ended, cause: Cause) -> str:
    how = f"signal {ended.signal}" if ended.signal else f"exit code {ended.exit_code}"
    if cause in (Cause.EXIT, Cause.ASKED):
        return f"the process ended with {how} and no verdict"
    words = cause.value.replace("_", " ")
    return words if ended.signal is None and ended.exit_code is None else f"{words} ({how})"


def _close(
    ctx: Context,
    ledger: Ledger,
    facts: EndFacts,
    state: TaskState,
    ended: Ended,
    cause: Cause,
    reason: str,
    *,
    counted: bool,
    node_fault: bool = False,
    family_id: int | None = None,
) -> None:
    """Close the attempt's record; its token dies with it (R32). `state` is now the task's."""
    reason = " ".join(reason.split())[:REASON_CHARACTERS_MAX]
    word = cause.value
    ctx.measured.append(("attempts_ended", word, 1))
    events.task_changed(
        ctx,
        facts.job_id,
        facts.task_id,
        TaskState.RUNNING,
        state,
        number=facts.number,
        cause=word,
        exit_code=ended.exit_code,
        signal=ended.signal,
        reason=reason or None,
    )
    ledger.ended.append(
        {
            "attempt_id": facts.id,
            "now": ctx.now,
            "cause": word,
            "reason": reason,
            "counted": int(counted),
            "node_fault": int(node_fault),
            "family_id": family_id or 0,
            **_measures(ended),
        }
    )
    is_failure = family_id is not None
    if ended.stderr_tail or is_failure:
        _put_tail(ctx, facts.id, ended.stderr_tail, reason if is_failure else "")


def _put_tail(ctx: Context, attempt_id: int, stderr: bytes, reason: str) -> None:
    """Keep the end of an attempt's stderr, with our reason as its marked last line (R13)."""
    if not stderr and reason:
        known = ctx.tx.value("tail_of", attempt_id=attempt_id)
        stderr = (known or "").encode()
    ctx.tx.run("tail_put", attempt_id=attempt_id, stderr=tail_text(stderr, reason))


def tail_text(stderr: bytes, reason: str) -> str:
    """Return the end of stderr as text of at most 64 KiB, the reason as its marked last line."""
    line = f"{MARK}{reason}\n".encode() if reason else b""
    kept = stderr[-(STDERR_TAIL_BYTES_MAX - len(line)) :] if stderr else b""
    if line and kept and not kept.endswith(b"\n"):
        kept = kept[-(STDERR_TAIL_BYTES_MAX - len(line) - 1) :] + b"\n"
    text = (kept + line).decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text if len(text.encode()) <= STDERR_TAIL_BYTES_MAX else shorten(text)


def shorten(text: str) -> str:
    """Return the end of a text whose replaced bytes made it longer than the limit."""
    return text.encode()[-STDERR_TAIL_BYTES_MAX:].decode(errors="ignore")
