"""How far a job is: one live bar per sequence on a terminal, else now and then a line."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Protocol, Self, TextIO

import click
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

LEVELS_SHOWN_MAX = 12
"""Bars on the screen at the same time: those around the sequence at work."""

LINE_SECONDS = 5.0
"""Between two lines where there is no terminal."""

Level = dict[str, int]
"""An item of GET jobs/UUID/levels: sequence, todo, running, done, failed."""


class Meter(Protocol):
    """Shows the levels of a job, each time it is told of them."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave what was shown last on the screen."""

    def show(self, levels: Sequence[Level]) -> None:
        """Show these levels."""

    def say(self, line: str) -> None:
        """Show a line of text, once while it stays the same."""


def meter(stream: TextIO) -> Meter:
    """What fits the stream: bars need a terminal that can go back over its lines."""
    can_go_back = stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
    return Bars(stream) if can_go_back else Lines(stream)


def console_on(stream: TextIO) -> Console:
    """A console that keeps to what was asked for with ``--color``, or by the environment."""
    context = click.get_current_context(silent=True)
    color = context.color if context else None
    return Console(file=stream, no_color=None if color is None else not color)


class LevelBars(Progress):
    """Bars in order of sequence, whichever came first."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the table of bars; a lower level that came late stands where it belongs."""
        yield self.make_tasks_table(sorted(self.tasks, key=lambda bar: bar.fields["sequence"]))


class Bars:
    """A live bar per sequence."""

    def __init__(self, stream: TextIO) -> None:
        self._said = ""
        self._bars: dict[int, TaskID] = {}
        self._progress = LevelBars(
            TextColumn("level {task.fields[sequence]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console_on(stream),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, levels: Sequence[Level]) -> None:
        """Update all bars; hide those far from the work."""
        shown = {level["sequence"] for level in near_the_work(levels)}
        for level in levels:
            sequence, total = level["sequence"], total_of(level)
            bar = self._bar(sequence)
            self._progress.update(
                bar,
                total=total,
                completed=level["done"],
                note=note_of(level),
                visible=sequence in shown,
            )
            if level["running"] or level["done"] or level["failed"]:
                self._progress.start_task(bar)

    def say(self, line: str) -> None:
        """A line above the bars."""
        if line != self._said:
            self._progress.console.print(line, markup=False, highlight=False)
        self._said = line

    def _bar(self, sequence: int) -> TaskID:
        if sequence not in self._bars:
            self._bars[sequence] = self._progress.add_task(
                "", start=False, sequence=sequence, note=""
            )
        return self._bars[sequence]


class Lines:
    """A line when a level is done, and every few seconds when something changed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._said = ""
        self._finished: set[int] = set()
        self._last_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def show(self, levels: Sequence[Level]) -> None:
        """Print what is new."""
        for level in levels:
            if level["done"] == total_of(level) and level["sequence"] not in self._finished:
                self._finished.add(level["sequence"])
                self.say(_line_of(level))
        if time.monotonic() - self._last_at < LINE_SECONDS:
            return
        self._last_at = time.monotonic()
        for level in levels:
            if level["running"]:
                self.say(_line_of(level))

    def say(self, line: str) -> None:
        """The line, unless it was the last one too."""
        if line != self._said:
            print(line, file=self._stream, flush=True)
        self._said = line


def total_of(level: Level) -> int:
    """All tasks of a level."""
    return level["todo"] + level["running"] + level["done"] + level["failed"]


def note_of(level: Level) -> str:
    """What else there is to say of a level: how many run, how many failed for good."""
    parts = [f"{level[name]} {name}" for name in ("running", "failed") if level[name]]
    return ", ".join(parts)


def near_the_work(levels: Sequence[Level]) -> Sequence[Level]:
    """The levels to show when there are many: some before the first that is not done, and on."""
    undone = (place for place, level in enumerate(levels) if level["done"] < total_of(level))
    first = next(undone, len(levels))
    start = max(0, min(first - LEVELS_SHOWN_MAX // 4, len(levels) - LEVELS_SHOWN_MAX))
    return levels[start : start + LEVELS_SHOWN_MAX]


def _line_of(level: Level) -> str:
    note = note_of(level)
    return f"level {level['sequence']}: {level['done']} of {total_of(level)} done" + (
        f", {note}" if note else ""
    )
