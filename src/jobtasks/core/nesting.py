"""How deep a JSON value may be nested (R40)."""

from __future__ import annotations

from typing import Any

CONTAINERS = (dict, list)


def deeper_than(value: Any, levels_max: int) -> bool:
    """Return whether objects and lists are nested in `value` more than `levels_max` deep.

    Level by level, not by recursion: fast for a hundred thousand flat items, and no depth ends it
    but the limit.
    """
    level = [value] if isinstance(value, CONTAINERS) else []
    for _ in range(levels_max):
        if not level:
            return False
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node)
            if type(child) in CONTAINERS
        ]
    return bool(level)
