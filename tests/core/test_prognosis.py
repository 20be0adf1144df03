"""When a job may be over (core/prognosis.py)."""

from __future__ import annotations

from jobtasks.core.prognosis import DONE_MIN, ELAPSED_MIN, expected_end

SECOND = 1_000_000


def test_a_job_goes_on_at_its_pace() -> None:
    """Ten tasks in twenty seconds: thirty more take a minute."""
    assert expected_end(0, 20 * SECOND, done=10, left=30) == 80 * SECOND


def test_nothing_is_said_too_early() -> None:
    """Not before it has started, of few complete tasks, or of a moment; nor when none is left."""
    assert expected_end(None, 20 * SECOND, 10, 30) is None
    assert expected_end(0, 20 * SECOND, DONE_MIN - 1, 30) is None
    assert expected_end(0, ELAPSED_MIN - 1, 10, 30) is None
    assert expected_end(0, 20 * SECOND, 10, 0) is None


def test_the_end_lies_ahead() -> None:
    """However fast it was."""
    assert (expected_end(0, 10 * SECOND, 1_000_000_000, 1) or 0) >= 10 * SECOND
