"""Which job is used again in place of a new one, from values (R41)."""

from __future__ import annotations

from typing import Any

import pytest

from jobtasks.core.errors import Invalid
from jobtasks.core.reuse import (
    Candidate,
    Reuse,
    choose,
    own_filters,
    parameters_digest,
    parse_reuse,
    require_named,
)


@pytest.mark.parametrize(
    ("parameters", "digest"),
    [
        ({}, "99914b932bd37a50b983c5e7c90ae93b"),
        (
            {"input": "fa7aeb5140e2848d39b416daeef4ffc5+45", "an_integer": "1"},
            "a5f03bbfb8ba88a2efe4a7852671605b",
        ),
    ],
)
def test_the_digest_is_the_one_that_arvados_has(parameters: dict[str, Any], digest: str) -> None:
    """Compact JSON, objects sorted by key."""
    assert parameters_digest(parameters) == digest


def test_the_digest_knows_types_and_lists_but_no_order_of_keys() -> None:
    """1 is not "1"; a list has its order; keys have none, at any depth."""
    one = parameters_digest({"a": {"x": 1, "y": [1, 2]}, "b": "ä"})
    assert one == parameters_digest({"b": "ä", "a": {"y": [1, 2], "x": 1}})
    for other in ({"x": "1", "y": [1, 2]}, {"x": 1, "y": [2, 1]}):
        assert parameters_digest({"a": other, "b": "ä"}) != one


RUNNING = Candidate("running", "Running", None, 0)
QUEUED = Candidate("queued", "Queued", None, 0)


def complete(uuid: str, output: int | None, truncated: int = 0) -> Candidate:
    return Candidate(uuid, "Complete", output, truncated)


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        ([], None),
        ([RUNNING, QUEUED], "running"),
        ([QUEUED], "queued"),
        ([RUNNING, complete("a", 1)], "a"),
        ([complete("a", 1), complete("b", 1)], "a"),
        ([complete("a", 1), complete("b", 2)], None),
        ([QUEUED, complete("a", 1), complete("b", 2)], "queued"),
        ([complete("a", None)], None),
        ([complete("a", None), complete("b", 2)], "b"),
        ([complete("a", 1, truncated=1)], "a"),
        ([complete("a", 1, truncated=1), complete("b", 1, truncated=1)], None),
    ],
    ids=str,
)
def test_which_candidate_is_chosen(candidates: list[Candidate], chosen: str | None) -> None:
    """The first complete one if all agree, else the first under way, else none."""
    assert choose(candidates) == chosen


@pytest.mark.parametrize(
    ("parameters", "attributes", "wanted"),
    [
        ({}, {}, False),
        ({"find_or_create": "true"}, {}, True),
        ({"find_or_create": 1}, {"no_reuse": True}, False),
        ({"find_or_create": "false"}, {"no_reuse": False}, True),
        ({"find_or_create": "0"}, {}, False),
        ({}, {"no_reuse": None}, False),
        ({"no_reuse": False}, {}, True),
    ],
    ids=str,
)
def test_when_a_job_may_be_used_again(
    parameters: dict[str, Any], attributes: dict[str, Any], wanted: bool
) -> None:
    """`find_or_create` says so, `no_reuse` goes before; neither stays in the job."""
    reuse, rest = parse_reuse(parameters, {**attributes, "script": "x"})
    assert (reuse is not None, rest) == (wanted, {"script": "x"})


@pytest.mark.parametrize(
    "parameters",
    [
        {"find_or_create": "yes"},
        {"find_or_create": None},
        {"find_or_create": ""},
        {"no_reuse": "TRUE"},
        {"minimum_script_version": 5},
        {"exclude_script_versions": [5]},
    ],
    ids=str,
)
def test_parameters_of_the_wrong_type_are_refused(parameters: dict[str, Any]) -> None:
    """422, also when nothing is to be used again."""
    with pytest.raises(Invalid):
        parse_reuse(parameters, {})


def test_conditions_that_follow_from_the_job() -> None:
    """Repository, script and version; a range has the ends that are named."""
    job = {"repository": "r", "script": "s", "script_version": "v2"}
    same = [["repository", "=", "r"], ["script", "=", "s"]]
    assert own_filters(Reuse(), job) == [*same, ["script_version", "=", "v2"]]
    asked = Reuse(minimum="v1", excluded=("v0",))
    assert own_filters(asked, job) == [
        *same,
        ["script_version", "not in", ["v0"]],
        ["script_version", "in", ["v1", "v2"]],
    ]
    given = {"minimum_script_version": "v1", "exclude_script_versions": "v0"}
    assert parse_reuse({"find_or_create": True, "filters": "[]"}, given)[0] == Reuse(
        "[]", "v1", ("v0",)
    )


def test_conditions_must_tell_jobs_apart() -> None:
    """Repository and script are to be named."""
    require_named(iter(["script", "repository", "priority"]))
    with pytest.raises(Invalid, match="repository"):
        require_named(["script"])
