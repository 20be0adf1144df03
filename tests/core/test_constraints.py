"""What constraints may be, and what holds for a task in the end (R25–R30)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtasks.core.constraints import (
    JOB_RULES,
    LIMIT_RULES,
    RESERVED_RULES,
    TASK_RULES,
    Constraints,
    Needs,
    needs_of,
    parse_job,
    parse_task,
    unknown_names,
)
from jobtasks.core.errors import Invalid

COUNTS = sorted(set(LIMIT_RULES) - {"max_run_seconds", "exclusive", "preload"})
ABSENT: list[Any] = [0, 0.0, "", None, "0", "00"]
GOOD: list[tuple[str, Any, Any]] = [
    *[(name, 7, 7) for name in COUNTS],
    *[(name, "12", 12) for name in COUNTS],
    *[("min_ram_per_task", value, value) for value in (1, 2**53 - 1)],
    *[("max_run_seconds", value, float(value)) for value in (1, 0.5, 10**9)],
    ("max_run_seconds", "90", 90.0),
    *[("exclusive", value, value) for value in (True, False)],
    ("preload", ["numpy"], ("numpy",)),
    ("preload", ["numpy.linalg", "_json"], ("numpy.linalg", "_json")),
    ("preload", [], ()),
]
BAD_COUNTS: list[Any] = [-1, 2**53, 1.5, 1.0, True, False, "-1", "1.5", "many", "٣", [], {}, [1]]
BAD_SECONDS: list[Any] = [-1, 10**9 + 1, "soon", True, [], float("nan")]
BAD_SWITCHES: list[Any] = ["true", 1, "yes", []]
BAD_LISTS: list[Any] = ["numpy", [1], [""], {"a": 1}, 5, ["-x"], ["a b"], ["a..b"], ["./a"]]
BAD: list[tuple[str, Any]] = [
    *[(name, value) for name in COUNTS for value in BAD_COUNTS],
    *[("max_run_seconds", value) for value in BAD_SECONDS],
    *[("exclusive", value) for value in BAD_SWITCHES],
    *[("preload", value) for value in BAD_LISTS],
]


@pytest.mark.rule("R30")
@pytest.mark.parametrize("parse", [parse_job, parse_task])
@pytest.mark.parametrize(("name", "value", "expected"), GOOD)
def test_values_that_count(parse: Any, name: str, value: Any, expected: Any) -> None:
    """Of the right type and range, and digit strings, at both levels."""
    assert getattr(parse({name: value}), name) == expected


@pytest.mark.rule("R30")
@pytest.mark.parametrize("parse", [parse_job, parse_task])
@pytest.mark.parametrize(("name", "value"), BAD)
def test_values_that_do_not(parse: Any, name: str, value: Any) -> None:
    """422 with the constraint's name and what it must be."""
    with pytest.raises(Invalid, match=f"{name} must be"):
        parse({name: value})


@pytest.mark.rule("R30")
@pytest.mark.parametrize("value", ABSENT, ids=repr)
@pytest.mark.parametrize("name", [*COUNTS, "max_run_seconds"])
def test_absent_values(name: str, value: Any) -> None:
    """0, "" and null; also the digit string of 0."""
    assert parse_job({name: value}) == Constraints()
    assert parse_task({name: value}) == Constraints()


@pytest.mark.rule("R30")
@pytest.mark.parametrize("name", JOB_RULES)
@pytest.mark.parametrize("value", [None, "", 0])
def test_every_name_may_be_absent(name: str, value: Any) -> None:
    """Reserved names and the job's own too, at both levels."""
    assert parse_job({name: value}) == parse_task({name: value}) == Constraints()


WORDS = {
    "on_failure": ("finish", "cancel", "continue"),
    "output": ("all", "last"),
    "manager": ("jobtasks", "external"),
}


@pytest.mark.rule("R19", "R20", "R30")
@pytest.mark.parametrize(("name", "words"), WORDS.items())
def test_the_jobs_own_names(name: str, words: tuple[str, ...]) -> None:
    """One of their words on a job; on a task 422, whatever the value."""
    for word in words:
        assert getattr(parse_job({name: word}), name) == word
        with pytest.raises(Invalid, match=f"{name} belongs to the job"):
            parse_task({name: word})
    bad: list[Any] = ["other", words[0].upper(), 1, True, [], {}, [words[0]]]
    for value in bad:
        with pytest.raises(Invalid, match=f"{name} must be one of {words[0]}"):
            parse_job({name: value})


@pytest.mark.rule("R30")
@pytest.mark.parametrize("parse", [parse_job, parse_task])
@pytest.mark.parametrize("name", RESERVED_RULES)
def test_reserved_names(parse: Any, name: str) -> None:
    """Refused until they mean something."""
    with pytest.raises(Invalid, match=f"{name} is not supported"):
        parse({name: 1})


