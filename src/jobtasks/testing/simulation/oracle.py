"""What must hold after every commit, looked at with statements of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobtasks.core.identifiers import attempt_of_token
from jobtasks.protocol.messages import Assignment
from jobtasks.service.soundness import contradictions
from jobtasks.store.base import Store, Tx
from jobtasks.store.checks import load_looks

FINAL = ("Complete", "Failed", "Cancelled")
RECOUNT_COMMITS = 50
"""After so many commits all counters are counted again."""
ENDED = 2
"""From this state of an attempt on its token is dead (core/states.py)."""


class Violation(AssertionError):
    """A promise was broken."""


class Oracle:
    """Remembers what was promised, and compares."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._newest = 0
        self._commits = 0
        self.accepted: dict[str, tuple[int, str]] = {}
        """Complete tasks: the attempt and the output that were accepted."""
        self.states: dict[str, str] = {}
        """Jobs as they were last seen."""
        self.started: set[int] = set()
        """Attempts that have begun as a process."""
        self.succeeded: set[int] = set()
        """Attempts whose process has sent a report of success."""
        self.reopened: set[str] = set()
        """Jobs that somebody retries now: they may leave their final state."""

    def look(self, tx: Tx) -> None:
        """Look at what a commit has left."""
        self._commits += 1
        self._look_at_new_attempts(tx)
        self._look_at_complete_tasks(tx)
        self._look_at_jobs(tx)
        if self._commits % RECOUNT_COMMITS == 0:
            self.recount(tx)

    def recount(self, tx: Tx) -> None:
        """Count all counters again."""
        found = contradictions(tx)
        if found:
            raise Violation(f"records contradict each other: {found}")

    def start(self, assignment: Assignment) -> None:
        """Note that an attempt begins as a process; each may only once, anywhere."""
        if assignment.attempt in self.started:
            raise Violation(f"attempt {assignment.attempt} was started twice")
        self.started.add(assignment.attempt)
        self._note(f"start {assignment.attempt} of {assignment.task[-6:]}")

    def is_over(self, store: Store, token: str) -> bool:
        """Return whether the attempt that a token belongs to is on record as over."""
        attempt = attempt_of_token(token)
        rows = store.read(lambda tx: _rows(tx, "state_of_attempt", attempt=attempt))
        return not rows or rows[0][0] >= ENDED

    def _look_at_new_attempts(self, tx: Tx) -> None:
        """Tasks start in order of their levels, in running jobs, never after they were complete."""
        found = _rows(tx, "new_attempts", newest=self._newest)
        for attempt, uuid, sequence, frontier, state, has_failed in found:
            self._newest = max(self._newest, attempt)
            self._note(f"claim {attempt} of {uuid[-6:]}")
            if frontier != sequence:
                raise Violation(f"{uuid} of sequence {sequence} started before {frontier} (R5)")
            if uuid in self.accepted:
                raise Violation(f"{uuid} started after it was complete (R10)")
            if state != "Running":
                raise Violation(f"{uuid} started in a job that is {state} (R21)")
            if has_failed:
                raise Violation(f"{uuid} started after a task had failed for good (R19)")
        broken = _rows(tx, "limits_broken") if found else []
        if broken:
            raise Violation(f"more than there may be: {broken} (R26-R28)")

    def _look_at_complete_tasks(self, tx: Tx) -> None:
        """What was accepted is of an attempt that said so, and stays."""
        now = {uuid: (attempt, output) for uuid, attempt, output in _rows(tx, "complete_tasks")}
        for uuid, accepted in self.accepted.items():
            if now.get(uuid) != accepted:
                raise Violation(f"{uuid} was {accepted}, is {now.get(uuid)} (R10)")
        for uuid in now.keys() - self.accepted.keys():
            attempt, output = now[uuid]
            if attempt not in self.succeeded or output != str(attempt):
                raise Violation(f"{uuid} is complete by {attempt}, which never said so (R10)")
            self.accepted[uuid] = now[uuid]
            self._note(f"accept {attempt} of {uuid[-6:]}")

    def _look_at_jobs(self, tx: Tx) -> None:
        """A job that is over stays so, with its tasks, unless it is retried."""
        for uuid, state in _rows(tx, "job_states"):
            before = self.states.get(uuid, "Queued")
            if before in FINAL and state != before and uuid not in self.reopened:
                raise Violation(f"job {uuid} was {before}, is {state} (R17)")
            if state != before:
                self._note(f"job {uuid[-6:]}: {state}")
                self.reopened.discard(uuid)
            self.states[uuid] = state


def _rows(tx: Tx, look: str, **values: Any) -> list[tuple[Any, ...]]:
    return tx.text(load_looks()[look].sql, values)
