"""Directories of scripts, packed once for all jobs that have the same (ADR 0025).

A pack is a file under its hash (protocol/packs.py). Everything here looks at file systems, which
may hang: called before a transaction, in a thread, never in it.
"""

# Names as the system calls take and give them:
# ruff: noqa: PTH115, PTH123

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from jobtasks.core import packs as rules
from jobtasks.core.packs import Pack
from jobtasks.protocol.packs import is_hash, leads_inside
from jobtasks.service.disk import room_needed, sync_directory

SUFFIX = ".tar"
WHAT = "The directory of the script"
"""What a disk may refuse."""
KNOWN_MAX = 1000
"""Directories of which it is remembered what they held."""
LOCKS = 16
TRIES = 3
"""A directory that changes while it is read is read anew, so often at most."""
STEADY_NANOSECONDS = 100_000_000
"""What was changed within this time may change again and look the same: clocks of files tick."""
PIECE_BYTES = 256 * 1024
ENTRY_BYTES_MAX = 12 * 1024
"""What a pack holds of an entry beside its content: headers, with a name and a link's target."""
MODE, EXECUTABLE_MODE = 0o644, 0o755


class NotPackedError(Exception):
    """The directory is not sent; the message is why, as part of a sentence."""


class ChangedError(Exception):
    """A file is not as it was when the directory was looked at."""


class Entry(NamedTuple):
    """A file, directory or link below the directory, as it was seen."""

    name: str
    seen: os.stat_result
    target: str = ""
    """Where a link points to."""

    @property
    def stamp(self) -> str:
        """What changes when it does."""
        seen = self.seen
        times = f"{seen.st_mtime_ns} {seen.st_ctime_ns}"
        return f"{self.name!r} {seen.st_mode} {seen.st_size} {seen.st_dev} {seen.st_ino} {times}"


class Known(NamedTuple):
    """What a directory held when it was read."""

    signature: bytes
    hash: str


class Limits(NamedTuple):
    """How large a directory may be."""

    files: int
    """Files, directories and links; 0: none is packed."""
    bytes: int


class Packs:
    """The packs of a server, in a directory of its own.

    `private`: the server's directories, which are never sent. An unchanged directory is looked at,
    but not read again.
    """

    def __init__(self, directory: Path, limits: Limits, private: Sequence[Path] = ()) -> None:
        self._directory = directory
        self._limits = limits
        self._private = tuple(path.resolve() for path in private)
        self._known: dict[str, Known] = {}
        self._locks = [threading.Lock() for _ in range(LOCKS)]

    def path_of(self, pack: str) -> Path:
        """Return where a pack is kept, if it is."""
        return path_in(self._directory, pack)

    @property
    def are_sent(self) -> bool:
        """Whether packs are sent to nodes at all."""
        return self._limits.files > 0

    @property
    def file_bytes_max(self) -> int:
        """How large the file of a directory within the limits can be."""
        headers = self._limits.files * ENTRY_BYTES_MAX + tarfile.RECORDSIZE
        return self._limits.bytes + headers

    def keep(self, pack: str) -> bool:
        """Note that a pack is asked for now; return whether there is one."""
        if not is_hash(pack):
            return False
        try:
            os.utime(self.path_of(pack))
        except FileNotFoundError:
            return False
        return True

    def pack(self, script: str, directory: str) -> Pack:
        """Return the pack of a script's directory, made if there is none yet.

        Raises:
            Unavailable: it cannot be stored.
        """
        try:
            return Pack(self._packed(script, Path(directory)), None)
        except NotPackedError as why:
            return Pack(None, str(why))
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            return Pack(None, f"the server cannot read it: {error.strerror}{where}")

    def again(self, pack: str, directories: Sequence[str]) -> bool:
        """Make a pack that is gone out of one of these directories; return whether one holds it."""
        for directory in directories:
            with contextlib.suppress(NotPackedError, OSError):
                if self._held_by(Path(directory)) == pack:
                    return True
        return False

    def _packed(self, script: str, root: Path) -> str:
        if not self._limits.files:
            raise NotPackedError(rules.OFF)
        if not root.is_dir():
            raise NotPackedError(rules.NO_DIRECTORY)
        if not carries(root, script):
            raise NotPackedError(rules.SCRIPT_LEFT_OUT)
        return self._held_by(root)

    def _held_by(self, root: Path) -> str:
        """Return the hash of what a directory holds."""
        if any(root.resolve().is_relative_to(path) for path in self._private):
            raise NotPackedError(rules.OWN)
        with self._locks[hash(root) % LOCKS]:
            for _ in range(TRIES):
                with contextlib.suppress(ChangedError):
                    return self._look(root)
        raise NotPackedError(rules.UNSTEADY)

    def _look(self, root: Path) -> str:
        began = time.time_ns()
        entries = walk(root, self._limits, self._private)
        signature = signature_of(entries)
        known = self._known.get(str(root))
        if known is not None and known.signature == signature and self.keep(known.hash):
            return known.hash
        found = self._store(root, entries)
        if all(entry.seen.st_ctime_ns < began - STEADY_NANOSECONDS for entry in entries):
            self._remember(str(root), Known(signature, found))
        return found

    def _remember(self, root: str, known: Known) -> None:
        self._known.pop(root, None)
        self._known[root] = known
        while len(self._known) > KNOWN_MAX:
            self._known.pop(next(iter(self._known)), None)

    def _store(self, root: Path, entries: list[Entry]) -> str:
        """Write a pack; it has its name when it is whole and on disk (R37)."""
        fd, name = self.begin()
        try:
            with open(fd, "wb") as file:
                digest = write(root, entries, file)
                if not self.keep(digest):
                    self.take(file, Path(name), digest)
        finally:
            Path(name).unlink(missing_ok=True)
        return digest

    def begin(self) -> tuple[int, str]:
        """Open a file for a pack; return it, and its name until `take`."""
        with room_needed(WHAT):
            return tempfile.mkstemp(dir=self._directory)

    def take(self, file: IO[bytes], made: Path, digest: str) -> None:
        """Have what was written be the pack of this hash."""
        with room_needed(WHAT):
            file.flush()
            os.fsync(file.fileno())
            made.rename(self.path_of(digest))
            sync_directory(self._directory)


