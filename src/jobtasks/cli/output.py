"""Printing: tables for people and JSON for programs, from the same values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

Row = Mapping[str, Any]
"""A record of the API."""

Column = tuple[str, Callable[[Row], Any]]
"""A heading, and what of an item stands below it."""


def print_list(items: Sequence[Row], columns: Sequence[Column], form: str) -> None:
    """The items as a table of `columns`, or whole as a JSON list."""
    if form == "json":
        _print_json(items)
        return
    rows = [[_cell(value(item)) for _, value in columns] for item in items]
    headings = [heading for heading, _ in columns]
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    click.secho(_line(headings, widths), bold=True)
    for row in rows:
        click.echo(_line(row, widths))


def print_record(record: Row, form: str) -> None:
    """A record as ``name: value`` lines, or as a JSON object."""
    if form == "json":
        _print_json(record)
        return
    width = max(map(len, record))
    for name, value in record.items():
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {_cell(value)}")


def key(name: str) -> Callable[[Row], Any]:
    """The attribute of that name."""
    return lambda item: item.get(name)


def moment(name: str) -> Callable[[Row], Any]:
    """The time of that name, to the second, in UTC as the record gives it."""
    return lambda item: item[name][:19].replace("T", " ") if item.get(name) else None


def printable(text: str) -> str:
    """The text without what would move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
