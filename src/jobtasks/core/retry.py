"""Causes of an attempt's end, what each costs, and when the next attempt may start (R13–R15)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from jobtasks.core.settings import Settings
from jobtasks.core.verdict import ASKED_EXIT_CODES


class Cause(StrEnum):
    """Why an attempt ended, as users read it."""

    EXIT = "exit"
    """The process ended by itself: with or without a verdict."""
    ASKED = "asked_for_retry"
    TIME_LIMIT = "time_limit"
    OUT_OF_MEMORY = "out_of_memory"
    UNABLE_TO_START = "unable_to_start"
    AGENT_LOST = "agent_lost"
    CANCELLED = "cancelled"
    STOPPED = "stopped"


LOST = frozenset({Cause.AGENT_LOST})
"""The attempt was lost together with its node or agent: no delay, no count against the node."""

STOPS = frozenset({Cause.CANCELLED, Cause.STOPPED})
"""Ordered ends: no failure is counted, no budget used, no delay (R14)."""


def cause_of(kind: str, exit_code: int | None) -> Cause:
    """Return the cause for the kind of end that an agent reported, and the exit code."""
    if kind == "exit" and exit_code in ASKED_EXIT_CODES:
        return Cause.ASKED
    return Cause(kind)


class Spent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Budgets that a task has used since its job was last retried (R14)."""

    own: int = 0
    asked: int = 0
    memory: int = 0
    lost: int = 0
    unable_nodes: tuple[int, ...] = ()
    """Ids of the nodes on which the program could not be started."""
    failed_nodes: tuple[int, ...] = ()
    """Ids of the nodes on which the task failed; the next attempt avoids them (R12)."""
    memory_kib: int = 0
    """Memory to reserve for the next attempt, when more than the constraints say."""

    @property
    def delays(self) -> int:
        """How many failures so far were followed by a delay (R15)."""
        return self.own + self.asked + self.memory + len(self.unable_nodes)


class Again(msgspec.Struct, frozen=True):
    """The task is tried again."""

    spent: Spent
    delay_seconds: float
    avoid_nodes: tuple[int, ...]


class GiveUp(msgspec.Struct, frozen=True):
    """A budget is spent: the failure is permanent."""

    spent: Spent
    reason: str


def after_failure(
    cause: Cause,
    spent: Spent,
    *,
    node: int,
    nodes_left: bool,
    max_attempts: int | None,
    used_memory_kib: int,
    largest_node_kib: int,
    random: float,
    settings: Settings,
) -> Again | GiveUp:
    """Return whether and when a task that failed temporarily is tried again (R12, R14, R15).

    `node` is where the attempt ran; `nodes_left` says whether a live fitting node exists on which
    the program was not yet found unable to start; `used_memory_kib` is the larger of the attempt's
    reservation and its measured peak; `random` is uniform in [0, 1).
    """
    # Back on a node where it could not be started: the others had no room in all that time.
    nodes_left = nodes_left and node not in spent.unable_nodes
    spent = charge(cause, spent, node, used_memory_kib, largest_node_kib)
    reason = spent_budget(cause, spent, nodes_left, max_attempts, settings)
    if reason:
        return GiveUp(spent, reason)
    lost = cause in LOST
    delay_seconds = 0.0 if lost else delay(spent.delays, random, settings)
    return Again(spent, delay_seconds, spent.failed_nodes)


def after_nodes_fault(spent: Spent, node: int, random: float, settings: Settings) -> Again:
    """Return when a task is tried again whose failure was its node's: no budget is used (R16)."""
    failed_nodes = _with(spent.failed_nodes, node)
    delay_seconds = delay(spent.delays + 1, random, settings)
    return Again(
        msgspec.structs.replace(spent, failed_nodes=failed_nodes), delay_seconds, failed_nodes
    )


def excuse(cause: Cause, spent: Spent, node: int) -> Spent:
    """Return `spent` without one failure of this cause that turned out to be the node's (R16)."""
    if cause == Cause.UNABLE_TO_START:
        left = tuple(one for one in spent.unable_nodes if one != node)
        return msgspec.structs.replace(spent, unable_nodes=left)
    return msgspec.structs.replace(spent, own=max(0, spent.own - 1))


def charge(
    cause: Cause, spent: Spent, node: int, used_memory_kib: int, largest_node_kib: int
) -> Spent:
    """Return `spent` after one more failure of this cause on this node."""
    if cause in LOST:
        return msgspec.structs.replace(spent, lost=spent.lost + 1)
    spent = msgspec.structs.replace(spent, failed_nodes=_with(spent.failed_nodes, node))
    if cause == Cause.ASKED:
        return msgspec.structs.replace(spent, asked=spent.asked + 1)
    if cause == Cause.UNABLE_TO_START:
        return msgspec.structs.replace(spent, unable_nodes=_with(spent.unable_nodes, node))
    if cause == Cause.OUT_OF_MEMORY:
        memory_kib = min(2 * used_memory_kib, largest_node_kib)
        return msgspec.structs.replace(
            spent, memory=spent.memory + 1, memory_kib=max(memory_kib, spent.memory_kib)
        )
    return msgspec.structs.replace(spent, own=spent.own + 1)


def spent_budget(
    cause: Cause, spent: Spent, nodes_left: bool, max_attempts: int | None, settings: Settings
) -> str:
    """Return why no further attempt is made, "" when one is (R14)."""
    if cause in LOST:
        return _over(spent.lost, settings.attempts_lost_max, "attempts lost with node or agent")
    if cause == Cause.ASKED:
        return _over(spent.asked, settings.attempts_asked_max, "attempts asked for another")
    if cause == Cause.OUT_OF_MEMORY:
        return _over(spent.memory, settings.attempts_memory_max, "attempts ran out of memory")
    if cause == Cause.UNABLE_TO_START:
        if nodes_left and len(spent.unable_nodes) < settings.start_nodes_max:
            return ""
        return f"unable to start on {len(spent.unable_nodes)} node(s)"
    return _over(spent.own, max_attempts or settings.attempts_own_max, "attempts failed")


def delay(failures: int, random: float, settings: Settings) -> float:
    """Return the seconds before the next attempt: doubled each time, ± 25 %, bounded (R15)."""
    doubled = settings.delay_seconds * 2.0 ** min(failures - 1, 60)
    varied = min(doubled, settings.delay_seconds_max) * (
        1 + settings.delay_jitter * (2 * random - 1)
    )
    return min(varied, settings.delay_seconds_max)


def _over(used: int, budget: int, what: str) -> str:
    return f"{used} of {budget} {what}" if used >= budget else ""


def _with(nodes: Iterable[int], node: int) -> tuple[int, ...]:
    return tuple(sorted({*nodes, node}))