def carries(root: Path, script: str) -> bool:
    """Return whether the pack of a directory has a script in it that can be started."""
    path = root
    parts = script.split("/")
    for place, part in enumerate(parts):
        path /= part
        name = "/".join(parts[: place + 1])
        if rules.is_left_out(part):
            return False
        if path.is_symlink() and not leads_inside(name, os.readlink(path)):
            return False
    return True


def walk(root: Path, limits: Limits, private: Sequence[Path] = ()) -> list[Entry]:
    """Return what is below a directory and is sent, in order of names; no link is followed.

    Raises:
        NotPackedError: as soon as that is too much.
        OSError: something cannot be looked at.
    """
    ours = {(seen.st_dev, seen.st_ino) for seen in (path.stat() for path in private)}
    entries: list[Entry] = []
    seen_count = size_bytes = 0
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(root / below) as found:
            for each in found:
                seen_count += 1
                entry = _entry(each, below + each.name)
                if entry is not None and (entry.seen.st_dev, entry.seen.st_ino) not in ours:
                    entries.append(entry)
                    size_bytes += entry.seen.st_size if stat.S_ISREG(entry.seen.st_mode) else 0
                    if stat.S_ISDIR(entry.seen.st_mode):
                        waiting.append(entry.name + "/")
                if seen_count > limits.files:
                    raise NotPackedError(rules.too_many(limits.files))
                if size_bytes > limits.bytes:
                    raise NotPackedError(rules.too_large(limits.bytes))
    return sorted(entries, key=lambda entry: entry.name.split("/"))


def _entry(found: os.DirEntry[str], name: str) -> Entry | None:
    """Return what was found, unless that is left out."""
    if rules.is_left_out(found.name):
        return None
    seen = found.stat(follow_symlinks=False)
    if stat.S_ISLNK(seen.st_mode):
        target = os.readlink(found.path)
        return Entry(name, seen, target) if leads_inside(name, target) else None
    is_plain = stat.S_ISREG(seen.st_mode) or stat.S_ISDIR(seen.st_mode)
    return Entry(name, seen) if is_plain else None


