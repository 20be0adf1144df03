"""Unpacks the directory of a script, a little at a time, and trusts nothing that the pack says."""

# Names and modes as the system calls take them:
# ruff: noqa: PTH101, PTH102, PTH118, PTH211

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from typing import IO

from jobtasks.protocol.packs import is_inside, leads_inside

PIECE_BYTES = 256 * 1024
READ, EXECUTE = 0o444, 0o555
WRITE_ONCE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class BadPackError(Exception):
    """The pack is none, or holds what none may hold; the message says what."""


def unpack(pack: IO[bytes], root: str) -> Iterator[None]:
    """Unpack into the new directory `root`, read-only; each step takes about a millisecond.

    Nothing is written through a link: a member's directory must have been made before it, here.

    Raises:
        BadPackError: `root` is then not whole.
        OSError: the disk refuses.
    """
    os.mkdir(root, 0o700)
    made = {"": None}
    try:
        with tarfile.open(
            fileobj=pack, mode="r:", encoding="utf-8", errors="surrogateescape"
        ) as archive:
            for member in archive:
                yield from _unpack_member(archive, member, root, made)
                yield
    except (tarfile.TarError, ValueError) as error:
        raise BadPackError(f"not an archive: {error}") from None
    for name in reversed(made):
        os.chmod(os.path.join(root, name), EXECUTE)


def _unpack_member(
    archive: tarfile.TarFile, member: tarfile.TarInfo, root: str, made: dict[str, None]
) -> Iterator[None]:
    name = member.name
    if not is_inside(name) or name.rpartition("/")[0] not in made:
        raise BadPackError(f"{name!r} does not belong there")
    path = f"{root}/{name}"
    try:
        if member.type == tarfile.DIRTYPE:
            os.mkdir(path, 0o700)
            made[name] = None
        elif member.type == tarfile.SYMTYPE and leads_inside(name, member.linkname):
            os.symlink(member.linkname, path)
        elif member.type == tarfile.REGTYPE and not member.issparse():
            yield from _write(archive, member, path)
        else:
            raise BadPackError(f"{name!r} is neither a directory, a file, nor a link that stays")
    except FileExistsError:
        raise BadPackError(f"{name!r} is there twice") from None


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> Iterator[None]:
    source = archive.extractfile(member)
    assert source is not None
    mode = EXECUTE if member.mode & 0o100 else READ
    with source, open(path, "wb", opener=lambda name, _: os.open(name, WRITE_ONCE, 0o600)) as file:
        while piece := source.read(PIECE_BYTES):
            file.write(piece)
            yield
        os.fchmod(file.fileno(), mode)
