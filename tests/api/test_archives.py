"""Backups that are none, and directories that are not sound: what is said of them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.databases import Cluster

from jobtasks.api import archives
from jobtasks.api.inspection import inspect
from jobtasks.api.state_dir import SharedDir, StateDir
from jobtasks.core.errors import Invalid, JobTasksError, NotFound, Unavailable
from jobtasks.store import file_systems
from jobtasks.store.postgres import PostgresStore
from jobtasks.store.postgres_snapshots import PostgresBeside
from jobtasks.testing.service import LocalService

JOB = "zzzzz-8i9sb-000000000000001"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with a job that has an attachment, and a log."""
    directory = StateDir(tmp_path / "state")
    service = LocalService(directory.database)
    job = service.new_job()
    service.close()
    directory.secret_key(), directory.token("admin"), directory.token("agent")
    folder = directory.logs / job.uuid
    folder.mkdir()
    (folder / "attachment").write_bytes(b"a" * 3_000_000)
    (folder / "zzzzz-ot0gb-000000000000001.1.log").write_bytes(b"log")
    (folder / "attachment.half").write_bytes(b"unfinished")
    directory.close()
    return directory.path


@pytest.fixture
def backup(state: Path, tmp_path: Path) -> Path:
    """A backup of it, with logs."""
    archives.back_up(state, tmp_path / "backup", with_logs=True)
    return tmp_path / "backup"


def names(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def test_what_a_backup_holds(state: Path, tmp_path: Path) -> None:
    """The database, the secrets, attachments; logs only when asked for."""
    made = archives.back_up(state, tmp_path / "b", with_logs=False)
    back = archives.restore(tmp_path / "b", tmp_path / "new")
    assert (back.made_at, back.files, back.has_logs) == (made.made_at, 5, False)
    (job,) = os.listdir(state / "logs")
    secrets = ["admin.token", "agent.token", "secret.key"]
    assert names(tmp_path / "new") == sorted(
        ["jobtasks.db", "lock", f"logs/{job}/attachment", *secrets]
    )
    for name in (f"logs/{job}/attachment", *secrets):
        assert (tmp_path / "new" / name).read_bytes() == (state / name).read_bytes()
        assert (tmp_path / "new" / name).stat().st_mode & 0o777 == 0o600
    archives.back_up(state, tmp_path / "all", with_logs=True)
    archives.restore(tmp_path / "all", tmp_path / "with-logs")
    assert f"logs/{job}/zzzzz-ot0gb-000000000000001.1.log" in names(tmp_path / "with-logs")


def test_a_backup_does_not_replace_another(state: Path, backup: Path, tmp_path: Path) -> None:
    """And one that fails leaves nothing behind."""
    before = backup.read_bytes()
    with pytest.raises(Invalid, match="is there already"):
        archives.back_up(state, backup, with_logs=False)
    assert backup.read_bytes() == before
    with pytest.raises(NotFound, match="no database"):
        archives.back_up(tmp_path / "nowhere", tmp_path / "b", with_logs=False)
    with pytest.raises(Unavailable, match="cannot write"):
        archives.back_up(state, tmp_path / "missing" / "b", with_logs=False)
    (state / "jobtasks.db").write_bytes(os.urandom(20_000))
    with pytest.raises(Unavailable, match="cannot read"):
        archives.back_up(state, tmp_path / "b", with_logs=False)
    assert sorted(os.listdir(tmp_path)) == ["backup", "state"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.98])