def signature_of(entries: list[Entry]) -> bytes:
    """Return what is the same as long as nothing has changed below a directory."""
    text = "\n".join(entry.stamp for entry in entries)
    return hashlib.blake2b(text.encode(errors="surrogateescape")).digest()


class _Sink(io.RawIOBase):
    """Writes a file and adds up its SHA-256."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._size = 0
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        """Take the next bytes."""
        with room_needed(WHAT):
            self._file.write(data)
        self.digest.update(data)
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        """Return how many bytes there are."""
        return self._size


def write(root: Path, entries: list[Entry], file: IO[bytes]) -> str:
    """Write the pack of a directory; return its hash. The same content is the same pack.

    Raises:
        ChangedError: a file is not as it was seen.
        OSError: one cannot be read.
        Unavailable: the pack cannot be written.
    """
    sink = _Sink(file)
    with tarfile.open(
        fileobj=sink,
        mode="w",
        format=tarfile.GNU_FORMAT,
        encoding="utf-8",
        errors="surrogateescape",
    ) as archive:
        for entry in entries:
            data = _content(root, entry) if stat.S_ISREG(entry.seen.st_mode) else b""
            archive.addfile(_member(entry, len(data)), io.BytesIO(data))
    return sink.digest.hexdigest()


def _member(entry: Entry, size: int) -> tarfile.TarInfo:
    """Return what a pack tells of an entry: nothing that differs between equal directories."""
    member = tarfile.TarInfo(entry.name)
    mode = entry.seen.st_mode
    member.mode = EXECUTABLE_MODE if mode & stat.S_IXUSR else MODE
    member.size = size
    if stat.S_ISDIR(mode):
        member.type, member.mode = tarfile.DIRTYPE, EXECUTABLE_MODE
    elif stat.S_ISLNK(mode):
        member.type, member.mode, member.linkname = tarfile.SYMTYPE, MODE, entry.target
    return member


def _identity(seen: os.stat_result) -> tuple[int, int, int]:
    return seen.st_ino, seen.st_size, seen.st_mtime_ns


def _content(root: Path, entry: Entry) -> bytes:
    # Neither waits for a pipe, nor follows a link, that has taken the file's place.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with open(root / entry.name, "rb", opener=lambda name, _: os.open(name, flags)) as file:
            seen = os.fstat(file.fileno())
            is_same = _identity(seen) == _identity(entry.seen)
            data = file.read(entry.seen.st_size + 1) if is_same else b""
    except FileNotFoundError:
        raise ChangedError from None
    if not is_same or len(data) != entry.seen.st_size:
        raise ChangedError
    return data


def path_in(directory: Path, pack: str) -> Path:
    """Return where a pack is kept in the directory of packs."""
    return directory / (pack + SUFFIX)


def damaged(directory: Path) -> list[str]:
    """Return the packs whose content is not what their names say; all are read."""
    found: list[str] = []
    for pack in kept(directory):
        with (
            contextlib.suppress(FileNotFoundError),
            path_in(directory, pack.hash).open("rb") as file,
        ):
            if hashlib.file_digest(file, "sha256").hexdigest() != pack.hash:
                found.append(pack.hash)
    return found


class Kept(NamedTuple):
    """A pack on disk."""

    hash: str
    bytes: int
    idle_seconds: float
    """Since it was last asked for."""


def kept(directory: Path) -> list[Kept]:
    """Return the packs in a directory."""
    now = time.time()
    found: list[Kept] = []
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(directory.glob("*" + SUFFIX)):
            with contextlib.suppress(FileNotFoundError):
                seen = path.stat()
                if is_hash(path.stem):
                    found.append(Kept(path.stem, seen.st_size, now - seen.st_mtime))
    return found


def remove(directory: Path, packs: Sequence[str]) -> None:
    """Remove these packs."""
    for pack in packs:
        path_in(directory, pack).unlink(missing_ok=True)


def remove_unfinished(directory: Path) -> None:
    """Remove what a crash left of packs that were being written."""
    limit = time.time() - rules.YOUNG_SECONDS
    for path in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.suffix != SUFFIX and path.stat().st_mtime < limit:
                path.unlink()


def read(path: Path) -> Iterator[bytes]:
    """Yield a pack in pieces."""
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
