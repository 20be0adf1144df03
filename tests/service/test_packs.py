"""Directories of scripts become packs: what is in them, what is not, and what it costs."""

from __future__ import annotations

import errno
import os
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobtasks.core.errors import Unavailable
from jobtasks.service import packs as module
from jobtasks.service.packs import Limits, Packs
from jobtasks.testing.service import LocalService

LIMITS = Limits(50, 10_000)


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A directory with a script and what it needs, changed long ago."""
    root = tmp_path / "scripts"
    (root / "lib").mkdir(parents=True)
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o700)
    (root / "lib" / "data").write_text("data")
    return root


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "kept"
    path.mkdir()
    return path


@pytest.fixture
def packs(kept: Path, monkeypatch: pytest.MonkeyPatch) -> Packs:
    # What a test has just written is old enough to be believed.
    monkeypatch.setattr(module, "STEADY_NANOSECONDS", -(10**12))
    return Packs(kept, LIMITS)


def noting(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """Return what a function of the module is called with from now on."""
    calls: list[Any] = []
    function = getattr(module, name)

    def noted(*given: Any) -> Any:
        calls.append(given)
        return function(*given)

    monkeypatch.setattr(module, name, noted)
    return calls


def hash_of(packs: Packs, root: Path, script: str = "run") -> str:
    found = packs.pack(script, str(root))
    assert found.hash is not None, found.remark
    return found.hash


def members(packs: Packs, root: Path) -> dict[str, tuple[bytes, int, str]]:
    with tarfile.open(packs.path_of(hash_of(packs, root))) as archive:
        return {m.name: (m.type, m.mode, m.linkname) for m in archive.getmembers()}


def test_the_same_content_is_the_same_pack(packs: Packs, scripts: Path, tmp_path: Path) -> None:
    """Wherever it lies, whoever it belongs to, whenever it was written; one file is kept."""
    other = tmp_path / "elsewhere"
    (other / "lib").mkdir(parents=True)
    (other / "lib" / "data").write_text("data")
    (other / "run").write_text("#!/bin/sh\n")
    (other / "run").chmod(0o755)
    os.utime(other / "run", (1, 1))
    first = hash_of(packs, scripts)
    assert hash_of(packs, other) == first
    assert [pack.hash for pack in module.kept(packs.path_of(first).parent)] == [first]
    (other / "run").chmod(0o644)
    assert packs.pack("run", str(other)).hash != first, "an executable file is another"


def test_what_is_in_a_pack(packs: Packs, scripts: Path) -> None:
    """Files, directories, links that stay; nothing hidden, nothing that leads out, no pipes."""
    for name in (".git", "__pycache__", "empty"):
        (scripts / name).mkdir()
    (scripts / ".git" / "config").write_text("secret")
    (scripts / "lib" / ".env").write_text("secret")
    (scripts / "stays").symlink_to("lib/data")
    (scripts / "lib" / "up").symlink_to("../run")
    (scripts / "out").symlink_to("../secret")
    (scripts / "absolute").symlink_to(scripts / "run")
    os.mkfifo(scripts / "pipe")
    assert members(packs, scripts) == {
        "empty": (tarfile.DIRTYPE, 0o755, ""),
        "lib": (tarfile.DIRTYPE, 0o755, ""),
        "lib/data": (tarfile.REGTYPE, 0o644, ""),
        "lib/up": (tarfile.SYMTYPE, 0o644, "../run"),
        "run": (tarfile.REGTYPE, 0o755, ""),
        "stays": (tarfile.SYMTYPE, 0o644, "lib/data"),
    }


def test_names_of_any_bytes(packs: Packs, scripts: Path) -> None:
    """What is no text in UTF-8, and longer than a header of tar holds."""
    strange = os.fsencode(scripts) + b"/\xff\n" + b"x" * 150
    with open(strange, "wb"):
        assert len(members(packs, scripts)) == 4


@pytest.mark.parametrize(
    ("make", "script", "remark"),
    [
        (lambda root: None, ".hidden", "the script is among what is not sent"),
        (lambda root: (root / "l").symlink_to("/bin/sh"), "l", "among what is not sent"),
        (lambda root: (root / "big").write_bytes(b"x" * 10_001), "run", "more than 0.0095"),
        (lambda root: [(root / f"{n}").touch() for n in range(50)], "run", "more than 50 files"),
    ],
)
def test_what_is_not_packed_says_why(
    packs: Packs, scripts: Path, make: Callable[[Path], object], script: str, remark: str
) -> None:
    """It is no error: the job runs where the directory is."""
    make(scripts)
    found = packs.pack(script, str(scripts))
    assert found.hash is None
    assert found.remark is not None and remark in found.remark


def test_other_reasons(packs: Packs, scripts: Path, kept: Path) -> None:
    """No directory, one of the server's own, packing turned off."""
    assert packs.pack("run", "/no/such").remark == "the server has no such directory"
    assert Packs(kept, Limits(0, 1)).pack("run", str(scripts)).remark == (
        "the server sends no directories"
    )
    own = Packs(kept, LIMITS, (scripts,))
    assert own.pack("run", str(scripts)).remark == "the server keeps its own files there"
    above = Packs(kept, LIMITS, (scripts / "lib",))
    assert set(members(above, scripts)) == {"run"}


