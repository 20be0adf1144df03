"""docs/explanation/states.md shows the states and the ways between them that there are."""

from __future__ import annotations

import re

import pytest
from tests.docs.pages import ROOT

from jobtasks.core.retry import Cause
from jobtasks.core.states import JOB_FOLLOWERS, AttemptState, JobState, NodeState, TaskState

PAGE = (ROOT / "docs" / "explanation" / "states.md").read_text()
RETRIED = {JobState.FAILED, JobState.CANCELLED}
"""From where the method `retry` leads to Queued (R17, R23)."""


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


@pytest.mark.rule("R17")
def test_ways_of_a_job_are_those_of_the_rules() -> None:
    """The table says what follows what; the picture has every state."""
    rows = re.findall(r"^\| (\w+) \|(.*)\|$", section("A job"), re.MULTILINE)
    shown = {JobState(old): words(rest) for old, rest in rows if old != "from"}
    followers = {old: set(map(str, new)) for old, new in JOB_FOLLOWERS.items()}
    for state in RETRIED:
        followers[state] |= {"Queued", "by", "retry"}
    assert shown == followers
    picture = section("A job").split("```")[1]
    assert set(map(str, JobState)) <= words(picture)
    assert "retry" in words(picture)


@pytest.mark.parametrize(
    ("title", "states"),
    [
        ("A task", [state.word for state in TaskState]),
        ("An attempt", [state.word for state in AttemptState]),
    ],
)
def test_pictures_have_every_state(title: str, states: list[str]) -> None:
    """Beside what is no state of its own."""
    text = section(title)
    assert set(states) <= words(text.split("```")[1])
    (sentence,) = re.findall(r"On the wire `state` is ([^.]+)\.", text)
    assert re.findall(r"`(\w+)`", sentence) == states


def test_every_state_of_a_node_is_named_here_and_explained_there() -> None:
    """The table is on the page for administrators."""
    states = set(map(str, NodeState))
    assert set(re.findall(r"`(\w+)`", section("A node").split(":")[0])) == states
    there = (ROOT / "docs" / "how-to" / "nodes.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \| ", there, re.MULTILINE)) == states


@pytest.mark.rule("R14")
def test_every_cause_is_on_the_page() -> None:
    """What ended an attempt, and what that costs."""
    cells = re.findall(r"^\| (`.*?`) \|", section("An attempt"), re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(Cause)
