"""What a check finds: whether it is well, and what to do when it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How a check ends."""

    OK = "ok"
    WARN = "warn"
    """It works, and may not for long, or not as well as it could."""
    FAIL = "fail"
    """It does not work."""


class Finding(NamedTuple):
    """One line."""

    check: str
    """What was looked at, in a word or two; stable."""
    level: Level
    text: str
    """What was found."""
    advice: str = ""
    """What to do about it; empty when it is well."""


Check = Callable[[], Iterator[Finding]]


def ok(check: str, text: str) -> Finding:
    """It is well."""
    return Finding(check, Level.OK, text)


def warn(check: str, text: str, advice: str) -> Finding:
    """It works for now."""
    return Finding(check, Level.WARN, text, advice)


def fail(check: str, text: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(check, Level.FAIL, text, advice)
