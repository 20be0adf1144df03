"""The items of a `jobtasks map`: words of the command line, or lines of stdin as they come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

import click

READ_BYTES = 256 * 1024
ITEM_BYTES_MAX = 128 * 1024
"""No system takes a longer word as an argument."""
STDIN = "-"


def items_of(words: tuple[str, ...], null: bool, stdin: BinaryIO) -> Iterator[str]:
    """The items, bytes that are not UTF-8 as surrogates; ``-`` stands for those of stdin.

    Raises click.UsageError for an item that no command can be given.
    """
    number = 0
    for word in words:
        for item in _of_stream(stdin, b"\0" if null else b"\n") if word == STDIN else (word,):
            number += 1
            _check(item, number)
            yield item


def _check(item: str, number: int) -> None:
    if "\0" in item:
        raise click.UsageError(f"Item {number} holds a NUL byte: use --null (-0)?")
    if len(item) > ITEM_BYTES_MAX:
        raise click.UsageError(
            f"Item {number} is longer than {ITEM_BYTES_MAX} bytes; is it one line of many?"
        )


def _of_stream(stream: BinaryIO, end: bytes) -> Iterator[str]:
    """What stands between the marks; what follows the last one counts too, unless it is empty."""
    rest = b""
    for piece in iter(lambda: stream.read(READ_BYTES), b""):
        *whole, rest = (rest + piece).split(end)
        yield from map(os.fsdecode, whole)
        if len(rest) > ITEM_BYTES_MAX:
            break
    if rest:
        yield os.fsdecode(rest)
