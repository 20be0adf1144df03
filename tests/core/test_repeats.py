"""Whether a create is the repeat of one whose answer was lost."""

from __future__ import annotations

import pytest

from jobtasks.core.repeats import REQUEST_ID, Decision, Earlier, decide

WINDOW = 900_000_000
THEN = 1_000_000_000


@pytest.mark.rule("R22")
@pytest.mark.parametrize(
    ("earlier", "sent", "later", "decision"),
    [
        (None, b"a", 0, Decision.CREATE),
        (Earlier(b"a", THEN, False), b"a", 0, Decision.MERGE),
        (Earlier(b"a", THEN, False), b"a", WINDOW, Decision.MERGE),
        (Earlier(b"a", THEN, False), b"a", WINDOW + 1, Decision.CREATE),
        (Earlier(b"a", THEN, False), b"b", 1, Decision.DISTRUST),
        (Earlier(b"a", THEN, False), b"b", WINDOW + 1, Decision.CREATE),
        (Earlier(b"a", THEN, True), b"a", 1, Decision.DISTRUST),
        (Earlier(b"a", THEN, True), b"b", 1, Decision.DISTRUST),
        (Earlier(b"a", THEN, True), b"a", WINDOW + 1, Decision.CREATE),
    ],
)
def test_what_a_create_with_an_id_is(
    earlier: Earlier | None, sent: bytes, later: int, decision: Decision
) -> None:
    """A repeat has the same body, comes in time, and its first answer is not known to have
    arrived; one id for two calls is never believed again.
    """
    assert decide(earlier, sent, THEN + later, WINDOW) is decision


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("req-0123456789abcdefghij", True),
        ("req-0123456789abcdefghi", False),
        ("req-0123456789abcdefghijk", False),
        ("req-0123456789ABCDEFGHIJ", False),
        ("0123456789abcdefghijklmn", False),
        ("", False),
    ],
)
def test_which_ids_may_mark_a_repeat(text: str, marks: bool) -> None:
    """``req-`` and twenty characters of 0-9 and a-z, as clients of Arvados make them."""
    assert bool(REQUEST_ID.fullmatch(text)) is marks
