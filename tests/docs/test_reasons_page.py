"""docs/reference/api.md names every code of a reason, and no other."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from jobtasks.core import explain, foreign_reasons, node_reasons
from jobtasks.core.states import FINAL

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "api.md").read_text()


@pytest.mark.rule("R31")
def test_every_code_is_on_the_page() -> None:
    """Those that the program writes are those of the table."""
    source = "".join(map(inspect.getsource, (explain, foreign_reasons, node_reasons)))
    written = set(re.findall(r'\bReason\(\s*"(\w+)"', source))
    written |= {f"job_{state.value.lower()}" for state in FINAL} | node_reasons.LIFTS.keys()
    table = PAGE.split("## Reasons")[1].split("\n## ")[0].split("| code |")[1]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert written == set(re.findall(r"`(\w+)`", " ".join(cells)))


def test_every_obstacle_has_its_words() -> None:
    """What keeps a node from taking a task, and what lifts it."""
    assert node_reasons.WORDS.keys() == node_reasons.LIFTS.keys()
