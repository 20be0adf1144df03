"""Commands made of a template and an item: as GNU parallel makes them, safe for the shell."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import click
import pytest

from jobtasks.cli.items import ITEM_BYTES_MAX, items_of
from jobtasks.cli.sizes import Size
from jobtasks.cli.templates import filled, quoted, readable

PATHS = [
    *("a.txt", "dir/a.tar.gz", ".bashrc", "d/.bashrc", "dir.d/file", "/abs/x.y", "/x", "a/"),
    *("a//b.c", "/", "x.", "a b.c", "./f.g", "../h", "d.e/", "ü.ö", "it's", "$HOME", "`x`", "*"),
    *('"', "\\", "~", "-n", "#", ";", "a\tb", "a  b"),
]
NAMES = [
    b"plain",
    b"a b",
    b"new\nline",
    b"\xff",
    b"a\xffb\xfe\xfd'c",
    b"",
    b"\\",
    b"''",
    b"\xc3\xbc",
]


def needs_parallel() -> None:
    if shutil.which("parallel") is None:
        pytest.skip("the Debian package `parallel` is not installed: `make packages`")


def test_parts_are_those_of_gnu_parallel() -> None:
    """Every replacement for every path, as the shell sees it."""
    needs_parallel()
    template = "printf '%s|' {} {.} {/} {//} {/.} {#}"
    theirs = subprocess.run(
        ["parallel", "--will-cite", "-k", "-j1", template],
        input="\n".join(PATHS).encode(),
        capture_output=True,
        check=True,
    ).stdout
    commands = [filled(template, path, number) for number, path in enumerate(PATHS, start=1)]
    ours = subprocess.run(["sh", "-c", "\n".join(commands)], capture_output=True, check=True).stdout
    assert ours.decode().split("|") == theirs.decode().split("|")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_any_bytes_are_one_word(shell: str, name: bytes) -> None:
    """Spaces, quotes, newlines, bytes that are no UTF-8: the command gets what the item is."""
    command = filled("printf %s {}", os.fsdecode(name), 1)
    command.encode()
    ended = subprocess.run([shell, "-c", command], capture_output=True, check=True)
    assert ended.stdout == name


def test_an_item_without_a_place_is_the_last_word() -> None:
    """As with parallel; other braces are the command's own."""
    assert filled("gzip -9", "a b", 1) == "gzip -9 'a b'"
    assert filled("awk '{print}'", "a", 1) == "awk '{print}' a"
    assert filled("mv {} {.}.{#}", "x.y", 7) == "mv x.y x.7"
    assert quoted("") == "''"
    assert readable("a\udcffü") == "a\\xffü"


class Pieces(io.RawIOBase):
    """A stream that gives what it has in pieces, as pipes do."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, size: int = -1) -> bytes:
        return next(self._pieces, b"")


def items(content: bytes, *words: str, null: bool = False, piece: int = 3) -> list[str]:
    pieces = (content[start : start + piece] for start in range(0, len(content), piece))
    return list(items_of(words or ("-",), null, cast(BinaryIO, Pieces(pieces))))


def test_lines_of_stdin() -> None:
    """An empty line is an item, a missing last newline no loss; words and lines may mix."""
    assert items(b"a\n\nb c\n") == ["a", "", "b c"]
    assert items(b"one\ntwo") == ["one", "two"]
    assert items(b"") == []
    assert items(b"a\nb\0c\nd\0", null=True) == ["a\nb", "c\nd"]
    assert items("ü\n".encode() + b"\xff\r\n", piece=1) == ["ü", "\udcff\r"]
    assert items(b"x\ny\n", "first", "-", "last") == ["first", "x", "y", "last"]


@pytest.mark.parametrize("content", [b"fine\na\0b\n", b"x" * (ITEM_BYTES_MAX + 1)])
def test_what_no_command_can_be_given(content: bytes) -> None:
    """A NUL, or a line without end: a usage error, before memory is full."""
    endless = (content for _ in range(10_000)) if b"\n" not in content else iter([content])
    stream = cast(BinaryIO, Pieces(endless))
    with pytest.raises(click.UsageError, match="Item"):
        list(items_of(("-",), False, stream))


@pytest.mark.parametrize(
    ("text", "kib"),
    [("512M", 524288), ("2G", 2097152), ("1.5GiB", 1572864), ("64k", 64), ("3MB", 3072)],
)
def test_sizes(text: str, kib: int) -> None:
    """Powers of 1024, however they are written."""
    assert Size().convert(text, None, None) == kib


@pytest.mark.parametrize("text", ["512", "0M", "-1G", "G", "1X", "1e3M"])
def test_what_is_no_size(text: Any) -> None:
    """A number without a unit could mean anything."""
    with pytest.raises(click.BadParameter):
        Size().convert(text, None, None)
