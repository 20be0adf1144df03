"""Which job a submission is answered with in place of a new one: the reuse algorithm (R41).

Arvados resolves versions by git; here they are compared as given. A range from
``minimum_script_version`` to the submitted version therefore holds its two ends.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from jobtasks.core.errors import Invalid
from jobtasks.core.resources import as_boolean
from jobtasks.core.states import JobState

ARGUMENTS = ("no_reuse", "minimum_script_version", "exclude_script_versions")
"""What a job may carry beside its attributes."""
NAMED_ALWAYS = ("repository", "script")
"""What given conditions must name: else a job that does something else would do."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """What a submission says of jobs that would do as well."""

    filters: Any = None
    """As given: a list or JSON text; None: the job's own repository, script and version."""
    minimum: str | None = None
    """A version that would do as well as the submitted one."""
    excluded: tuple[str, ...] = ()
    """Versions that would not do."""


class Candidate(NamedTuple):
    """A job that does what the new one would, in the order of preference."""

    uuid: str
    state: str
    output_id: int | None
    """Equal for equal outputs; None: it has none."""
    output_truncated: int
    """Whether its output is known in part only, and so equal to no other."""


def parameters_digest(script_parameters: Mapping[str, Any]) -> str:
    """Return the MD5 of compact JSON whose objects are sorted by key at every level."""
    text = json.dumps(
        script_parameters, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode("utf-8", "surrogatepass")
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


def parse_reuse(
    parameters: Mapping[str, Any], attributes: Mapping[str, Any]
) -> tuple[Reuse | None, dict[str, Any]]:
    """Return what a create asks for, None when for a new job in any case, and the job's attributes.

    `parameters` are those of the call. ``no_reuse`` decides before ``find_or_create``.

    Raises:
        Invalid: a parameter is of the wrong type.
    """
    given = {**parameters, **attributes}
    rest = {name: value for name, value in attributes.items() if name not in ARGUMENTS}
    wanted = _flag("find_or_create", parameters.get("find_or_create", False))
    if given.get("no_reuse") is not None:
        wanted = not _flag("no_reuse", given["no_reuse"])
    minimum = given.get("minimum_script_version")
    if minimum is not None and not isinstance(minimum, str):
        raise Invalid("minimum_script_version must be text")
    excluded = _versions(given.get("exclude_script_versions"))
    return Reuse(parameters.get("filters"), minimum or None, excluded) if wanted else None, rest


def _flag(name: str, value: Any) -> bool:
    flag = as_boolean(value)
    if flag is None:
        raise Invalid(f"{name} parameter must be a boolean, true or false")
    return flag


def _versions(value: Any) -> tuple[str, ...]:
    """Return the versions that a list, its JSON, or one text names."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise Invalid("exclude_script_versions must be a list of texts") from None
    versions = value if isinstance(value, list) else [value] if value else []
    if not all(isinstance(version, str) for version in versions):
        raise Invalid("exclude_script_versions must be a list of texts")
    return tuple(versions)


def own_filters(reuse: Reuse, job: Mapping[str, Any]) -> list[Any]:
    """Return the conditions that follow from the new job itself, as a list call takes them.

    `job` has ``repository``, ``script`` and ``script_version``.
    """
    version = job["script_version"]
    filters: list[Any] = [[name, "=", job[name]] for name in NAMED_ALWAYS]
    if reuse.excluded:
        filters.append(["script_version", "not in", list(reuse.excluded)])
    if reuse.minimum is None:
        filters.append(["script_version", "=", version])
    else:
        filters.append(["script_version", "in", [reuse.minimum, version]])
    return filters


def require_named(names: Iterable[str]) -> None:
    """Raise `Invalid` unless the attributes that conditions name suffice to tell jobs apart."""
    named = set(names)
    missing = [name for name in NAMED_ALWAYS if name not in named]
    if missing:
        raise Invalid(f"filters of find_or_create must name {' and '.join(missing)}")


def choose(candidates: Iterable[Candidate]) -> str | None:
    """Return the job to answer with, None when a new one is to be made.

    A complete one goes first, if all complete ones came to the same output; else the first that is
    under way. One whose output is null was never finished as it should be.
    """
    found = [job for job in candidates if job.state != JobState.COMPLETE or _has_output(job)]
    complete = [job for job in found if job.state == JobState.COMPLETE]
    if complete and _agree(complete):
        return complete[0].uuid
    under_way = (job.uuid for job in found if job.state in (JobState.RUNNING, JobState.QUEUED))
    return next(under_way, None)


def _has_output(job: Candidate) -> bool:
    return job.output_id is not None


def _agree(complete: list[Candidate]) -> bool:
    if len(complete) == 1:
        return True
    return len({job.output_id for job in complete}) == 1 and not complete[0].output_truncated
