"""Looks for secrets where none may be: in files, answers and what others see of processes."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from jobtasks.core.identifiers import attempt_token

KEPT = ("*.token", "*.key", "*.secret", "*key.pem")
"""Files of a state directory that hold a secret; it may stand there and nowhere else."""
OF_ATTEMPTS = re.compile(rb"a[0-9a-f]{49}")
SECRET_BYTES_MIN = 20
"""Shorter lines are names and marks, not secrets."""
Secrets = Mapping[bytes, str]
"""Each with a name that may be told."""


def secrets_of(state: Path) -> dict[bytes, str]:
    """Return all that a server keeps secret: its files', and the tokens of its attempts."""
    found = {
        line: f"{path.name}, line {number}"
        for path in kept_files(state)
        for number, line in enumerate(path.read_bytes().splitlines())
        if len(line) >= SECRET_BYTES_MIN and b"-----" not in line
    }
    with contextlib.suppress(OSError, ValueError):
        key = bytes.fromhex((state / "secret.key").read_text())
        for attempt in _attempts(state):
            found[attempt_token(key, attempt).encode()] = f"token of attempt {attempt}"
    return found


def kept_files(state: Path) -> list[Path]:
    """Return the files where secrets have their place."""
    return [path for path in _below(state) if any(path.match(pattern) for pattern in KEPT)]


def _below(folder: Path) -> list[Path]:
    """Return all files below a folder in which others may be at work."""
    return [Path(place, name) for place, _, names in os.walk(folder) for name in names]


def _attempts(state: Path) -> list[int]:
    """Return the ids of all attempts on record; none of a database that is not there or broken."""
    with contextlib.suppress(sqlite3.Error):
        database = sqlite3.connect(f"file:{state / 'jobtasks.db'}?mode=ro", uri=True)
        with contextlib.closing(database):
            return [row[0] for row in database.execute("SELECT id FROM attempt")]
    return []


def found_in(data: bytes, secrets: Secrets, others: Sequence[bytes] | None = None) -> list[str]:
    """Return the names of the secrets that stand in some bytes.

    `others` are those that are no attempts' tokens, where that is known: there are few of them.
    """
    derived = {match for match in OF_ATTEMPTS.findall(data) if match in secrets}
    others = other_than_of_attempts(secrets) if others is None else others
    return sorted(secrets[secret] for secret in derived.union(filter(data.__contains__, others)))


def other_than_of_attempts(secrets: Secrets) -> list[bytes]:
    """Return the secrets that are no attempts' tokens."""
    return [secret for secret in secrets if not OF_ATTEMPTS.fullmatch(secret)]


def leaks_in(folder: Path, secrets: Secrets, more: Iterable[Path] = ()) -> list[str]:
    """Return which files have a secret that has no place there."""
    kept = set(kept_files(folder))
    others = other_than_of_attempts(secrets)
    paths = [path for path in [*_below(folder), *more] if path not in kept]
    return [
        f"{path}: {name}"
        for path, data in _contents(paths)
        for name in found_in(data, secrets, others)
    ]


def _contents(paths: Iterable[Path]) -> Iterator[tuple[Path, bytes]]:
    for path in paths:
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink():
                yield path, path.read_bytes()


def leaks_in_processes(secrets: Secrets) -> list[str]:
    """Return where a secret shows in what others see of processes.

    The token of an attempt has its place in the environment of the attempt's own processes.
    """
    found = []
    others = other_than_of_attempts(secrets)
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words, environ = ((folder / name).read_bytes() for name in ("cmdline", "environ"))
            own = re.findall(rb"(?:^|\0)ARVADOS_API_TOKEN=([^\0]*)", environ)
            if b"TASK_UUID=" in environ:
                for token in own:
                    environ = environ.replace(token, b"")
            found += [
                f"{folder}: {name}" for name in found_in(words + b"\0" + environ, secrets, others)
            ]
    return found


def states_in(folder: Path) -> list[Path]:
    """Return the state directories of all servers that kept their state below a folder."""
    return [path.parent for path in _below(folder) if path.name == "secret.key"]