@pytest.mark.rule("R26", "R30")
@pytest.mark.parametrize("parse", [parse_job, parse_task])
def test_max_nodes_below_min_nodes(parse: Any) -> None:
    """422; equal is fine, and so is either alone."""
    with pytest.raises(Invalid, match="max_nodes is below min_nodes"):
        parse({"min_nodes": 3, "max_nodes": 2})
    assert parse({"min_nodes": 3, "max_nodes": 3}) == Constraints(min_nodes=3, max_nodes=3)
    assert parse({"min_nodes": 3}) == Constraints(min_nodes=3)
    assert parse({"max_nodes": 1}) == Constraints(max_nodes=1)


@pytest.mark.rule("R30")
def test_unknown_names_are_kept() -> None:
    """They mean nothing here and are told apart."""
    kept: dict[str, Any] = {"colour": 1, "min_nodes": 2, "docker_image": None, "alpha": []}
    assert parse_job(kept) == Constraints(min_nodes=2)
    assert unknown_names(kept) == ["alpha", "colour"]


@pytest.mark.rule("R30")
def test_all_problems_are_told_at_once() -> None:
    """One sentence each; a long value is shortened."""
    with pytest.raises(Invalid) as problem:
        parse_job({"min_nodes": "x" * 1000, "exclusive": 5, "max_nodes": 2})
    assert len(problem.value.messages) == 2
    assert max(len(message) for message in problem.value.messages) < 120


def test_every_rule_has_a_field() -> None:
    """What is parsed is kept; the two levels have the same names."""
    assert JOB_RULES.keys() == TASK_RULES.keys()
    assert JOB_RULES.keys() - RESERVED_RULES.keys() == set(Constraints.__struct_fields__)


LIMITS = st.builds(
    Constraints,
    **{
        name: st.none() | st.integers(1, 50)
        for name in COUNTS
        if name not in ("min_nodes", "min_ram_mb_per_node")
    },
    max_run_seconds=st.none() | st.floats(1, 9),
    exclusive=st.none() | st.booleans(),
    preload=st.none() | st.tuples(st.sampled_from("ab")),
)
SMALLER = ("max_nodes", "max_tasks_per_node", "max_attempts", "max_run_seconds")
LARGER = {
    "memory_kib": "min_ram_per_task",
    "cores": "min_cores_per_task",
    "node_memory_kib": "min_ram_per_node",
    "node_cores": "min_cores_per_node",
    "node_scratch_mb": "min_scratch_mb_per_node",
}


@pytest.mark.rule("R26", "R27", "R28", "R29", "R30")
@given(job=LIMITS, task=LIMITS)
def test_of_two_limits_the_stricter_holds(job: Constraints, task: Constraints) -> None:
    """The smaller of maxima, the larger of minima, either of switches, both of lists."""
    needs = needs_of(job, task)
    for name in SMALLER:
        values = [value for value in (getattr(job, name), getattr(task, name)) if value]
        assert getattr(needs, name) == min(values, default=0)
    for name, constraint in LARGER.items():
        values = [getattr(level, constraint) or 0 for level in (job, task)]
        assert getattr(needs, name) == max(values)
    assert needs.exclusive == bool(job.exclusive or task.exclusive)
    assert needs.preload == tuple(sorted({*(job.preload or ()), *(task.preload or ())}))
    assert needs_of(task, job) == needs, "but for gangs it does not matter who says it"


@pytest.mark.rule("R25", "R30")
def test_a_jobs_min_nodes_makes_no_gangs() -> None:
    """Only the task's own does."""
    assert needs_of(Constraints(min_nodes=5), Constraints()).nodes == 1
    assert needs_of(Constraints(), Constraints(min_nodes=5)).nodes == 5


@pytest.mark.rule("R29", "R30")
def test_node_memory_in_two_units() -> None:
    """KiB and MiB name the same limit; the larger holds."""
    assert needs_of(Constraints(min_ram_mb_per_node=2), Constraints()).node_memory_kib == 2048
    both = Constraints(min_ram_mb_per_node=2, min_ram_per_node=3000)
    assert needs_of(Constraints(), both).node_memory_kib == 3000


@given(job=LIMITS, task=LIMITS)
def test_a_shape_has_one_text(job: Constraints, task: Constraints) -> None:
    """Equal needs, equal text; the text comes back as it was."""
    needs = needs_of(job, task)
    text = msgspec.json.encode(needs)
    assert msgspec.json.decode(text, type=Needs) == needs
    assert msgspec.json.encode(msgspec.json.decode(text, type=Needs)) == text
