"""One command per item: a template, filled in as GNU parallel does it, safe for the shell."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable

PLACE = re.compile(r"\{(|\.|/|//|/\.|#)\}")
"""What is replaced in a template."""
_EXTENSION = re.compile(r"\.[^/.]*\Z")
_NOT_TEXT = re.compile("([\udc80-\udcff]+)")
"""Bytes that are not UTF-8, as Python keeps them in text."""


def filled(template: str, item: str, number: int) -> str:
    """The command for one item; where `template` has no place for it, it is the last word.

    ``{}`` the item, ``{.}`` without its extension, ``{/}`` without its folder, ``{//}`` its folder,
    ``{/.}`` without either, ``{#}`` its number, from 1. Each is one word for the shell, whatever
    letters are in it.
    """
    if not PLACE.search(template):
        return f"{template} {quoted(item)}"

    def word(place: re.Match[str]) -> str:
        return str(number) if place[1] == "#" else quoted(_PARTS[place[1]](item))

    return PLACE.sub(word, template)


def quoted(text: str) -> str:
    """Return `text` as one word of a POSIX shell.

    Bytes that are not UTF-8, which no JSON holds, are spelled as what makes the shell print them.
    """
    if not _NOT_TEXT.search(text):
        return shlex.quote(text)
    parts = (part for part in _NOT_TEXT.split(text) if part)
    return "".join(_printed(part) if _NOT_TEXT.match(part) else shlex.quote(part) for part in parts)


def _printed(part: str) -> str:
    octal = "".join(f"\\{byte:03o}" for byte in os.fsencode(part))
    return f"\"$(printf '{octal}')\""


def readable(text: str) -> str:
    r"""Return `text` for people and records: bytes that are not UTF-8 are spelled ``\xff``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def without_extension(path: str) -> str:
    """``a/b.tar`` of ``a/b.tar.gz``."""
    return _EXTENSION.sub("", path)


def base_name(path: str) -> str:
    """``b.gz`` of ``a/b.gz``; nothing of ``a/``."""
    return path.rpartition("/")[2]


def folder_name(path: str) -> str:
    """``a`` of ``a/b.gz``; ``.`` of ``b.gz`` and of ``a/``; ``/`` of ``/b.gz``."""
    folder, name = _folder_and_name(path)
    return folder if name else _folder_and_name(folder)[0]


def _folder_and_name(path: str) -> tuple[str, str]:
    folder, slash, name = path.rpartition("/")
    if not slash:
        return ".", name
    return folder.rstrip("/") or "/", name


_PARTS: dict[str, Callable[[str], str]] = {
    "": str,
    ".": without_extension,
    "/": base_name,
    "//": folder_name,
    "/.": lambda path: without_extension(base_name(path)),
}
