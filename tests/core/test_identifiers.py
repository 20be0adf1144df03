"""UUIDs grow and are unique; tokens name their attempt and cannot be guessed (R6, R32, R41)."""

from __future__ import annotations

import hmac
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtasks.core.identifiers import (
    JOB_SHIFT,
    TYPES,
    UuidMaker,
    attempt_of_token,
    attempt_token,
    base36,
    consecutive,
    is_uuid,
    make_token,
    task_id,
    token_hash,
)

NOW = 1_700_000_000_000_000


def maker(seed: int = 1) -> UuidMaker:
    """Return a maker with its own randomness."""
    return UuidMaker("zzzzz", random.Random(seed).randrange)


@given(number=st.integers(0, 36**15 - 1))
def test_base36(number: int) -> None:
    """Of fixed width, and back."""
    text = base36(number, 15)
    assert len(text) == 15
    assert int(text, 36) == number


@given(start=st.integers(0, 36**8), count=st.integers(0, 200))
def test_consecutive_numbers(start: int, count: int) -> None:
    """As base36 would write them one by one."""
    assert consecutive(start, count, 15) == [base36(start + n, 15) for n in range(count)]


@pytest.mark.rule("R41")
@pytest.mark.parametrize("kind", TYPES)
def test_the_form_of_uuids(kind: str) -> None:
    """Prefix, kind, 15 digits or lower-case letters."""
    uuid = maker().make(kind, NOW)
    assert re.fullmatch(rf"zzzzz-{TYPES[kind]}-[0-9a-z]{{15}}", uuid)
    assert is_uuid(uuid) and is_uuid(uuid, kind)
    assert not any(is_uuid(uuid, other) for other in TYPES if other != kind)


@pytest.mark.parametrize("text", ["", "x", "zzzzz-8i9sb-00000000000000", "ZZZZZ-8i9sb-" + "0" * 15])
def test_what_is_no_uuid(text: str) -> None:
    """Too short, capitals, a newline at the end."""
    assert not is_uuid(text)
    assert not is_uuid("zzzzz-8i9sb-" + "0" * 15 + "\n")


@given(
    calls=st.lists(
        st.tuples(st.integers(-(10**7), 10**7), st.integers(1, 50)), min_size=1, max_size=20
    ),
    seed=st.integers(0, 1000),
)
def test_uuids_grow_and_are_unique(calls: list[tuple[int, int]], seed: int) -> None:
    """Also when the clock steps back, and within one millisecond."""
    uuids = maker(seed)
    now = NOW
    made: list[str] = []
    for step, count in calls:
        now += step
        made += uuids.make_many("job_task", now, count)
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(is_uuid(uuid, "job_task") for uuid in made)


def test_uuids_of_later_milliseconds_are_larger() -> None:
    """Whatever randomness each maker has: an index over them grows at its end."""
    earlier = [maker(seed).make("job", NOW) for seed in range(20)]
    later = [maker(seed).make("job", NOW + 1000) for seed in range(20)]
    assert max(earlier) < min(later)
    assert len(set(earlier)) == 20


@pytest.mark.rule("R6")
@given(job=st.integers(1, 2**30), qsequence=st.integers(0, 2**32 - 1))
def test_row_ids_keep_tasks_of_a_job_together(job: int, qsequence: int) -> None:
    """In order of arrival; both numbers can be read from it, and 64 bits hold it."""
    row = task_id(job, qsequence)
    assert (row >> JOB_SHIFT, row & 0xFFFFFFFF) == (job, qsequence)
    assert row < 2**63


@pytest.mark.rule("R32")
@given(attempt=st.integers(1, 16**11 - 1), key=st.binary(min_size=1, max_size=100))
def test_attempt_tokens(attempt: int, key: bytes) -> None:
    """The same for the same attempt, naming it, of letters and digits, other with another key."""
    token = attempt_token(key, attempt)
    assert token[12:] == hmac.digest(key, f"attempt {attempt}".encode(), "sha256").hex()[:38]
    assert attempt_of_token(token) == attempt
    assert re.fullmatch(r"[0-9a-z]{50}", token)
    assert token[12:] != attempt_token(b"other key", attempt)[12:]
    assert token[12:] != attempt_token(key, attempt + 1)[12:]


@pytest.mark.rule("R32")
@given(text=st.text(max_size=60))
def test_other_texts_name_no_attempt(text: str) -> None:
    """Any text may come as a token; none makes an error."""
    found = attempt_of_token(text)
    assert found is None or re.fullmatch(r"a[0-9a-f]{49}", text)


@pytest.mark.rule("R32")
def test_peoples_tokens() -> None:
    """50 characters, never of an attempt; stored as a hash that does not hold them."""
    below = random.Random(3).randrange
    tokens = {make_token(below) for _ in range(100)}
    assert len(tokens) == 100
    for token in tokens:
        assert re.fullmatch(r"u[0-9a-z]{49}", token)
        assert attempt_of_token(token) is None
        assert token.encode() not in token_hash(token)
    assert len({token_hash(token) for token in tokens}) == 100
