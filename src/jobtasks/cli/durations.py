"""Lengths of time and sizes, as people write and read them."""

from __future__ import annotations

import re
from typing import Any

import click

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


class Duration(click.ParamType[float]):
    """``30d``, ``12h``, ``90m``, ``45s``, ``2w`` or a number of seconds; in seconds."""

    name = "TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number of seconds; anything else is a usage error."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", str(value), re.ASCII)
        if found is None:
            self.fail(f"{value!r} is not a number with s, m, h, d or w", param, ctx)
        return float(found[1]) * SECONDS[found[2] or "s"]


def readable_bytes(count: float) -> str:
    """A number of bytes in the unit in which it has at most four digits."""
    for unit in UNITS:
        if count < 1024 or unit == UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == UNITS[0] or count >= 100 else f"{count:.1f} {unit}"