def test_a_walk_stops_at_the_limit(
    packs: Packs, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much there is: no more is looked at than may be sent."""
    for number in range(200):
        (scripts / f"d{number}").mkdir()
    looked_at = noting(monkeypatch, "_entry")
    assert packs.pack("run", str(scripts)).hash is None
    assert len(looked_at) == LIMITS.files + 1


def test_an_unchanged_directory_is_not_read_again(
    packs: Packs, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand jobs read it once; whatever changes is seen; a pack that is gone is made anew."""
    reads = noting(monkeypatch, "_content")
    first = hash_of(packs, scripts)
    assert {hash_of(packs, scripts) for _ in range(20)} == {first}
    assert [entry.name for _, entry in reads] == ["lib/data", "run"]
    packs.path_of(first).unlink()
    assert hash_of(packs, scripts) == first and len(reads) == 4
    seen = (scripts / "lib" / "data").stat()
    (scripts / "lib" / "data").write_text("date")
    os.utime(scripts / "lib" / "data", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert hash_of(packs, scripts) != first, "of the same size and time, and yet another"


def test_what_has_just_changed_is_read_again(kept: Path, scripts: Path) -> None:
    """It may change once more within a tick of the clock of files."""
    packs = Packs(kept, LIMITS)
    hash_of(packs, scripts)
    assert packs._known == {}


def test_a_directory_that_changes_while_it_is_read(
    packs: Packs, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read anew; when that never ends it is not packed."""
    write = module.write
    changes = iter(["longer", "longer than that"])

    def changing(*given: object) -> str:
        if (text := next(changes, None)) is not None:
            (scripts / "lib" / "data").write_text(text)
        return write(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write", changing)
    found = hash_of(packs, scripts)
    with tarfile.open(packs.path_of(found)) as archive:
        data = archive.extractfile("lib/data")
        assert data is not None and data.read() == b"longer than that"
    (scripts / "lib" / "data").write_text("")
    changes = iter("a" * n for n in range(20, 30))
    assert packs.pack("run", str(scripts)).remark == (
        "it changed all the time while the server read it"
    )
    assert not [path for path in packs.path_of(found).parent.iterdir() if path.suffix != ".tar"]


def test_a_full_disk_is_a_pause(
    packs: Packs, scripts: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is not made without its pack: the call is refused, for a while."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="No space left"):
        packs.pack("run", str(scripts))
    assert list(kept.iterdir()) == []


def test_many_at_once_make_one(packs: Packs, scripts: Path, kept: Path) -> None:
    """Threads that pack the same directory leave one file, and nothing else."""
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(hash_of(packs, scripts))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert [path.name for path in kept.iterdir()] == [f"{found[0]}.tar"]


def test_a_pack_that_is_gone_is_made_again(packs: Packs, scripts: Path, tmp_path: Path) -> None:
    """Out of whichever directory still holds the same; of another content never."""
    first = hash_of(packs, scripts)
    packs.path_of(first).unlink()
    other = tmp_path / "other"
    other.mkdir()
    (other / "run").write_text("x")
    assert not packs.again(first, ["/no/such", str(other)])
    assert packs.again(first, ["/no/such", str(other), str(scripts)])
    assert packs.keep(first)
    assert not packs.keep("../" + first)


def test_damage_and_leftovers(packs: Packs, scripts: Path, kept: Path) -> None:
    """A pack is what its name says; what a crash left is removed after a while."""
    first = hash_of(packs, scripts)
    assert module.damaged(kept) == []
    with packs.path_of(first).open("ab") as file:
        file.write(b"x")
    assert module.damaged(kept) == [first]
    for name, age in (("tmpold", 1), ("tmpnew", None)):
        (kept / name).touch()
        if age:
            os.utime(kept / name, (age, age))
    module.remove_unfinished(kept)
    assert sorted(path.name for path in kept.iterdir()) == [f"{first}.tar", "tmpnew"]


def test_which_jobs_have_a_pack(service: LocalService) -> None:
    """And whether one of them is not over: told by two statements."""
    from jobtasks.core.packs import Pack
    from jobtasks.service import jobs, retention

    body = {"script": "run", "script_version": "/srv/a"}
    one, two = "1" * 64, "2" * 64
    made = [
        service.call(jobs.create, {**body, "priority": n}, pack=Pack(pack, None))
        for n, pack in enumerate((one, one, two))
    ]
    assert [job.script_hash for job in made] == [one, one, two]
    service.call(jobs.cancel, made[2].uuid, None)
    asked = [one, two, "3" * 64]
    assert service.run(retention.packs_of_jobs, asked) == {one: True, two: False}
    assert service.run(retention.directories_of_pack, one) == ["/srv/a"]
    again = service.call(jobs.retry, made[2].uuid, None, None, pack=Pack("4" * 64, None))
    assert again.script_hash == "4" * 64
    changed = service.call(
        jobs.update, again.uuid, {"script": "b"}, whole=False, pack=Pack(None, "why")
    )
    assert changed.script_hash is None
