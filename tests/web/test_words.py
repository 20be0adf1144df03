"""How values are said on pages (web/words.py)."""

from __future__ import annotations

import pytest

from jobtasks.web import words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "–"),
        (-1, "0 ms"),
        (0.0415, "42 ms"),
        (1.25, "1.2 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (7384, "2 h 3 min"),
        (90000, "1 d 1 h"),
        (86400 * 400, "400 d"),
    ],
)
def test_durations(seconds: float | None, said: str) -> None:
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("amount", "said"),
    [(None, "–"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (20 * 1024**2, "20 MiB")],
)
def test_sizes(amount: int | None, said: str) -> None:
    assert words.size(amount) == said


def test_memory_is_given_in_kib() -> None:
    assert words.kib(24 * 1024) == "24 MiB"
    assert words.kib(3 * 1024**3) == "3.0 TiB"


def test_parameters_in_a_line() -> None:
    """Names and values without the braces; what is long is cut, what is no JSON stays."""
    assert words.compact('{"sample": "S1", "n": 3, "deep": {"a": [1]}}') == (
        'sample=S1, n=3, deep={"a": [1]}'
    )
    assert words.compact("{}") == words.compact(None) == ""
    assert words.compact('["a", 1]') == '["a", 1]'
    assert words.compact("no json") == "no json"
    assert len(words.compact('{"a": "' + "x" * 500 + '"}')) == 120


def test_ends_of_attempts() -> None:
    assert words.cause("exit", 3, None) == "exit code 3"
    assert words.cause("signal", None, 9) == "signal 9"
    assert words.cause("out_of_memory", None, 9) == "out of memory, signal 9"
    assert words.cause("agent_lost", None, None) == "agent lost"
    assert words.cause(None, None, None) == ""


def test_counts() -> None:
    assert words.count(1234567) == "1\u202f234\u202f567"
    assert words.plural(1, "task") == "1 task"
    assert words.plural(0, "task") == "0 tasks"
    assert words.share(1, 3) == 33.33
    assert words.share(1, 0) == 0.0
