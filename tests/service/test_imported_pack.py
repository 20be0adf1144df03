"""A pack that comes with its job: nobody has it before all has come, and nothing stays else."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from jobtasks.core.errors import Invalid, TooLarge, Unavailable
from jobtasks.core.packs import YOUNG_SECONDS
from jobtasks.service import packs as module
from jobtasks.service.imported_pack import ImportedPack
from jobtasks.service.packs import Limits, Packs

DATA = b"pack" * 5000
HASH = hashlib.sha256(DATA).hexdigest()
LIMITS = Limits(2, 30_000)


@pytest.fixture
def packs(tmp_path: Path) -> Packs:
    return Packs(tmp_path, LIMITS)


def coming(packs: Packs) -> ImportedPack:
    """Return one of which all bytes have come."""
    found = ImportedPack(packs, HASH, len(DATA))
    found.write(DATA[:7])
    found.write(DATA[7:])
    return found


def test_it_has_its_name_at_the_end(packs: Packs, tmp_path: Path) -> None:
    """And not before; two imports at once come to one file."""
    first, second = coming(packs), coming(packs)
    assert not packs.keep(HASH)
    first.keep()
    second.keep()
    assert [path.name for path in tmp_path.iterdir()] == [f"{HASH}.tar"]
    assert packs.path_of(HASH).read_bytes() == DATA


def test_what_is_given_up_leaves_nothing(packs: Packs, tmp_path: Path) -> None:
    """Cut off, another than the job's, or too large."""
    coming(packs).remove()
    wrong = ImportedPack(packs, HASH, 3)
    with pytest.raises(Invalid, match="not the job's"):
        wrong.write(b"abc")
    wrong.remove()
    with pytest.raises(TooLarge):
        ImportedPack(packs, HASH, packs.file_bytes_max + 1)
    assert list(tmp_path.iterdir()) == []


def test_the_rest_of_the_job_may_take_long(packs: Packs, tmp_path: Path) -> None:
    """What has no name yet, or no job, is not taken for left over meanwhile."""
    long_ago = time.time() - 2 * YOUNG_SECONDS
    slow = coming(packs)
    (unnamed,) = tmp_path.iterdir()
    os.utime(unnamed, (long_ago, long_ago))
    slow.hear()
    module.remove_unfinished(tmp_path)
    slow.keep()
    again = coming(packs)
    os.utime(packs.path_of(HASH), (long_ago, long_ago))
    again.hear()
    assert module.kept(tmp_path)[0].idle_seconds < YOUNG_SECONDS
    packs.path_of(HASH).unlink()
    with pytest.raises(Unavailable, match="import it again"):
        again.keep()


def test_where_none_are_sent_none_is_kept(tmp_path: Path) -> None:
    """It is checked all the same."""
    off = Packs(tmp_path, Limits(0, 10))
    coming(off).keep()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Invalid):
        ImportedPack(off, HASH, 3).write(b"abc")
