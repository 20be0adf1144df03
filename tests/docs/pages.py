"""The pages of the project, and what stands in them: blocks of code, and words set as code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("docs", "examples", "bench")

_FENCE = re.compile(r"^( *)```(\w*)\s*$")
_SPAN = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A block of code: where it stands, its language, its lines, and the paragraph before it."""

    page: Path
    line: int
    language: str
    lines: tuple[str, ...]
    before: str


def pages() -> list[Path]:
    """Every page that a reader may open."""
    found = [page for name in FOLDERS for page in sorted((ROOT / name).rglob("*.md"))]
    return [ROOT / "README.md", *found]


def blocks(page: Path) -> Iterator[Block]:
    """The page's blocks of code, in order."""
    before: list[str] = []
    is_new = True
    lines = iter(enumerate(page.read_text().splitlines(), 1))
    for number, line in lines:
        if fence := _FENCE.match(line):
            indent = len(fence[1])
            inside: list[str] = []
            for _, text in lines:
                if text.strip() == "```":
                    break
                inside.append(text[indent:])
            yield Block(page, number, fence[2], tuple(inside), " ".join(before))
            before = []
        elif line.strip():
            before = [*([] if is_new else before), line.strip()]
        is_new = not line.strip()


def spans(page: Path) -> Iterator[tuple[int, str]]:
    """What is set as code within the text: line and words."""
    is_inside = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if _FENCE.match(line) or (is_inside and line.strip() == "```"):
            is_inside = not is_inside
        elif not is_inside:
            yield from ((number, found) for found in _SPAN.findall(line))
