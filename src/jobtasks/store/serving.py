"""What every store does the same way: it takes pieces of work, and has a driver run them."""

from __future__ import annotations

import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from jobtasks.core.errors import Unavailable
from jobtasks.store.base import Hinted, Piece, Tx, waited_for
from jobtasks.store.drivers import Driver, LoopDriver, ThreadDriver
from jobtasks.store.groups import Writer

T = TypeVar("T")


class Serving:
    """The writing side of a store (see `ServedStore`), on a writer."""

    is_shared = False

    def __init__(self, writer: Writer) -> None:
        self._group_writer = writer
        self._closed = False
        self._accepting = threading.Lock()
        self._driver: Driver = ThreadDriver(writer)
        self._between_drivers: list[tuple[Piece, bool]] | None = None
        """What comes while one driver finishes and the next is not there yet; None: it is."""

    def on_hints(self, hinted: Hinted) -> None:
        """Do nothing: nobody else uses the database."""

    def count_commits(self, committed: Callable[[float, int], None]) -> None:
        """Call `committed` after every commit."""
        self._group_writer.committed = committed

    def submit(self, piece: Piece, /, *, ahead: bool = False) -> None:
        """Run a piece in a savepoint of the next group; tell when the group is on disk."""
        with self._accepting:
            if not self._closed:
                if self._between_drivers is None:
                    self._driver.put(piece, ahead=ahead)
                else:
                    self._between_drivers.append((piece, ahead))
                return
        piece.tell(None, Unavailable("The server is ending."))

    def write(self, work: Callable[[Tx], T], /, *, ahead: bool = False) -> Future[T]:
        """Do the same for who waits in a thread."""
        return waited_for(self, work, ahead=ahead)

    def attach(self, loop: AbstractEventLoop) -> None:
        """Have this loop, whose thread calls, run brief pieces and tell all outcomes."""
        self._hand_over(partial(LoopDriver, self._group_writer, loop))

    def detach(self) -> None:
        """Have a thread do all of it again; called in the loop's thread."""
        self._hand_over(partial(ThreadDriver, self._group_writer))

    def close(self) -> None:
        """Finish what was accepted."""
        with self._accepting:
            was_closed, self._closed = self._closed, True
        if not was_closed:
            self._driver.close()

    def _hand_over(self, make: Callable[[], Driver]) -> None:
        with self._accepting:
            if self._closed:
                return
            self._between_drivers = []
        # Not with the lock: what the driver finishes may submit more.
        self._driver.close()
        with self._accepting:
            self._driver = make()
            for piece, ahead in self._between_drivers:
                self._driver.put(piece, ahead=ahead)
            self._between_drivers = None
