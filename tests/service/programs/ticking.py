"""A manager that ticks on a database file until another has taken over, round after round.

A line on stdin begins a round: take over, say ``term N``, tick without a pause. When the term is
lost: ``lost TERM TICKS WRONG CHANGES``: WRONG is 1 when a tick was served although another term
is on record, CHANGES are the rows that the refused one changed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jobtasks.service import tick
from jobtasks.service.context import Context
from jobtasks.store.base import Tx
from jobtasks.store.sqlite import SqliteStore
from jobtasks.testing.service import LocalService


class Manager:
    """One manager process on a database that another prepared."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path)
        self.service = LocalService(store=self.store)

    def changes(self) -> int:
        """Rows that this process has ever changed."""
        return int(self.service.rows("SELECT total_changes()")[0][0])

    def term_after(self, tx: Tx, term: int) -> int:
        """Tick, and return the term on record in the same transaction."""
        tick.tick(Context(tx, self.service.clock.now, self.service.world), term)
        return int(tx.text("SELECT term FROM manager", {})[0][0])

    def round(self) -> str:
        """Be the manager until somebody else is."""
        term = self.service.run(tick.take_over, "child")
        print(f"term {term}", flush=True)
        ticks = 0
        while True:
            before = self.changes()
            try:
                seen = self.service.write(lambda tx: self.term_after(tx, term))
            except tick.LostManager:
                return f"lost {term} {ticks} 0 {self.changes() - before}"
            ticks += 1
            if seen != term:
                return f"lost {term} {ticks} 1 {self.changes() - before}"


if __name__ == "__main__":
    manager = Manager(Path(sys.argv[1]))
    for _ in sys.stdin:
        print(manager.round(), flush=True)
    manager.service.close()
