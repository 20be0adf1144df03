"""Sizes of memory as people write them."""

from __future__ import annotations

import re
from typing import Any

import click

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT])(?:i?B)?", re.IGNORECASE | re.ASCII)
_KIB = {"K": 1, "M": 1024, "G": 1024**2, "T": 1024**3}


class Size(click.ParamType[int]):
    """``512M``, ``2G``, ``1.5GiB``: a size in KiB; units are powers of 1024."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The size in KiB, at least 1; a number without a unit is a usage error."""
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(value.strip())
        if found is None or float(found[1]) == 0:
            self.fail(f"{value!r} is not a size such as 512M or 2G", param, ctx)
        return max(1, round(float(found[1]) * _KIB[found[2].upper()]))
