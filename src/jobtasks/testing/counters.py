"""Counters counted again from rows, and what must hold between rows whatever happened."""

from __future__ import annotations

from jobtasks.service.soundness import contradictions
from jobtasks.store.checks import load_checks

counter_problems = contradictions
load_problems = load_checks
__all__ = ["counter_problems", "load_problems"]
