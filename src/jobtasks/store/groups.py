"""A group of writes: each piece in a savepoint, one commit for all, only then the answers (R37).

A group ends early when its pieces take long, so that nobody waits for the answers of many others.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from jobtasks.core.errors import JobTasksError, Unavailable
from jobtasks.store.base import Piece, Tx
from jobtasks.store.lines import Lines
from jobtasks.store.pause import Pause, has_room, is_about_storage

GROUP_MAX = 256
"""Pieces of work in one commit."""
GROUP_SECONDS = 0.02
"""A group that has worked so long takes no further piece: its answers are not held back for it."""
BUSY_SECONDS = 30.0
"""How long a group waits for another process (a backup) to release the database."""
BUSY_PAUSE_SECONDS = 0.005
BUSY = sqlite3.SQLITE_BUSY

logger = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What became of a piece, to be told when its group is on disk."""

    piece: Piece
    result: Any
    problem: BaseException | None


class Writer(ABC):
    """The one connection that writes; it has one group at a time, begun, run and ended.

    An error that takes the whole transaction with it is told by `end`, to every piece.
    """

    error: type[Exception]
    """What the database's driver raises."""

    def __init__(self, tx: Tx, pause: Pause) -> None:
        self._tx = tx
        self._pause = pause
        self.committed: Callable[[float, int], None] = _nobody_counts
        self._outcomes: list[Outcome] = []
        self._lost = ""
        """Why nothing of the group will be stored; "" as long as it may."""
        self._failures = 0
        self._is_undone = False
        """Its first piece has failed: there is nothing to store."""

    @property
    def is_full(self) -> bool:
        """Whether the group takes no further piece."""
        return bool(self._lost) or self._is_undone or len(self._outcomes) >= GROUP_MAX

    def begin(self, *, wait: bool) -> bool:
        """Begin a group; return False when others have the database, and it is not to `wait`."""
        self._outcomes, self._lost, self._is_undone = [], "", False
        self._failures = self._pause.failures
        try:
            return self._begin(wait=wait)
        except self.error as error:
            self._lost = said(error)
            return True

    def run(self, piece: Piece) -> None:
        """Run one piece, unless nobody waits for it any more."""
        if piece.is_withdrawn:
            return
        result, problem = None, None
        if not self._lost:
            try:
                result, problem = self._run(piece.work)
            except self.error as error:
                self._lost = said(error)
        self._outcomes.append(Outcome(piece, result, problem))

    def end(self) -> list[Outcome]:
        """Commit the group, or roll it back as a whole; return what to tell."""
        if self._is_undone:
            return self._outcomes
        if not self._lost:
            began = time.perf_counter()
            try:
                self._commit()
            except self.error as error:
                self._lost = said(error)
            else:
                if self._failures == self._pause.failures:
                    self._pause.end()
                self.committed(time.perf_counter() - began, len(self._outcomes))
                return self._outcomes
        self._pause.fail(self._lost)
        self._give_up()
        refusal = Unavailable(f"The database cannot be written: {self._lost}")
        return [Outcome(outcome.piece, None, refusal) for outcome in self._outcomes]

    def _run(self, work: Callable[[Tx], Any]) -> tuple[Any, BaseException | None]:
        """Run work so that its failure undoes nothing else of the group.

        The first needs no savepoint for that: when it fails the group ends with it. Below a
        savepoint SQLite copies every page before it changes it, which costs a lone piece more than
        its statements. An error that ends the transaction ends the whole group.
        """
        is_first = not self._outcomes
        if not is_first:
            self._save()
        result: Any = None
        problem: BaseException | None = None
        try:
            result = work(self._tx)
        except BaseException as error:
            problem = self._problem(error)
            self._undo(is_first=is_first)
        if not is_first:
            self._release()
        else:
            self._is_undone = problem is not None
        return result, problem

    def _problem(self, error: BaseException) -> BaseException:
        """Return what the caller of a failed piece is told; what is our mistake is logged."""
        if isinstance(error, self.error) and self._is_about_storage(error):
            if not self._is_in_transaction():
                raise error
            self._pause.fail(said(error))
            return Unavailable(f"The database cannot be written: {said(error)}")
        if not isinstance(error, JobTasksError):
            logger.error("a write failed and was rolled back", exc_info=error)
        return error

    @abstractmethod
    def _begin(self, *, wait: bool) -> bool:
        """Begin a transaction, as `begin` says, or say in `_lost` why there is none."""

    @abstractmethod
    def _commit(self) -> None:
        """Put the transaction on disk; what it raises says that nothing of it is there."""

    @abstractmethod
    def _give_up(self) -> None:
        """End the transaction that nothing will be stored of, if it is there; raise nothing."""

    @abstractmethod
    def _save(self) -> None:
        """Set the savepoint of a piece."""

    @abstractmethod
    def _undo(self, *, is_first: bool) -> None:
        """Go back to the savepoint; of the first piece, end the transaction."""

    @abstractmethod
    def _release(self) -> None:
        """Forget the savepoint."""

    @abstractmethod
    def _is_about_storage(self, error: Exception) -> bool:
        """Return whether the database is at fault, not the statement."""

    @abstractmethod
    def _is_in_transaction(self) -> bool:
        """Return whether the transaction can go on."""


