"""What of a script's directory is sent, and when a pack goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobtasks.core.packs import NO_DIRECTORY, Pack, after_retry, is_left_out, is_over_due
from jobtasks.protocol.packs import is_hash, is_inside, leads_inside

HOUR, WEEK = 3600.0, 7 * 86400.0


def test_hidden_and_made_names_are_left_out() -> None:
    """Nobody's business, or made anew on each machine."""
    left_out = [".git", ".env", ".ssh", "__pycache__", "node_modules", "venv"]
    assert all(map(is_left_out, left_out))
    assert not any(map(is_left_out, ["run.py", "lib", "a.b", "venv.py"]))


@pytest.mark.parametrize(
    ("is_known", "is_wanted", "idle", "kept", "goes"),
    [
        (False, False, HOUR - 1, WEEK, False),
        (False, False, HOUR, WEEK, True),
        (True, False, WEEK - 1, WEEK, False),
        (True, False, WEEK, WEEK, True),
        (True, False, 9 * WEEK, 0.0, False),
        (True, True, 9 * WEEK, WEEK, False),
    ],
)
def test_when_a_pack_goes(
    is_known: bool, is_wanted: bool, idle: float, kept: float, goes: bool
) -> None:
    """Never while a job that is not over has it, or a moment after it was asked for."""
    assert is_over_due(is_known, is_wanted, idle, kept) == goes


def test_a_retry_takes_what_is_there_now() -> None:
    """Else what was there before, while that is kept."""
    new, old, none = Pack("b" * 64, None), Pack("a" * 64, None), Pack(None, NO_DIRECTORY)
    assert after_retry(new, old, is_kept=True) == new
    assert after_retry(none, old, is_kept=True) == old
    assert after_retry(none, old, is_kept=False) == none
    assert after_retry(none, Pack(None, None), is_kept=False) == none


def test_names_and_hashes() -> None:
    """One name for each place below the directory."""
    assert all(map(is_inside, ["a", "a/b", "...", "a b/ü"]))
    assert not any(map(is_inside, ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0"]))
    assert is_hash("0" * 64)
    assert not any(map(is_hash, ["", "0" * 63, "0" * 65, "A" * 64, "../" + "0" * 61]))


NAMES = st.sampled_from(["a", "b", "c"])
PARTS = st.lists(st.sampled_from(["a", "b", "c", "..", ".", ""]), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(
    links=st.dictionaries(
        st.lists(NAMES, min_size=1, max_size=3).map("/".join), PARTS.map("/".join), max_size=6
    )
)
def test_links_that_may_stay_lead_nowhere_else(
    tmp_path_factory: pytest.TempPathFactory, links: dict[str, str]
) -> None:
    """However many follow one another: what the system finds is in the directory."""
    root = tmp_path_factory.mktemp("links") / "root"
    root.mkdir()
    for name, target in links.items():
        path = root / name
        above = [root.joinpath(*name.split("/")[:n]) for n in range(1, name.count("/") + 1)]
        if not target or not leads_inside(name, target) or any(map(os.path.islink, above)):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(path):
            path.symlink_to(target)
    for path in sorted(root.rglob("*")):
        assert Path(os.path.realpath(path)).is_relative_to(root), (path, os.readlink(path))
