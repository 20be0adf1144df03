"""What the service needs of a database.

A `Store` runs *work*: a function that gets a `Tx` and returns a value. Writes are committed in
groups; the answer of a write leaves only after its commit is on disk (R37). A work function may
run statements by name only: SQL has one home (queries/*.sql), where each statement says what it is
for. A work function must not keep its Tx.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from jobtasks.store.pause import Pause

T = TypeVar("T")
Value = str | int | float | bytes | None
"""What a column holds; JSON is text, times are Unix microseconds."""


Values = Mapping[str, Value] | Sequence[Value]
"""Values of one execution: by name, or by position where a query has ``?``."""


class StoreSpace(NamedTuple):
    """What a database takes on disk."""

    bytes: int
    free_bytes: int
    """Of these, what was given back by removed records and is used again before it grows."""


class Tx(Protocol):
    """One transaction, or one savepoint of it."""

    clock_ahead: int
    """By how many microseconds the database's clock is ahead of this machine's: servers that share
    it go by the one clock that they have in common. 0 where no other server uses it."""

    def one(self, shape: Callable[..., T], query: str, /, **values: Value) -> T | None:
        """Return ``shape(*row)`` for the first row, None when there is none."""
        ...

    def all(self, shape: Callable[..., T], query: str, /, **values: Value) -> list[T]:
        """Return ``shape(*row)`` for every row."""
        ...

    def value(self, query: str, /, **values: Value) -> Any:
        """Return the first column of the first row, None when there is none."""
        ...

    def run(self, query: str, /, **values: Value) -> int:
        """Execute a write; return how many rows it changed: 0 is an answer."""
        ...

    def run_many(self, query: str, rows: Iterable[Values], /) -> int:
        """Execute a write once per row of values; return how many rows changed in all."""
        ...

    def add_many(self, query: str, rows: Sequence[Sequence[Value]], /) -> None:
        """Execute an insert of one row, ``VALUES (?, …)``, for many rows, many in one statement.

        For a hundred rows and more; of fewer `run_many` costs as little.
        """
        ...

    def add(self, query: str, /, **values: Value) -> int:
        """Execute an insert and return the new row's id."""
        ...

    def lock_jobs(self, job_ids: Iterable[int], /) -> None:
        """Lock these jobs' rows, in order of id, until the transaction ends.

        Every method that changes a job's tasks begins with it, so that what it reads of the
        frontier stays true. A database with a single writer has nothing to do.
        """
        ...

    def hint(self, topics: Iterable[str], /) -> None:
        """Have other servers of this database be told, after the commit, whom to wake there.

        Only a hint: it may be lost. A database that one server has for itself has nothing to do.
        """
        ...

    def text(self, statement: str, values: Mapping[str, Value], /) -> list[tuple[Any, ...]]:
        """Run a reading statement composed by the store package itself (store/listing.py)."""
        ...


class Piece:
    """A write on its way: what is to be run, and who is told of its outcome."""

    __slots__ = ("calls_others", "is_brief", "is_withdrawn", "tell", "work")

    def __init__(
        self,
        work: Callable[[Tx], Any],
        tell: Callable[[Any, BaseException | None], None],
        *,
        is_brief: bool = False,
        calls_others: Callable[[], bool] = bool,
    ) -> None:
        self.work = work
        self.tell = tell
        """Takes what `work` returned and None, or None and what went wrong."""
        self.is_brief = is_brief
        """It takes a few dozen statements at most, whatever is in the database: the loop itself may
        run it."""
        self.calls_others = calls_others
        """Tells, after its work, whether that has woken, in the loop, who will submit something
        because of it: that may go into the same commit."""
        self.is_withdrawn = False

    def withdraw(self) -> None:
        """Say that nobody waits any more: what has not begun is not run, and told to nobody."""
        self.is_withdrawn = True


class Store(Protocol):
    """A database with its migrations applied."""

    pause: Pause
    """Whether the database takes writes now."""

    def write(self, work: Callable[[Tx], T], /, *, ahead: bool = False) -> Future[T]:
        """Run `work` in a savepoint of the next group; done when the group is on disk.

        What is `ahead`, of agents and of the manager, does not wait behind the others (R33).

        When `work` raises, its savepoint is rolled back and the future carries the error; the
        others of the group are not touched. A failed commit (a full disk) reaches every future of
        the group as `Unavailable`, with nothing stored.
        """
        ...

    def read(self, work: Callable[[Tx], T], /) -> T:
        """Run `work` on a snapshot in the calling thread."""
        ...

    def space(self) -> StoreSpace:
        """Return what the database takes."""
        ...

    def shrink(self) -> None:
        """Give unused space back to the disk: nothing is written meanwhile, which may take long.

        Raises:
            Unavailable: it could not; everything is as it was.
        """
        ...

    def close(self) -> None:
        """Finish what was accepted and close the database."""
        ...


Hinted = Callable[[Collection[str] | None], None]
"""Is told what another server hinted at; None: hints may have been lost."""


class ServedStore(Store, Protocol):
    """A store that an event loop works with."""

    is_shared: bool
    """Whether other servers may use the database at the same time."""

    def on_hints(self, hinted: Hinted) -> None:
        """Call `hinted`, in a thread of the store's own, for what other servers hint at."""
        ...

    def submit(self, piece: Piece, /, *, ahead: bool = False) -> None:
        """Do with a piece's work as `write` does, and tell what came of it: the attached loop
        does, or a thread.
        """
        ...

    def attach(self, loop: AbstractEventLoop) -> None:
        """Have this loop, whose thread calls, be told of all outcomes, and run what is brief."""
        ...

    def detach(self) -> None:
        """Finish what was accepted, and leave the loop, whose thread calls."""
        ...

    def count_commits(self, committed: Callable[[float, int], None]) -> None:
        """Call `committed` after every commit, with its seconds and how many pieces it held."""
        ...


class Submits(Protocol):
    """What takes pieces of work."""

    def submit(self, piece: Piece, /, *, ahead: bool = False) -> None:
        """See `ServedStore`."""
        ...


def waited_for(store: Submits, work: Callable[[Tx], T], *, ahead: bool) -> Future[T]:
    """Submit `work` and return its future; cancelled before its turn, it is not run."""
    future: Future[T] = Future()

    def begin(tx: Tx) -> T | None:
        return work(tx) if future.set_running_or_notify_cancel() else None

    def tell(result: T | None, problem: BaseException | None) -> None:
        if future.cancelled():
            return
        if problem is None:
            future.set_result(cast(T, result))
        else:
            future.set_exception(problem)

    store.submit(Piece(begin, tell), ahead=ahead)
    return future
