"""What scopes allow, and which lists of them are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtasks.core.errors import Invalid
from jobtasks.core.scopes import allows, call_of, parse_scopes

JOBS = "/arvados/v1/jobs"
PIECES = st.sampled_from(["GET", "POST", " ", "/", "jobs", "jobs/", "all", "j"])


@pytest.mark.parametrize(
    ("scope", "call", "expected"),
    [
        ("all", f"DELETE {JOBS}/x", True),
        (f"GET {JOBS}", f"GET {JOBS}", True),
        (f"GET {JOBS}", f"GET {JOBS}/x", False),
        (f"GET {JOBS}/", f"GET {JOBS}", False),
        (f"GET {JOBS}/", f"GET {JOBS}/x", True),
        (f"GET {JOBS}/", f"POST {JOBS}/x", False),
        (f"GET {JOBS}", f"GET {JOBS}_tasks", False),
        ("GET /", f"GET {JOBS}/x/output", True),
        ("GET /", f"POST {JOBS}", False),
        ("GET /", "all", False),
        (f"GET {JOBS}/", "GET /", False),
        ("GET /", f"GET {JOBS}/", True),
    ],
)
def test_what_a_scope_allows(scope: str, call: str, expected: bool) -> None:
    """All; exactly one call; with a slash at its end every call that begins so. Never more."""
    assert allows([scope], call) == expected
    assert not allows([], call)


@given(st.lists(PIECES).map("".join), st.lists(PIECES).map("".join), st.lists(PIECES).map("".join))
def test_what_covers_a_scope_covers_what_it_allows(own: str, given_away: str, call: str) -> None:
    """A token that may give a scope away may itself do all that this scope allows."""
    if allows([own], given_away) and allows([given_away], call):
        assert allows([own], call)


def test_head_is_get() -> None:
    """Other methods are what they are."""
    assert call_of("HEAD", JOBS) == call_of("GET", JOBS) == f"GET {JOBS}"
    assert call_of("PUT", JOBS) == f"PUT {JOBS}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ("all",)),
        ("", ("all",)),
        ([], ()),
        ('["GET /"]', ("GET /",)),
        (["GET /", "all", "GET /"], ("GET /", "all")),
    ],
)
def test_lists_of_scopes(value: Any, expected: tuple[str, ...]) -> None:
    """A list, or JSON text of one; nothing means all; an empty list allows nothing."""
    assert parse_scopes(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        {},
        3,
        "all",
        "[",
        [1],
        [None],
        ["ALL"],
        ["GET"],
        ["get /"],
        ["HEAD /"],
        ["GET jobs"],
        ["GET  /"],
        ["GET /a b"],
        ["GET /\n"],
        ["GET /\ud800"],
        ["GET /" + "a" * 1000],
        ["all"] * 101,
    ],
)
def test_scopes_that_can_allow_nothing_are_refused(value: Any) -> None:
    """A misspelt scope is found when the token is made, not when it is needed."""
    with pytest.raises(Invalid):
        parse_scopes(value)
