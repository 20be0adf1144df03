"""Plots as SVG: bars and lines, readable on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 720
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.soft { fill: #656d76; font-size: 12px }
.end { text-anchor: end }
.middle { text-anchor: middle }
.ours { fill: #0969da }
.other { fill: #afb8c1 }
.line { fill: none; stroke: #0969da; stroke-width: 2 }
.grid { stroke: #d0d7de; stroke-width: 1 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .soft { fill: #8d96a0 }
  .ours { fill: #4493f8 }
  .other { fill: #484f58 }
  .line { stroke: #4493f8 }
  .grid { stroke: #30363d }
}
"""
ROW = 26
BAR = 16
LABEL_WIDTH = 150
VALUE_WIDTH = 70
TOP = 44
PLOT_HEIGHT = 150
AXIS_WIDTH = 64


@dataclass(frozen=True)
class Bar:
    """One bar; `is_ours` gives it the colour that stands out."""

    label: str
    value: float
    shown: str
    is_ours: bool = False


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """Return a piece of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(words)}</text>'


def drawing(height: float, parts: Sequence[str], title: str) -> str:
    """Return a whole SVG file; its title is what is read aloud."""
    size = f'width="{WIDTH}" height="{height:.0f}" viewBox="-2 0 {WIDTH} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    return "\n".join(
        [head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", *parts, "</svg>\n"]
    )


def bars(title: str, note: str, rows: Sequence[Bar]) -> str:
    """Return horizontal bars, the longest first as given; all begin at nothing."""
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    most = max(row.value for row in rows)
    parts = [text(0, 16, title, "title"), text(0, 34, note, "soft")]
    for number, row in enumerate(rows):
        y = TOP + 6 + number * ROW
        length = max(1.0, room * row.value / most)
        kind = "ours" if row.is_ours else "other"
        parts += [
            text(LABEL_WIDTH - 8, y + BAR - 3, row.label, "end"),
            f'<rect x="{LABEL_WIDTH}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"'
            f' class="{kind}"/>',
            text(LABEL_WIDTH + length + 6, y + BAR - 3, row.shown, "soft"),
        ]
    return drawing(TOP + 10 + len(rows) * ROW, parts, title)


@dataclass(frozen=True)
class Panel:
    """One line over time, with an axis of its own that begins at nothing."""

    label: str
    points: Sequence[tuple[float, float]]


def nice_ceiling(value: float) -> float:
    """Return the next of 1, 2, 2.5, 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))


def short(value: float) -> str:
    """Return a number for an axis."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def lines(title: str, note: str, panels: Sequence[Panel]) -> str:
    """Return panels below one another over the same time in seconds."""
    longest = max(x for panel in panels for x, _ in panel.points)
    room = WIDTH - AXIS_WIDTH - 20
    parts = [text(0, 16, title, "title"), text(0, 34, note, "soft")]
    top = TOP + 28.0
    for panel in panels:
        parts += one_panel(panel, top, room, longest)
        top += PLOT_HEIGHT + 48
    parts += [
        text(AXIS_WIDTH, top - 24, "0 s", "soft middle"),
        text(AXIS_WIDTH + room, top - 24, f"{longest:.0f} s", "soft end"),
    ]
    return drawing(top - 12, parts, title)


def one_panel(panel: Panel, top: float, room: float, longest: float) -> list[str]:
    """Return one panel's label, grid and line."""
    most = nice_ceiling(max(y for _, y in panel.points))
    parts = [text(AXIS_WIDTH, top - 8, panel.label)]
    for share in (0.0, 0.5, 1.0):
        y = top + PLOT_HEIGHT * (1 - share)
        parts += [
            f'<line x1="{AXIS_WIDTH}" y1="{y:.1f}" x2="{AXIS_WIDTH + room}" y2="{y:.1f}"'
            ' class="grid"/>',
            text(AXIS_WIDTH - 8, y + 4, short(most * share), "soft end"),
        ]
    path = " ".join(
        f"{AXIS_WIDTH + room * x / longest:.1f},{top + PLOT_HEIGHT * (1 - y / most):.1f}"
        for x, y in panel.points
    )
    return [*parts, f'<polyline points="{path}" class="line"/>']