def test_a_backup_that_was_cut_off_is_refused(backup: Path, tmp_path: Path, share: float) -> None:
    """Wherever it was cut; nothing comes about."""
    os.truncate(backup, int(backup.stat().st_size * share))
    with pytest.raises(Invalid, match=r"cut off|damaged"):
        archives.restore(backup, tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["backup", "state"]


def test_a_changed_backup_is_refused(backup: Path, tmp_path: Path) -> None:
    """One letter of one file."""
    content = backup.read_bytes()
    place = content.index(b"a" * 1000) + 500
    backup.write_bytes(content[:place] + b"b" + content[place + 1 :])
    with pytest.raises(Invalid, match=r"is damaged: logs/.*/attachment"):
        archives.restore(backup, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "name",
    [
        *("../outside", "/etc/passwd", "other", "logs/../../outside", ".hidden", "tls/a/b"),
        *("logs/x/y", f"logs/{JOB}/.."),
    ],
)
def test_nothing_leads_outside(tmp_path: Path, name: str) -> None:
    """A member that no backup has."""
    with tarfile.open(tmp_path / "bad", "w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(Invalid, match="A backup holds no"):
        archives.restore(tmp_path / "bad", tmp_path / "new")
    assert os.listdir(tmp_path) == ["bad"]


def test_a_link_is_no_member(tmp_path: Path) -> None:
    """Not even by the name of a file that belongs there."""
    with tarfile.open(tmp_path / "bad", "w") as archive:
        link = tarfile.TarInfo("secret.key")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(Invalid, match="A backup holds no"):
        archives.restore(tmp_path / "bad", tmp_path / "new")


def test_what_is_no_backup(tmp_path: Path) -> None:
    """Another file; none; an archive of a newer version."""
    (tmp_path / "text").write_text("words\n" * 1000)
    with pytest.raises(Invalid, match="is no backup"):
        archives.restore(tmp_path / "text", tmp_path / "new")
    with pytest.raises(NotFound):
        archives.restore(tmp_path / "missing", tmp_path / "new")
    manifest = {"format": 99, "made_at": 0, "schema": 1, "has_logs": False, "files": {}}
    content = json.dumps(manifest).encode()
    with tarfile.open(tmp_path / "newer", "w") as archive:
        member = tarfile.TarInfo(archives.MANIFEST)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    with pytest.raises(Unavailable, match="newer version"):
        archives.restore(tmp_path / "newer", tmp_path / "new")


def test_no_backup_is_restored_to_a_network(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the caller insists."""
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 0:9 / {tmp_path} rw - lustre host:/ rw\n")
    monkeypatch.setattr(file_systems, "MOUNTS", table)
    with pytest.raises(Unavailable, match=r"network file system \(lustre\)"):
        archives.restore(backup, tmp_path / "new")
    archives.restore(backup, tmp_path / "new", anywhere=True)
    (problem,) = inspect(tmp_path / "new").problems
    assert "network file system (lustre)" in problem


def spoil_counter(state: Path) -> None:
    service = LocalService(state / "jobtasks.db")
    service.rows("UPDATE tally SET done = done + 1")
    service.close()


def spoil_pages(state: Path) -> None:
    path = state / "jobtasks.db"
    content = bytearray(path.read_bytes())
    # The entries of an index, not its page's head: rows are missing from it.
    content[9 * 4096 + 3900 : 10 * 4096] = bytes(196)
    path.write_bytes(content)


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a counter": (spoil_counter, "counters of a job that differ"),
    "a page": (spoil_pages, "is damaged"),
    "no database": (lambda state: (state / "jobtasks.db").write_bytes(b"x" * 9999), "cannot read"),
    "a secret": (lambda state: (state / "secret.key").unlink(), "is missing or empty"),
    "an open secret": (lambda state: (state / "admin.token").chmod(0o644), "chmod 600"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_wrong_is_found(state: Path, name: str) -> None:
    """Each kind of damage, named in a sentence; a directory that is well has none."""
    assert inspect(state).problems == []
    spoil, words = SPOILED[name]
    spoil(state)
    problems = inspect(state).problems
    assert any(words in problem for problem in problems), problems


def test_left_over_files_are_no_damage(state: Path) -> None:
    """They are counted, and told with what removes them."""
    folder = state / "logs" / JOB
    folder.mkdir()
    (folder / "attachment").write_bytes(b"1234")
    found = inspect(state)
    assert (found.problems, found.left_over) == ([], (1, 4))
    assert "jobtasks admin gc" in found.notes[0]


@pytest.mark.rule("R37")
def test_records_in_postgresql_are_looked_through(tmp_path: Path, postgres: Cluster) -> None:
    """They are named; keys and logs are where all servers have them."""
    address, shared = postgres.new_database(), SharedDir(tmp_path / "shared")
    shared.secret_key()
    with contextlib.closing(StateDir(tmp_path / "state")) as directory:
        directory.use_elsewhere()
        directory.take_tokens(shared)
    with pytest.raises(NotFound, match="name it with --database"):
        inspect(directory.path)
    database = PostgresBeside(address)
    service = LocalService(store=PostgresStore(address))
    service.started_job()
    service.close()
    assert inspect(directory.path, database, shared.path).problems == []
    postgres.execute("UPDATE tally SET done = done + 1", address)
    (problem,) = inspect(directory.path, database, shared.path).problems
    assert "counters of a job that differ" in problem
    postgres.execute("DROP SCHEMA public CASCADE", address)
    (problem,) = inspect(directory.path, database, shared.path).problems
    assert problem.startswith("no server has ever used database ")
    away = PostgresBeside("postgresql://someone:hidden@127.0.0.1:1/none")
    (problem,) = inspect(directory.path, away, shared.path).problems
    assert problem.startswith("cannot read database none: ")
    assert "hidden" not in problem


def test_a_directory_without_a_server(tmp_path: Path) -> None:
    """There is nothing to look at."""
    with pytest.raises(JobTasksError, match="no database"):
        inspect(tmp_path)
