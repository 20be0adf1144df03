"""Whether a state directory, and what is in it, is as a server needs it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from jobtasks.cli.durations import readable_bytes
from jobtasks.cli.findings import Finding, fail, ok, warn
from jobtasks.cli.state import StateDirectory
from jobtasks.store import file_systems

FLEETING = frozenset({"tmpfs", "ramfs"})
SECRETS = ("admin.token", "agent.token", "secret.key", "notify.secret", "jobtasks.db", "tls/ca.key")
FREE_BYTES_FEW, FREE_BYTES_MIN = 1 << 30, 100 << 20
RESTORE = "`jobtasks admin restore` puts a backup into a new directory"
CHECK_SECONDS = 20.0
"""How long the database is looked at."""
CERTIFICATE_DAYS_FEW = 14


def checks(state: StateDirectory, *, is_served: bool) -> Iterator[Finding]:
    """Look at the directory, the disk, the database, the keeper, the certificate."""
    path = state.path
    if not path.exists():
        text, advice = f"{path} does not exist yet", f"`jobtasks serve{state.option}` makes it"
        yield warn("state directory", text, advice)
        return
    yield directory(path)
    yield from secrets(path)
    yield disk(path)
    yield file_system(path, kind_of(path))
    if (path / "postgresql").exists():
        yield ok(
            "database",
            "in PostgreSQL: `jobtasks admin check --database` looks through it, pg_dump saves it",
        )
    else:
        yield database(path / "jobtasks.db")
    yield from scripts(path / "scripts")
    yield keeper(path / "node", is_served=is_served)
    yield from certificate(path / "tls" / "server.pem", datetime.now(UTC))


def directory(path: Path) -> Finding:
    """Return whether the directory is ours and nobody else's."""
    name = "state directory"
    if not path.is_dir():
        return fail(name, f"{path} is not a directory", "name another with --state")
    status = path.stat()
    if status.st_uid != os.geteuid():
        text = f"{path} belongs to user {status.st_uid}, you are {os.geteuid()}"
        return fail(name, text, "use it as that user, or `chown -R` it")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return fail(name, f"{path} cannot be read and written", f"chmod 700 {path}")
    if status.st_mode & 0o077:
        return warn(name, f"others may look into {path}", f"chmod 700 {path}")
    return ok(name, str(path))


def secrets(path: Path) -> Iterator[Finding]:
    """Look for files that others can read and must not."""
    for name in SECRETS:
        try:
            mode = (path / name).stat().st_mode
        except OSError:
            continue
        is_hidden = not path.stat().st_mode & 0o011
        if mode & 0o044 and not is_hidden:
            advice = f"chmod 600 {path / name}, and think of its secret as known"
            yield fail("secrets", f"others can read {path / name}", advice)


def disk(path: Path) -> Finding:
    """Return whether there is room: bytes, and files."""
    free, total = shutil.disk_usage(path).free, shutil.disk_usage(path).total
    files = os.statvfs(path)
    text = f"{readable_bytes(free)} of {readable_bytes(total)} free"
    advice = "`jobtasks admin gc --dry-run` says what jobs and logs take"
    if free < FREE_BYTES_MIN or (files.f_files and not files.f_favail):
        return fail("disk", text + ("" if files.f_favail else ", no file can be made"), advice)
    if free < FREE_BYTES_FEW:
        return warn("disk", text, advice)
    return ok("disk", text)


def kind_of(path: Path, mounts: Path = file_systems.MOUNTS) -> str:
    """Return the kind of the file system that holds a path; "" when that is not known."""
    try:
        text = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    return file_systems.kind_at(path.resolve(), file_systems.parse_mounts(text))


def file_system(path: Path, kind: str) -> Finding:
    """Return whether a database may be kept on a file system of this kind."""
    name = "file system"
    if file_systems.is_network(kind):
        text = f"{path} is on {kind}, which several machines share: records may be lost"
        return warn(name, text, "keep the state directory on a disk of this machine")
    if kind in FLEETING:
        advice = "what is there is gone after a restart of the machine: use a disk"
        return warn(name, f"{path} is on {kind}", advice)
    return ok(name, kind or "of an unknown kind")


def database(path: Path) -> Finding:
    """Return whether the database is whole and of a version that is known."""
    from jobtasks.store.inspection import inspect

    name = "database"
    if not path.exists():
        return ok(name, "none yet: the first server makes it")
    try:
        found = inspect(path, CHECK_SECONDS)
    except sqlite3.Error as error:
        return fail(name, f"{path}: {error}", RESTORE)
    text = f"{readable_bytes(found.bytes)}, schema {found.version}"
    if found.problems:
        damage = "; ".join(found.problems[:3])
        return fail(name, f"{text}, damaged: {damage}", RESTORE)
    if found.version > found.newest_version:
        advice = "use the version that wrote it, or a newer one"
        return fail(name, f"{text}, this program knows {found.newest_version}", advice)
    if found.version < found.newest_version:
        text += f" (the next server brings it to {found.newest_version})"
    if not found.is_finished:
        text += f", not all of it looked at within {CHECK_SECONDS:g} s"
        return warn(name, text, "nothing is wrong so far: look again when the server is not busy")
    return ok(name, text + ", no damage")


def scripts(path: Path) -> Iterator[Finding]:
    """Look at the directories of scripts that nodes fetch, if there are any."""
    from jobtasks.service.packs import kept

    name = "scripts for nodes"
    if path.exists() and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        yield fail(name, f"{path} cannot be read and written", f"chmod 700 {path}")
    elif found := kept(path):
        size = readable_bytes(sum(pack.bytes for pack in found))
        yield ok(name, f"{len(found)} directories, {size}")


def keeper(node_dir: Path, *, is_served: bool) -> Finding:
    """Return whether a keeper lives where it should, and only there."""
    from jobtasks.engines.local import find_keeper

    name = "keeper"
    pidfd = find_keeper(node_dir)
    if pidfd is None:
        return ok(name, "none runs here")
    os.close(pidfd)
    pid = (node_dir / "keeper.pid").read_text().split()[0]
    if is_served:
        return ok(name, f"process {pid} looks after the tasks of this machine")
    advice = f"start the server, which goes on with them, or end them: kill {pid}"
    return warn(name, f"process {pid} and its tasks run without a server", advice)


def certificate(path: Path, now: datetime) -> Iterator[Finding]:
    """Look at the end of the certificate that a server made here, if one did."""
    if not path.exists():
        return
    from cryptography import x509

    name = "certificate"
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError) as error:
        yield fail(name, f"{path}: {error}", "remove it: the server makes another")
        return
    left = found.not_valid_after_utc - now
    text = f"{path.name} lasts until {found.not_valid_after_utc:%Y-%m-%d}"
    if left.days < CERTIFICATE_DAYS_FEW:
        level = fail if left.total_seconds() < 0 else warn
        yield level(name, text, "a running server makes another in time: start it again")
    else:
        yield ok(name, text)
