"""Printing: tables for people, JSON and uuids for programs, from the same values."""

from __future__ import annotations

import json
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

Row = Mapping[str, Any]
"""A record of the API."""

Column = tuple[str, Callable[[Row], Any]]
"""A heading, and what of an item stands below it."""

CELL_WIDTH_MIN = 6
"""On a narrow terminal no column is cut below that."""

TEXT_WIDTH_MIN = 20
"""The least room for the values of a record, however narrow the terminal."""

LINES_MAX = 12
"""On a terminal a value of a record takes no more lines, or one more that says so."""

FOR_PROGRAMS = frozenset(("href", "kind", "etag"))
"""Attributes that say nothing to people."""

AGES = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def print_list(items: Sequence[Row], columns: Sequence[Column], form: str) -> None:
    """The items as a table, as a JSON list, as one JSON object a line, or as one uuid a line.

    On a terminal a table is cut to its width, from the second column on; elsewhere it is whole.
    """
    if form == "json":
        _print_json(items)
    elif form == "jsonl":
        for item in items:
            click.echo(json.dumps(item, ensure_ascii=False))
    elif form == "id":
        for item in items:
            click.echo(item["uuid"])
    else:
        _print_table(items, columns)


def print_record(record: Row, form: str) -> None:
    """A record as ``name  value`` lines, as a JSON object, on one line too, or as its uuid.

    The lines leave out what is empty; JSON has every attribute.
    """
    if form == "json":
        _print_json(record)
    elif form == "table":
        _print_values(record)
    else:
        print_list([record], (), form)


def _print_values(record: Row) -> None:
    """A line per value that says something; on a terminal what is longer goes on below itself."""
    shown = {name: value for name, value in record.items() if says_something(name, value)}
    width = max(map(len, shown), default=0)
    columns = _terminal_columns()
    for name, value in shown.items():
        heading = click.style(name.ljust(width), bold=True)
        if columns is None:
            click.echo(f"{heading}  {_cell(value)}")
            continue
        lines = folded(value, max(TEXT_WIDTH_MIN, columns - width - 2))
        click.echo(f"{heading}  " + ("\n" + " " * (width + 2)).join(shortened(lines)))


def says_something(name: str, value: Any) -> bool:
    """Whether people are shown a value: what is empty, or for programs alone, they are not."""
    return value not in (None, "", [], {}) and name not in FOR_PROGRAMS


def shortened(lines: list[str]) -> list[str]:
    """At most `LINES_MAX` lines; what is in the middle is counted and left out."""
    left_out = len(lines) - LINES_MAX
    if left_out <= 1:
        return lines
    half = LINES_MAX // 2
    return [*lines[:half], f"… {left_out} more lines", *lines[-half:]]


def folded(value: Any, width: int) -> list[str]:
    """What a value looks like in lines of at most `width` columns; text keeps its own lines."""
    lines = value.splitlines() if isinstance(value, str) and value else [_cell(value)]
    found = []
    for line in map(printable, lines):
        rest = line
        while width_of(rest) > width:
            head = cut(rest, width + 1)[:-1]
            found.append(head)
            rest = rest[len(head) :]
        found.append(rest)
    return found


def _print_table(items: Sequence[Row], columns: Sequence[Column]) -> None:
    heading, *rows = table_lines(items, columns, _terminal_columns())
    click.secho(heading, bold=True)
    for row in rows:
        click.echo(row)


def table_lines(items: Sequence[Row], columns: Sequence[Column], room: int | None) -> list[str]:
    """The lines of a table, its heading first, in at most `room` columns of a terminal."""
    rows = [[_cell(value(item)) for _, value in columns] for item in items]
    headings = [heading for heading, _ in columns]
    widths = [max(map(width_of, column)) for column in zip(headings, *rows, strict=True)]
    if room is not None:
        widths = fitted(widths, room)
    lines = [_line(cells, widths) for cells in (headings, *rows)]
    return lines if room is None else [cut(line, room) for line in lines]


def key(name: str) -> Callable[[Row], Any]:
    """The attribute of that name."""
    return lambda item: item.get(name)


def moment(name: str) -> Callable[[Row], Any]:
    """The time of that name, to the minute, in UTC as the record gives it."""
    return lambda item: item[name][:16].replace("T", " ") if item.get(name) else None


def age(name: str) -> Callable[[Row], Any]:
    """How long ago the time of that name was: ``5s``, ``3m``, ``2h``, ``4d``."""
    return lambda item: span(time.time() - _unix(item[name])) if item.get(name) else None


def took(item: Row) -> Any:
    """From ``started_at`` to ``finished_at``, or until now; None before the start."""
    if not item.get("started_at"):
        return None
    end = _unix(item["finished_at"]) if item.get("finished_at") else time.time()
    return span(end - _unix(item["started_at"]))


def span(seconds: float) -> str:
    """A length of time in two or three letters for the eye: its largest unit, rounded down."""
    whole = max(0, int(seconds))
    size, unit = next(((size, unit) for size, unit in AGES if whole >= size), AGES[-1])
    return f"{whole // size}{unit}"


def _unix(text: str) -> float:
    # Nanoseconds are more than Python's datetime takes.
    return datetime.fromisoformat(text[:19] + "+00:00").timestamp()


def printable(text: str) -> str:
    """The text without what would move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def width_of(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return len(text) if text.isascii() else sum(map(_letter_width, text))


def _letter_width(letter: str) -> int:
    if unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in ("W", "F") else 1


def cut(text: str, width: int) -> str:
    """The text in at most `width` columns; ``…`` stands for what was cut off."""
    if width_of(text) <= width:
        return text
    kept, used = [], 1
    for letter in text:
        used += _letter_width(letter)
        if used > width:
            break
        kept.append(letter)
    return "".join(kept) + "…"


def fitted(widths: Sequence[int], room: int) -> list[int]:
    """Widths of columns that fit into `room`: the widest but the first are made narrower."""
    found = list(widths)
    excess = sum(found) + 2 * (len(found) - 1) - room
    while excess > 0 and len(found) > 1:
        widest = max(range(1, len(found)), key=found.__getitem__)
        if found[widest] <= CELL_WIDTH_MIN:
            break
        found[widest] -= 1
        excess -= 1
    return found


def _terminal_columns() -> int | None:
    """How wide the terminal is; None when stdout is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(map(_filled, cells, widths)).rstrip()


def _filled(cell: str, width: int) -> str:
    shown = cut(cell, width)
    return shown + " " * (width - width_of(shown))


def say(line: str) -> None:
    """Tell the user on stderr."""
    click.echo(line, err=True)
