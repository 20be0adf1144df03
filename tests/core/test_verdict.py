"""What a record means at the end, and what the agent writes for commands (R9–R12, R39)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtasks.core.verdict import Verdict, command_record, judge, with_progress

PROGRESS = st.none() | st.floats(0, 1)
SUCCESS = st.none() | st.booleans()


@pytest.mark.rule("R10", "R11", "R12")
@pytest.mark.parametrize(
    ("progress", "success", "verdict"),
    [
        (1.0, True, Verdict.COMPLETE),
        (1, True, Verdict.COMPLETE),
        (0.999999, True, Verdict.TEMPORARY),
        (0.0, True, Verdict.TEMPORARY),
        (None, True, Verdict.TEMPORARY),
        (1.0, None, Verdict.TEMPORARY),
        (0.5, None, Verdict.TEMPORARY),
        (None, None, Verdict.TEMPORARY),
        (1.0, False, Verdict.FAILED),
        (0.0, False, Verdict.FAILED),
        (None, False, Verdict.FAILED),
    ],
)
def test_verdicts(progress: float | None, success: bool | None, verdict: Verdict) -> None:
    """Complete with progress 1.0 and success=true only; success=false is permanent."""
    assert judge(progress, success) is verdict


@pytest.mark.rule("R10")
@given(progress=PROGRESS, success=SUCCESS)
def test_complete_means_both(progress: float | None, success: bool | None) -> None:
    """If, and only if; whatever else was said."""
    complete = judge(progress, success) is Verdict.COMPLETE
    assert complete == (progress == 1.0 and success is True)


@pytest.mark.rule("R39")
@given(exit_code=st.none() | st.integers(0, 255), attempts_left=st.booleans())
def test_commands_are_judged_by_their_exit_code(exit_code: int | None, attempts_left: bool) -> None:
    """0 completes; 111, 75 and no code say nothing; others fail unless attempts are left."""
    verdict = judge(*command_record(exit_code, attempts_left))
    if exit_code == 0:
        assert verdict is Verdict.COMPLETE
    elif exit_code in (None, 75, 111) or attempts_left:
        assert verdict is Verdict.TEMPORARY
    else:
        assert verdict is Verdict.FAILED


@pytest.mark.rule("R9")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"success": True}, {"success": True, "progress": 1.0}),
        ({"success": True, "progress": None}, {"success": True, "progress": 1.0}),
        ({"success": True, "progress": 0.0}, {"success": True, "progress": 0.0}),
        ({"success": True, "output": "x"}, {"success": True, "progress": 1.0, "output": "x"}),
        ({"success": False}, {"success": False}),
        ({"success": None}, {"success": None}),
        ({"progress": None}, {"progress": None}),
    ],
)
def test_success_implies_progress(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """Only success=true does, and only where no progress is given; the argument stays."""
    before = dict(changes)
    assert with_progress(changes) == expected
    assert changes == before
