"""Steps of what was taken over time, as the path of an SVG drawing."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH = 1000
HEIGHT = 100


def steps(points: Sequence[tuple[int, float]], since: int, until: int) -> str:
    """Return the filled area below (time, share) points, each of which holds until the next.

    Times outside of `since` to `until` are drawn at the border; shares lie between 0 and 1.
    """
    if not points or until <= since:
        return ""
    drawn: list[str] = []
    for time, share in points:
        x = WIDTH * min(1.0, max(0.0, (time - since) / (until - since)))
        y = HEIGHT * (1 - min(1.0, max(0.0, share)))
        drawn.append(f"{'H' if drawn else 'M'}{x:.1f}{'V' if drawn else ' '}{y:.1f}")
    first = drawn[0].split()[0].removeprefix("M")
    return f"{''.join(drawn)}H{WIDTH}V{HEIGHT}H{first}Z"
