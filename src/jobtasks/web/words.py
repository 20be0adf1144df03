"""How values are said on pages: sizes, times, durations, causes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from jobtasks.core.states import AttemptState, TaskState

MICROSECONDS = 1_000_000
MINUTE, HOUR, DAY = 60, 3600, 86400
SHORT_LETTERS = 15
"""Of a UUID, what tells it from others."""


def iso(microseconds: int) -> str:
    """Return a time for programs: ``2026-11-25T09:30:00.000Z``."""
    moment = datetime.fromtimestamp(microseconds / MICROSECONDS, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(microseconds: int) -> str:
    """Return a time for people, in UTC; the browser shows it as theirs."""
    moment = datetime.fromtimestamp(microseconds / MICROSECONDS, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float | None) -> str:
    """Return a length of time in at most two units: ``1.5 s``, ``3 min 20 s``, ``2 d 4 h``."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{round(max(0.0, seconds) * 1000)} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, lower, lower_name in (
        (DAY, "d", HOUR, "h"),
        (HOUR, "h", MINUTE, "min"),
        (MINUTE, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // lower
            return f"{whole // unit} {name}" + (f" {rest} {lower_name}" if rest else "")
    return f"{whole} s"


def between(start: int | None, end: int | None) -> float | None:
    """Return the seconds between two times, None when one of them is not known."""
    return None if start is None or end is None else max(0, end - start) / MICROSECONDS


def size(number: float | None, unit: int = 1) -> str:
    """Return an amount of bytes, given in units of so many: ``12 MiB``."""
    if number is None:
        return "–"
    amount = float(number * unit)
    for name in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {name}" if amount >= 10 or name == "B" else f"{amount:.1f} {name}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def kib(number: float | None) -> str:
    """Return an amount that is given in KiB."""
    return size(number, 1024)


def count(number: int) -> str:
    """Return a number whose digits stand in groups."""
    return f"{number:,}".replace(",", "\u202f")


def plural(number: int, noun: str) -> str:
    """Return ``1 task``, ``2 tasks``."""
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")


def short(uuid: str) -> str:
    """Return the part of a UUID that tells it from others of its kind."""
    return uuid[-SHORT_LETTERS:]


def pretty(text: str | None) -> str:
    """Return JSON text in lines; what is none, as it is."""
    if text is None:
        return ""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def compact(text: str | None, letters: int = 120) -> str:
    """Return JSON text in one line without its outer braces, cut after so many letters."""
    if not text or text == "{}":
        return ""
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if isinstance(value, dict):
        said = ", ".join(f"{key}={_word(item)}" for key, item in value.items())
    else:
        said = _word(value)
    return said if len(said) <= letters else said[: letters - 1] + "…"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def command(words: str | None, script: str | None) -> str:
    """Return what a job runs, as one would type it."""
    if words:
        parts: Sequence[Any] = json.loads(words)
        return " ".join(str(part) for part in parts)
    return script or ""


def cause(name: str | None, exit_code: int | None, signal: int | None) -> str:
    """Return how an attempt ended in a few words."""
    parts = [] if name in (None, "exit", "signal") else [str(name).replace("_", " ")]
    if exit_code is not None:
        parts.append(f"exit code {exit_code}")
    if signal is not None:
        parts.append(f"signal {signal}")
    return ", ".join(parts) or (name or "")


def task_word(state: int) -> str:
    """Return what a task's state is called."""
    return TaskState(state).word


def attempt_word(state: int) -> str:
    """Return what an attempt's state is called."""
    return AttemptState(state).word


def share(part: float, whole: float, of: float = 100.0) -> float:
    """Return how much of `of` a part takes, with two digits."""
    return round(of * part / whole, 2) if whole else 0.0
