"""A job's attributes as its columns hold them (R8, R30, R39)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from jobtasks.core import constraints, reuse
from jobtasks.core.errors import Invalid
from jobtasks.core.resources import RESOURCES, Attribute, Kind, coerce
from jobtasks.service import creation, notices, scripts, shapes
from jobtasks.service.context import Context

JOBS = RESOURCES["jobs"]
FIXED = (
    *("script", "script_version", "script_parameters", "command", "repository"),
    "supplied_script_version",
)
"""What may be changed only while the job is queued."""
CHANGEABLE = ("priority", "description", "nondeterministic", "components")
EMPTY_OBJECT = "{}"


def stored(ctx: Context, attribute: Attribute, value: Any) -> Any:
    """Return a job's attribute as its column holds it.

    Raises:
        Invalid: the value is of the wrong type, or too large.
    """
    if attribute.name == "command":
        return creation.command_text(ctx, value)
    if attribute.kind is Kind.OBJECT:
        given = {} if value in (None, "") else coerce(attribute, value)
        if attribute.name == "runtime_constraints":
            notices.check_target(ctx, given.get("notify_url"))
        return creation.object_text(ctx, attribute.name, given)
    result = coerce(attribute, value)
    if attribute.name == "priority":
        return result or 0
    if attribute.name == "submit_id":
        return result or None
    if isinstance(result, str):
        creation.check_size(ctx, attribute.name, result)
    return result


def checked(values: dict[str, Any], *, foreign: bool) -> dict[str, Any]:
    """Return the columns of a job with those that follow from others, when they make a job.

    What a foreign job runs is its manager's business (R7b).

    Raises:
        Invalid: there is nothing to run, or a constraint cannot be.
    """
    given = msgspec.json.decode(values["runtime_constraints"])
    if foreign:
        constraints.check_foreign(given, is_job=True)
    else:
        shapes.job_constraints(values["runtime_constraints"])
        _check_work(values)
    digest = reuse.parameters_digest(msgspec.json.decode(values["script_parameters"]))
    return {
        **values,
        "supplied_script_version": values["supplied_script_version"] or values["script_version"],
        "script_parameters_digest": digest,
    }


def _check_work(values: Mapping[str, Any]) -> None:
    if values["script"]:
        scripts.check_form(values["script"], values["script_version"])
    elif not values["command"]:
        raise Invalid("script attribute must be specified (or a command)")
