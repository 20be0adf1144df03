"""Whether the records agree with each other: counters counted again, and what must always hold."""

from __future__ import annotations

from typing import Any

from jobtasks.store.base import Tx
from jobtasks.store.checks import load_checks


def contradictions(tx: Tx) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows that contradict each other, by the name of the check; {} when sound.

    Every row is read: for a test, or for an administrator who has the time.
    """
    found = {name: tx.text(check.sql, {}) for name, check in load_checks().items()}
    return {name: rows for name, rows in found.items() if rows}


def purpose_of(name: str) -> str:
    """Return what a check finds, in words."""
    return load_checks()[name].purpose
