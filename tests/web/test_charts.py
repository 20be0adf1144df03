"""Areas of what was taken over time (web/charts.py)."""

from __future__ import annotations

from jobtasks.web.charts import steps


def test_a_value_holds_until_the_next() -> None:
    assert steps([(0, 0.0), (50, 1.0), (75, 0.5)], 0, 100) == (
        "M0.0 100.0H500.0V0.0H750.0V50.0H1000V100H0.0Z"
    )


def test_what_is_outside_is_drawn_at_the_border() -> None:
    assert steps([(-50, 0.25), (50, 2.0)], 0, 100) == "M0.0 75.0H500.0V0.0H1000V100H0.0Z"


def test_nothing_is_nothing() -> None:
    assert steps([], 0, 100) == ""
    assert steps([(0, 1.0)], 100, 100) == ""