class SqliteWriter(Writer):
    """The writer of a SQLite file in `directory`."""

    error = sqlite3.Error

    def __init__(
        self, connection: sqlite3.Connection, tx: Tx, directory: Path, pause: Pause
    ) -> None:
        super().__init__(tx, pause)
        self._connection = connection
        self._directory = directory

    def _begin(self, *, wait: bool) -> bool:
        """After a pause it must wait: whether there is room again is asked of the disk."""
        if self._pause.reason:
            if not wait:
                return False
            if not has_room(self._directory):
                self._lost = self._pause.reason
                return True
        until = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                is_busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == BUSY
                if is_busy and not wait:
                    return False
                if is_busy and time.monotonic() < until:
                    time.sleep(BUSY_PAUSE_SECONDS)
                    continue
                raise
            return True

    def _commit(self) -> None:
        self._connection.execute("COMMIT")

    def _give_up(self) -> None:
        if self._connection.in_transaction:
            # When this fails, too, the next group's begin fails and comes here again.
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _save(self) -> None:
        self._connection.execute("SAVEPOINT piece")

    def _undo(self, *, is_first: bool) -> None:
        self._connection.execute("ROLLBACK" if is_first else "ROLLBACK TO piece")

    def _release(self) -> None:
        self._connection.execute("RELEASE piece")

    def _is_about_storage(self, error: Exception) -> bool:
        return isinstance(error, sqlite3.Error) and is_about_storage(error)

    def _is_in_transaction(self) -> bool:
        return self._connection.in_transaction


def said(error: Exception) -> str:
    """Return what a database says of an error, in one line."""
    return " ".join(str(error).split())


def write_group(writer: Writer, lines: Lines[Piece], first: Piece) -> list[Outcome]:
    """Write `first` and what waits by the time it is its turn; return what to tell."""
    until = time.monotonic() + GROUP_SECONDS
    writer.begin(wait=True)
    writer.run(first)
    while not writer.is_full and time.monotonic() < until and not lines.is_empty():
        piece = lines.take()
        if piece is None:
            break
        writer.run(piece)
    return writer.end()


def tell(outcomes: Iterable[Outcome]) -> None:
    """Tell everyone what became of his piece; one who cannot hear it keeps it from nobody else."""
    for piece, result, problem in outcomes:
        try:
            piece.tell(result, problem)
        except Exception:
            logger.exception("the outcome of a write could not be told")


def _nobody_counts(seconds: float, pieces: int) -> None:
    """Take no note of a commit."""
