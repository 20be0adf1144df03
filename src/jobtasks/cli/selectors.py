"""How people name a record: by its uuid, a part of it, ``@last``, or a task's place in its job.

Nobody types 27 letters. Every argument that names a record goes through `resolve`, so that all
commands understand the same words and say the same when a word is not clear.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from jobtasks.cli.client import Client
from jobtasks.cli.output import printable
from jobtasks.cli.problems import ExitCode, Problem
from jobtasks.core.errors import Forbidden, NotFound
from jobtasks.core.identifiers import TYPES, is_uuid

LAST = "@last"
"""The newest job of the caller; of tasks, the one of that job that started last."""

CANDIDATES_MAX = 5
"""Records that are named when a word could mean several."""

NOT_FOUND = ExitCode.NOT_FOUND
PART = re.compile(r"[0-9a-z-]{1,27}")
BEYOND = "~"
"""Sorts after every letter of a uuid."""


class Noun(NamedTuple):
    """A kind of record that a word can name."""

    word: str
    path: str
    """Of the collection, below the API's own path."""
    uuid_kind: str
    """Kind of UUID, as in core/identifiers.py."""
    label: str
    """The attribute that tells candidates apart for people."""
    name: str = ""
    """The attribute whose whole value names the record as well; empty: there is none."""


JOB = Noun("job", "/jobs", "job", "state")
TASK = Noun("task", "/job_tasks", "job_task", "state")
NODE = Noun("node", "/nodes", "node", "hostname", name="hostname")
USER = Noun("user", "/users", "user", "username", name="username")
TOKEN = Noun("token", "/api_client_authorizations", "token", "label")

_NOUN_OF = {TYPES[noun.uuid_kind]: noun for noun in (JOB, TASK, NODE, USER, TOKEN)}


def resolve(client: Client, noun: Noun, text: str, job: str | None = None) -> str:
    """The uuid of the record that `text` names; tasks are looked for in `job` when it is given.

    A whole uuid is taken as it is, without a call. Otherwise `text` is ``@last`` (jobs and tasks),
    ``JOB/NUMBER`` (tasks: the qsequence), a name (users, nodes), the beginning of a uuid or of its
    last part, or, where nothing begins so, its end. Raises `Problem` when nothing or more than one
    thing is called so.
    """
    if is_uuid(text):
        return _of_kind(noun, text)
    if text == LAST:
        return _last(client, noun, job)
    if noun is TASK and "/" in text:
        return _at_place(client, text)
    within: list[Any] = [["job_uuid", "=", job]] if job else []
    for filters in _readings(client, noun, text):
        found = _find(client, noun, [*filters, *within])
        if len(found) == 1:
            return str(found[0]["uuid"])
        if found:
            raise _ambiguous(noun, text, found)
    raise Problem(f"there is no {noun.word} {printable(text)}", _how_to_find(noun), NOT_FOUND)


def resolve_all(
    client: Client, noun: Noun, texts: Iterable[str], job: str | None = None
) -> list[str]:
    """The uuids of the records that `texts` name, in their order, each once."""
    return list(dict.fromkeys(resolve(client, noun, text, job) for text in texts))


def noun_of(text: str) -> Noun | None:
    """What kind of record a whole uuid is of; None when `text` is none, or of another kind."""
    return _NOUN_OF.get(text[6:11]) if is_uuid(text) else None


def _of_kind(noun: Noun, uuid: str) -> str:
    other = noun_of(uuid)
    if other is None or other is noun:
        return uuid
    raise Problem(f"{uuid} is a {other.word}, not a {noun.word}", "", ExitCode.USAGE)


def _readings(client: Client, noun: Noun, text: str) -> Iterable[list[Any]]:
    """The filters to try, one after the other, until something is found."""
    if noun.name:
        yield [[noun.name, "=", text]]
    if not PART.fullmatch(text):
        return
    yield _begins_with(client, noun, text)
    yield [["uuid", "like", f"%{text}"]]


def _begins_with(client: Client, noun: Noun, text: str) -> list[Any]:
    """The filters for uuids that begin with `text`, or whose last part does."""
    if "-" not in text:
        middle = TYPES[noun.uuid_kind]
        user = _own_uuid(client)
        if user is None:
            return [["uuid", "like", f"_____-{middle}-{text}%"]]
        text = f"{user[:5]}-{middle}-{text}"
    # A range and no pattern: an index serves it, however many records there are.
    return [["uuid", ">=", text], ["uuid", "<", text + BEYOND]]


def _own_uuid(client: Client) -> str | None:
    """The caller's; None when the token's scopes do not let it ask, or the server does not say."""
    try:
        return str(client.get("/users/current")["uuid"])
    except (Forbidden, NotFound):
        return None


def _find(client: Client, noun: Noun, filters: list[Any]) -> list[dict[str, Any]]:
    answer = client.get(
        noun.path,
        filters=filters,
        order=["created_at desc"],
        select=["uuid", "created_at", noun.label],
        limit=CANDIDATES_MAX + 1,
        count="none",
    )
    found: list[dict[str, Any]] = answer["items"]
    return found


def _last(client: Client, noun: Noun, job: str | None) -> str:
    if noun is JOB:
        return _last_job(client)
    if noun is TASK:
        return _last_task(client, job or _last_job(client))
    raise Problem(f"{LAST} names a job or a task, not a {noun.word}", "", ExitCode.USAGE)


def _last_job(client: Client) -> str:
    user = _own_uuid(client)
    found = _find(client, JOB, [["owner_uuid", "=", user]] if user else [])
    if not found:
        raise Problem("you have no job yet", _how_to_find(JOB), NOT_FOUND)
    return str(found[0]["uuid"])


def _last_task(client: Client, job: str) -> str:
    found = client.get(
        "/job_tasks",
        filters=[["job_uuid", "=", job], ["started_at", "!=", None]],
        order=["started_at desc"],
        select=["uuid", "started_at"],
        limit=1,
        count="none",
    )["items"]
    if not found:
        raise Problem(f"no task of job {job} has started", _how_to_find(TASK), NOT_FOUND)
    return str(found[0]["uuid"])


def _at_place(client: Client, text: str) -> str:
    """The task that ``JOB/NUMBER`` names."""
    named, _, number = text.rpartition("/")
    job = resolve(client, JOB, named)
    if not number.isdecimal():
        raise Problem(f"{printable(number)} is not the number of a task", "", ExitCode.USAGE)
    found = _find(client, TASK, [["job_uuid", "=", job], ["qsequence", "=", number]])
    if not found:
        raise Problem(f"job {job} has no task {number}", f"`jobtasks job tasks {job}`", NOT_FOUND)
    return str(found[0]["uuid"])


def _ambiguous(noun: Noun, text: str, found: list[dict[str, Any]]) -> Problem:
    shown = [
        f"{one['uuid']} ({printable(str(one.get(noun.label) or '-'))})"
        for one in found[:CANDIDATES_MAX]
    ]
    more = ["and more"] if len(found) > CANDIDATES_MAX else []
    return Problem(
        f"{printable(text)} could be more than one {noun.word}",
        "type more of it: " + ", ".join([*shown, *more]),
        ExitCode.USAGE,
        code="ambiguous",
    )


def _how_to_find(noun: Noun) -> str:
    if noun is TASK:
        return "`jobtasks job tasks JOB` shows what there is"
    return f"`jobtasks {noun.word} list` shows what there is"
