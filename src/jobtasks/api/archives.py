"""A state directory in one file, and back: database, secrets, scripts, what tasks read, logs.

The file is a tar archive. Its last member, ``backup.json``, names every other with its SHA-256: an
archive that was cut off has none, and is refused. The database goes first: a job is on record
before it has files, so no file is missing that the database speaks of.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from jobtasks.api.state_dir import ELSEWHERE, StateDir, refuse_network
from jobtasks.core.errors import Invalid, NotFound, Unavailable
from jobtasks.core.identifiers import UuidMaker, is_uuid
from jobtasks.core.settings import Settings
from jobtasks.protocol.packs import is_hash
from jobtasks.service import attachments, packs, recovery, setup
from jobtasks.service.context import Context, World
from jobtasks.service.disk import sync_directory
from jobtasks.service.log_space import LOG, job_names
from jobtasks.store import snapshots
from jobtasks.store.sqlite import SqliteStore

FORMAT = 1
"""Goes up when an older program would misread a backup."""
MANIFEST = "backup.json"
DATABASE = "jobtasks.db"
PACKS = "scripts"
SECRETS = ("secret.key", "admin.token", "agent.token", "notify.secret")
MEMORY_BYTES = 1024 * 1024
"""What is held in memory of a file that may change while it is read."""
PIECE_BYTES = 1024 * 1024


class Manifest(msgspec.Struct):
    """What ``backup.json`` says."""

    format: int
    made_at: int
    """Unix microseconds."""
    schema: int
    has_logs: bool
    files: dict[str, str]
    """SHA-256 of every member, in hexadecimal."""


class Backup(NamedTuple):
    """What a backup holds."""

    made_at: int
    """Unix microseconds."""
    files: int
    bytes: int
    has_logs: bool


@dataclass
class _Writer:
    archive: tarfile.TarFile
    scratch: Path
    files: dict[str, str]
    size_bytes: int = 0

    def add(self, name: str, source: IO[bytes]) -> None:
        """Add what a file holds now; it may grow or shrink meanwhile."""
        digest = hashlib.sha256()
        with tempfile.SpooledTemporaryFile(MEMORY_BYTES, dir=str(self.scratch)) as whole:
            while piece := source.read(PIECE_BYTES):
                digest.update(piece)
                whole.write(piece)
            self._member(name, whole, whole.tell())
        self.files[name] = digest.hexdigest()

    def add_still(self, name: str, path: Path) -> None:
        """Add a file that nobody changes, however large."""
        with path.open("rb") as file:
            self.files[name] = hashlib.file_digest(file, "sha256").hexdigest()
            self._member(name, file, path.stat().st_size)

    def _member(self, name: str, source: IO[bytes], size: int) -> None:
        source.seek(0)
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = size, 0o600, int(time.time())
        self.archive.addfile(member, source)
        self.size_bytes += size


def back_up(state: Path, target: Path, *, with_logs: bool) -> Backup:
    """Write a state directory into a new file; a server may serve it meanwhile.

    The file is private, for it holds every secret; what was cut off by an error is not left. Beside
    it the disk must have room for a second copy of the database.

    Raises:
        NotFound: no server has ever used the directory.
        Invalid: the target is there already.
        Unavailable: the database cannot be read, or the target not be written.
    """
    require_database(state, "pg_dump backs them up; keep its keys and logs beside that")
    if target.exists():
        raise Invalid(f"{target} is there already: name a new file.")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            made = Path(folder) / "backup"
            backup = _write(state, made, Path(folder) / DATABASE, with_logs)
            made.rename(target)
            sync_directory(target.parent)
        return backup
    except OSError as error:
        raise Unavailable(f"cannot write {target}: {error.strerror or error}") from None


def require_database(state: Path, instead: str) -> None:
    """Raise `NotFound` unless a state directory has records; `instead`: what is done elsewhere."""
    if (state / ELSEWHERE).exists():
        raise NotFound(f"The records of {state} are in PostgreSQL: {instead}.")
    if not (state / DATABASE).exists():
        raise NotFound(f"There is no database in {state}.")


def _write(state: Path, made: Path, database: Path, with_logs: bool) -> Backup:
    made_at = time.time_ns() // 1000
    snapshots.copy(state / DATABASE, database)
    with (
        open(made, "xb", opener=_open_private) as file,
        tarfile.open(fileobj=file, mode="w") as tar,
    ):
        writer = _Writer(tar, made.parent, {})
        writer.add_still(DATABASE, database)
        for name, path in _members(state, with_logs):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as source:
                writer.add(name, source)
        manifest = Manifest(
            FORMAT, made_at, snapshots.schema_version(database), with_logs, dict(writer.files)
        )
        writer.add(MANIFEST, io.BytesIO(msgspec.json.encode(manifest)))
        tar.close()
        file.flush()
        os.fsync(file.fileno())
    return Backup(made_at, len(manifest.files), writer.size_bytes, with_logs)


def _members(state: Path, with_logs: bool) -> Iterator[tuple[str, Path]]:
    """Yield (name in the archive, file) of all that belongs to a backup beside the database."""
    for name in SECRETS:
        yield name, state / name
    with contextlib.suppress(FileNotFoundError):
        for path in sorted((state / "tls").iterdir()):
            if not path.name.startswith("."):
                yield f"tls/{path.name}", path
    for pack in packs.kept(state / PACKS):
        name = f"{PACKS}/{pack.hash}{packs.SUFFIX}"
        yield name, state / name
    for job in sorted(job_names(state / "logs")):
        with contextlib.suppress(FileNotFoundError):
            for path in sorted((state / "logs" / job).iterdir()):
                if path.name == attachments.NAME or (with_logs and path.suffix == LOG):
                    yield f"logs/{job}/{path.name}", path


def restore(source: Path, state: Path, *, anywhere: bool = False) -> Backup:
    """Make a state directory of a backup; a server can serve it then, of no other's past.

    Agents and attempts that lived in it have ended (service/recovery.py). The directory comes about
    as a whole, or not at all.

    Raises:
        NotFound: there is no such backup.
        Invalid: it is no backup, or was cut off or changed; the directory is not empty.
        Unavailable: a server uses the directory, it cannot be written, or the backup is newer than
            this program; it lies on a network file system and `anywhere` is false.
    """
    _refuse_used(state)
    if not anywhere:
        refuse_network(state)
    try:
        state.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{state.name}.", dir=state.parent) as folder:
            made = Path(folder) / "state"
            made.mkdir(mode=0o700)
            backup = _unpack(source, made)
            _begin_anew(made, backup)
            made.rename(state)
            sync_directory(state.parent)
        return backup
    except OSError as error:
        raise Unavailable(f"cannot restore to {state}: {error.strerror or error}") from None


def _refuse_used(state: Path) -> None:
    if not state.exists():
        return
    if (state / "lock").exists():
        # Raises when a server serves it: more worth saying than that it is not empty.
        StateDir(state, anywhere=True).close()
    if not state.is_dir() or any(state.iterdir()):
        raise Invalid(f"{state} is not empty: restore to a new directory.")


def _unpack(source: Path, made: Path) -> Backup:
    try:
        with tarfile.open(source, "r:") as archive:
            found = {member.name: _extract(archive, member, made) for member in archive}
    except FileNotFoundError:
        raise NotFound(f"There is no {source}.") from None
    except tarfile.TarError as error:
        raise Invalid(f"{source} is no backup, or was cut off: {error}") from None
    manifest = _manifest(source, made)
    found.pop(MANIFEST)
    if found != manifest.files:
        changed = {name for name, _ in found.items() ^ manifest.files.items()}
        raise Invalid(f"{source} is damaged: {', '.join(sorted(changed)[:5])}")
    size = sum((made / name).stat().st_size for name in found)
    return Backup(manifest.made_at, len(found), size, manifest.has_logs)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, made: Path) -> str:
    """Write a member whose name a backup may have; return its SHA-256."""
    source = archive.extractfile(member) if member.isreg() and _belongs(member.name) else None
    if source is None:
        raise Invalid(f"A backup holds no {member.name!r}.")
    path = made / member.name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with source, open(path, "xb", opener=_open_private) as file:
        while piece := source.read(PIECE_BYTES):
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _belongs(name: str) -> bool:
    """Return whether a backup may hold a member of this name: nothing leads outside."""
    parts = name.split("/")
    if any(part.startswith(".") or not part for part in parts):
        return False
    if len(parts) == 1:
        return name in (DATABASE, MANIFEST, *SECRETS)
    if parts[0] == "tls":
        return len(parts) == 2
    if parts[0] == PACKS:
        return len(parts) == 2 and is_hash(parts[1].removesuffix(packs.SUFFIX))
    return len(parts) == 3 and parts[0] == "logs" and is_uuid(parts[1], "job")


def _manifest(source: Path, made: Path) -> Manifest:
    path = made / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise Invalid(f"{source} is no backup, or was cut off: it has no {MANIFEST}.") from None
    except msgspec.MsgspecError:
        raise Invalid(f"{source} is damaged: {MANIFEST}") from None
    if manifest.format > FORMAT or manifest.schema > snapshots.newest_version():
        raise Unavailable(f"{source} was made by a newer version of this program.")
    path.unlink()
    return manifest


def _begin_anew(made: Path, backup: Backup) -> None:
    """Bring the database up to date and let it forget whom it believed to live."""
    directory = StateDir(made, anywhere=True)
    with contextlib.closing(directory):
        world = World(
            settings=Settings(),
            uuids=UuidMaker(setup.PREFIX, random.SystemRandom().randrange),
            token_key=directory.secret_key(),
            random=random.random,
            log_dir=directory.logs,
        )
        try:
            store = SqliteStore(directory.database)
        except sqlite3.Error as error:
            raise Invalid(f"The backup's database is damaged: {error}") from None
        with contextlib.closing(store):
            # Later than all that the backup knows, also where this machine's clock is late.
            now = max(time.time_ns() // 1000, backup.made_at)
            store.write(
                lambda tx: recovery.begin_anew(Context(tx, now, world), has_logs=backup.has_logs)
            ).result()


def _open_private(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_CLOEXEC, 0o600)
