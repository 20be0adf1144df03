"""How values go to PostgreSQL and come back: as they do with SQLite."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import postgres
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Dumper, Loader
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumperUnknown

INT8 = postgres.types["int8"].oid
NO_CHARACTER = "\ufffd"
"""Stands for a character that PostgreSQL cannot keep: the one with the code 0."""


class FlagDumper(Dumper):
    """True is 1."""

    oid = INT8

    def dump(self, obj: Any) -> Buffer | None:
        """Return what is sent."""
        return b"1" if obj else b"0"


class TextDumper(StrDumperUnknown):
    """A text, whose type the statement says; without characters that cannot be kept."""

    def dump(self, obj: str) -> Buffer | None:
        """Return what is sent."""
        return super().dump(obj.replace("\0", NO_CHARACTER) if "\0" in obj else obj)


class FlagLoader(Loader):
    """True is 1."""

    def load(self, data: Buffer) -> int:
        """Return what was received."""
        return int(bytes(data) == b"t")


class NumberLoader(Loader):
    """A sum is a whole number, if it is one."""

    def load(self, data: Buffer) -> int | float:
        """Return what was received."""
        text = bytes(data)
        return float(text) if b"." in text else int(text)


def adapters() -> AdaptersMap:
    """Return how values go and come: all whole numbers are of one type, wide enough for all."""
    found = AdaptersMap(psycopg.adapters)
    found.register_dumper(int, Int8Dumper)
    found.register_dumper(bool, FlagDumper)
    found.register_dumper(str, TextDumper)
    found.register_loader("bool", FlagLoader)
    found.register_loader("numeric", NumberLoader)
    return found
