"""A state directory looked through for what is damaged, contradicts itself, or was left over."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from jobtasks.api.archives import PACKS, require_database
from jobtasks.core.errors import JobTasksError
from jobtasks.service import log_space, packs, soundness
from jobtasks.service.log_space import NOTHING, Space
from jobtasks.store import snapshots
from jobtasks.store.base import Tx
from jobtasks.store.file_systems import network_kind
from jobtasks.store.snapshots import Beside, FileBeside

DATABASE = "jobtasks.db"
SECRETS = ("secret.key", "admin.token", "agent.token")
NAMES = 500
"""Folders of logs that one statement asks about."""
EXAMPLES_MAX = 5
"""Rows that are shown of each contradiction."""
OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Contradiction(NamedTuple):
    """Rows that cannot all be true."""

    check: str
    purpose: str
    rows: int
    examples: list[list[Any]]


@dataclass
class Findings:
    """What was found; `problems` is empty when all is well."""

    state: str
    schema_version: int | None = None
    schema_known: int = field(default_factory=snapshots.newest_version)
    problems: list[str] = field(default_factory=list)
    """One sentence each."""
    damage: list[str] = field(default_factory=list)
    """The database's own words."""
    contradictions: list[Contradiction] = field(default_factory=list)
    left_over: Space = NOTHING
    """Files of jobs that are not on record; harmless."""
    notes: list[str] = field(default_factory=list)
    """What is worth knowing and no problem."""


def inspect(state: Path, database: Beside | None = None, shared: Path | None = None) -> Findings:
    """Return what is wrong with a state directory; a server may serve it meanwhile.

    `database` is where its records are, None: in the directory; `shared` is what servers of one
    database share, None: nothing.

    Raises:
        NotFound: no server has ever used it, or its records are elsewhere.
    """
    findings = Findings(str(state))
    if database is None:
        require_database(state, "name it with --database")
        database = FileBeside(state / DATABASE)
        kind = network_kind(state.absolute())
        if kind:
            findings.problems.append(f"{state} lies on a network file system ({kind})")
    home = shared or state
    _look_at_files(home, findings)
    try:
        _look_at_database(home, database, findings)
    except JobTasksError as error:
        findings.problems.append(str(error))
    return findings


def _look_at_files(home: Path, findings: Findings) -> None:
    for pack in packs.damaged(home / PACKS):
        path = packs.path_in(home / PACKS, pack)
        findings.problems.append(f"{path} is damaged: remove it, it is made again when it can be")
    for name in SECRETS:
        path = home / name
        if not path.exists() or not path.stat().st_size:
            findings.problems.append(f"{path} is missing or empty")
        elif path.stat().st_mode & OTHERS:
            findings.problems.append(f"{path} can be read by others: chmod 600 it")


def _look_at_database(home: Path, database: Beside, findings: Findings) -> None:
    findings.schema_version = database.schema_version()
    findings.damage = database.damage()
    if findings.damage:
        findings.problems.append(f"{database.name} is damaged: {findings.damage[0]}")
    elif not findings.schema_version:
        findings.problems.append(f"no server has ever used {database.name}")
    elif findings.schema_version > findings.schema_known:
        findings.problems.append(f"{database.name} was written by a newer version of this program")
    elif findings.schema_version < findings.schema_known:
        findings.notes.append(
            "the database is of an older version; its records are checked once a server of this"
            " version has served it"
        )
    else:
        _look_at_records(home, database, findings)


def _look_at_records(home: Path, database: Beside, findings: Findings) -> None:
    # Listed before the database is looked at: a job is on record before it has a folder.
    folders = log_space.job_names(home / "logs")
    for name, rows in database.look(soundness.contradictions).items():
        examples = [list(row) for row in rows[:EXAMPLES_MAX]]
        found = Contradiction(name, soundness.purpose_of(name), len(rows), examples)
        findings.contradictions.append(found)
        findings.problems.append(f"{found.purpose}: {found.rows} (check {name})")
    orphans: list[str] = []
    for start in range(0, len(folders), NAMES):
        page = folders[start : start + NAMES]
        known = database.look(partial(_known, uuids=page))
        orphans += [uuid for uuid in page if uuid not in known]
    findings.left_over = log_space.space_of(home / "logs", orphans)
    if orphans:
        findings.notes.append(
            f"{len(orphans)} folders in {home / 'logs'} belong to no job, with"
            f" {findings.left_over.files} files: `jobtasks admin gc` removes them"
        )


def _known(tx: Tx, uuids: list[str]) -> set[str]:
    text = msgspec.json.encode(uuids).decode()
    return set(tx.all(lambda uuid, _: str(uuid), "logs_of_jobs", uuids=text))
