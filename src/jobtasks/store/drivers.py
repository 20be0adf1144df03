"""Who runs the groups of writes: a thread of the store's own, or the event loop of a server.

The interpreter runs one thread at a time, and SQLite's module hands it over at every statement. A
busy event loop gives it back after a whole time slice: a renewal of six statements in a thread of
its own takes six of them. So a server's loop runs brief pieces itself, all that have gathered while
the last commit was under way. What takes long, and every commit, is left to a thread: the disk
does not need the interpreter. See ADR 0019.
"""

from __future__ import annotations

import contextlib
import threading
import time
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Protocol

from jobtasks.store.base import Piece
from jobtasks.store.groups import Outcome, Writer, tell, write_group
from jobtasks.store.lines import Lines

LOOP_SECONDS = 0.01
"""How long the loop works on a group before it turns to something else."""


class Driver(Protocol):
    """Takes pieces of work and has them written."""

    def put(self, piece: Piece, *, ahead: bool) -> None:
        """Add a piece; its outcome is told later, by whom the driver has tell it."""
        ...

    def close(self) -> None:
        """Finish all that was put, and tell it."""
        ...


class ThreadDriver:
    """A thread that takes the next piece, writes it with what has gathered, and tells."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._lines: Lines[Piece] = Lines()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def put(self, piece: Piece, *, ahead: bool) -> None:
        """Add a piece; its outcome is told by the writer's thread."""
        self._lines.put(piece, ahead=ahead)

    def close(self) -> None:
        """Finish all that was put, and tell it."""
        self._lines.close()
        self._thread.join()

    def _run(self) -> None:
        while (piece := self._lines.take()) is not None:
            tell(write_group(self._writer, self._lines, piece))


class LoopDriver:
    """An event loop that runs what is brief, beside a thread for the rest and for all commits.

    Everything here happens in the loop's thread, but for `put` and the jobs of `_thread`; of the
    writer and the lines each has the use by turns, as `_is_busy` tells.
    """

    def __init__(self, writer: Writer, loop: AbstractEventLoop) -> None:
        self._writer = writer
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._lines: Lines[Piece] = Lines()
        self._is_busy = False
        """Whether the thread has the writer."""
        self._is_due = False
        """Whether the loop is about to look at the lines."""
        self._until = 0.0
        """How long the group that the loop runs takes further pieces."""
        self._is_open = False
        """Whether that group may take some: it is not being committed yet."""
        self._done: deque[list[Outcome]] = deque()
        self._jobs: SimpleQueue[Callable[[], list[Outcome]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def put(self, piece: Piece, *, ahead: bool) -> None:
        """Add a piece; its outcome is told by the loop."""
        self._lines.put(piece, ahead=ahead)
        if threading.get_ident() != self._loop_thread:
            self._loop.call_soon_threadsafe(self._turn)
        elif not self._is_due and not self._is_busy:
            # Not at once: what others of the same round put goes with it.
            self._is_due = True
            self._loop.call_soon(self._turn)

    def close(self) -> None:
        """Finish all that was put, and tell it; call it in the loop's thread."""
        if self._is_open:
            self._end()
        self._jobs.put(None)
        self._thread.join()
        while self._done:
            tell(self._done.popleft())
        while not self._lines.is_empty():
            piece = self._lines.take()
            assert piece is not None
            tell(write_group(self._writer, self._lines, piece))
        # For a turn that the loop has still to take.
        self._is_busy = True

    def _turn(self) -> None:
        """Run the next group: here, and its commit in the thread, or all of it there."""
        self._is_due = False
        if self._is_busy or self._lines.is_empty():
            return
        self._is_busy = True
        if self._lines.is_next(_is_brief) and self._writer.begin(wait=False):
            self._until = time.monotonic() + LOOP_SECONDS
            self._is_open = True
            self._run_brief()
        else:
            first = self._lines.take()
            assert first is not None
            self._jobs.put(partial(write_group, self._writer, self._lines, first))

    def _run_brief(self) -> None:
        """Run what has gathered, and what is submitted because of it, in the next round."""
        if not self._is_open:
            return
        calls_others = False
        while (piece := self._lines.take_if(_is_brief)) is not None:
            self._writer.run(piece)
            calls_others = calls_others or piece.calls_others()
            if self._writer.is_full or time.monotonic() >= self._until:
                break
        else:
            if calls_others:
                # Who was woken comes before this call.
                self._loop.call_soon(self._run_brief)
                return
        self._end()

    def _end(self) -> None:
        self._is_open = False
        self._jobs.put(self._writer.end)

    def _settle(self) -> None:
        """Tell what the thread has finished, and go on with what has gathered."""
        # A quiet night is no time that agents had and others waited for.
        self._lines.release()
        while self._done:
            self._is_busy = False
            tell(self._done.popleft())
        self._turn()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._done.append(job())
            # A loop that has ended by an error is closed; then `close` tells.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._settle)


def _is_brief(piece: Piece) -> bool:
    return piece.is_brief
