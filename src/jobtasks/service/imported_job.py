"""The record of a job that comes from another server: its columns, and whose it is here."""

from __future__ import annotations

from typing import Any

from jobtasks.core import moving
from jobtasks.core.errors import Invalid
from jobtasks.core.identifiers import is_uuid
from jobtasks.core.job_stream import TIME_MAX, TIME_MIN, JobLine, Owner
from jobtasks.core.resources import INTEGER_MAX, INTEGER_MIN, Kind, coerce
from jobtasks.protocol.packs import is_hash
from jobtasks.service import creation
from jobtasks.service.context import Caller, Context
from jobtasks.service.job_values import JOBS, checked
from jobtasks.store.records import JobRecord, UserRecord

Columns = dict[str, Any]
CARRIED = moving.carried(JobRecord._fields)
USERS = ("modified_by_user_uuid", "cancelled_by_user_uuid", "is_locked_by_uuid")
NEEDED = frozenset(
    {
        *("created_at", "modified_at", "state", "managed", "priority", "script_parameters"),
        *("runtime_constraints", "components", "seeded", "output_truncated"),
    }
)
"""Columns that are never null."""


def owner_of(ctx: Context, caller: Caller, owner: Owner) -> tuple[str, str]:
    """Return whose a job is here, and by what he was known: "uuid", "email", else "importer"."""
    if ctx.tx.one(UserRecord, "user_by_uuid", uuid=owner.uuid) is not None:
        return owner.uuid, "uuid"
    if owner.email:
        found = ctx.tx.all(str, "import_users_with_email", email=owner.email)
        if len(found) == 1:
            return found[0], "email"
    return caller.user_uuid, "importer"


def columns_of(ctx: Context, line: JobLine, owner_uuid: str) -> Columns:
    """Return the columns of a job as a stream has it.

    Raises:
        Invalid: one that this server does not know, or a value that a job cannot have.
    """
    for name, value in line.attributes.items():
        if name not in CARRIED and value is not None:
            raise Invalid(f"This server does not know {name} of a job: it may be too old.")
    moving.check_depth(line.attributes.values(), ctx.settings.depth_max)
    values = {name: _stored(ctx, name, line.attributes.get(name)) for name in CARRIED}
    lock = values["is_locked_by_uuid"]
    if lock and ctx.tx.one(UserRecord, "user_by_uuid", uuid=lock) is None:
        # Nobody could undo it.
        values["is_locked_by_uuid"] = None
    supplied = values["supplied_script_version"]
    found = checked(values, foreign=not values["managed"])
    return {**found, "supplied_script_version": supplied, "owner_uuid": owner_uuid}


def _stored(ctx: Context, name: str, value: Any) -> Any:
    """Return one attribute as its column holds it."""
    attribute = JOBS.attributes.get(name)
    kind = attribute.kind if attribute is not None else None
    if value is None:
        if name in NEEDED:
            raise Invalid(f"{name} is missing")
        return None
    if kind is Kind.DATETIME or name.endswith("_at"):
        return _integer(name, value, TIME_MIN, TIME_MAX)
    if name in ("managed", "seeded", "output_truncated", "nondeterministic"):
        return _integer(name, int(value) if isinstance(value, bool) else value, 0, 1)
    if name == "priority":
        return _integer(name, value, INTEGER_MIN, INTEGER_MAX)
    if kind is Kind.OBJECT:
        if not isinstance(value, dict):
            raise Invalid(f"{name} must be a JSON object")
        return creation.object_text(ctx, name, value)
    if kind is Kind.LIST:
        return creation.command_text(ctx, value)
    return _text(ctx, name, value)


def _text(ctx: Context, name: str, value: Any) -> str:
    attribute = JOBS.attributes.get(name, JOBS.attributes["description"])
    if not isinstance(value, str):
        raise Invalid(f"{name} must be text or null")
    text: str = coerce(attribute, value)
    creation.check_size(ctx, name, text)
    if name in USERS and not is_uuid(text, "user"):
        raise Invalid(f"{name} must be the uuid of a user")
    if name == "script_hash" and not is_hash(text):
        raise Invalid("script_hash must be a SHA-256 in hexadecimal")
    return text


def _integer(name: str, value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise Invalid(f"{name} must be an integer from {least} to {most}")
    return value
