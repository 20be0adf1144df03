"""Log entries: those that users write, and what happened, in one list."""

from __future__ import annotations

from typing import Any

from jobtasks.core import resources
from jobtasks.core.errors import Forbidden, Invalid, NotFound
from jobtasks.core.identifiers import UUID_PATTERN
from jobtasks.service import creation, events
from jobtasks.service.context import Caller, Context
from jobtasks.service.idempotency import Name, once
from jobtasks.store.records import LogRecord

LOGS = resources.RESOURCES["logs"]
KIND = "57u5n"


def create(
    ctx: Context, caller: Caller, attributes: dict[str, Any], key: Name | None = None
) -> LogRecord:
    """Write an entry, once a key (R22); it has a place among what happens.

    Raises:
        Forbidden: the caller is an agent.
        Invalid: a value of the wrong type.
    """
    if caller.role == "agent":
        raise Forbidden("An agent writes no log entries.")
    return once(
        ctx,
        caller,
        key,
        lambda: _create(ctx, caller, attributes),
        lambda record: record.uuid,
        lambda uuid: show(ctx, caller, uuid),
    )


def _create(ctx: Context, caller: Caller, attributes: dict[str, Any]) -> LogRecord:
    values: dict[str, Any] = {
        "object_uuid": None,
        "event_at": ctx.now,
        "event_type": None,
        "summary": None,
        "properties": "{}",
    }
    for name, value in attributes.items():
        attribute = resources.attribute(LOGS, name)
        if attribute.name == "properties":
            values["properties"] = creation.object_text(
                ctx, "properties", resources.coerce(attribute, {} if value is None else value)
            )
        elif attribute.name in values:
            given = resources.coerce(attribute, value)
            values[attribute.name] = values[attribute.name] if given is None else given
        elif not attribute.ignored and value not in (None, "", caller.user_uuid):
            raise Invalid(f"{attribute.name} is given by the server")
    owner = _owner_of(ctx, caller, values)
    event_id = ctx.tx.add("event_add", at=ctx.now, facts="[]")
    ctx.wake.add(events.TOPIC)
    place = event_id << events.PLACE_BITS
    uuid = f"{ctx.world.uuids.prefix}-{KIND}-{place:015d}"
    ctx.tx.run(
        "log_add",
        id=place,
        uuid=uuid,
        owner_uuid=caller.user_uuid,
        object_owner_uuid=owner,
        now=ctx.now,
        **values,
    )
    return show(ctx, caller, uuid)


def _owner_of(ctx: Context, caller: Caller, values: dict[str, Any]) -> str | None:
    """Return who owns what an entry is about, and so sees it; None: the writer alone.

    An attempt writes about its own task unless it says otherwise, and never beyond its job.
    """
    if caller.role == "attempt":
        return _within_job(ctx, caller, values)
    owner = ctx.tx.value("object_owner", uuid=values["object_uuid"])
    return str(owner) if owner and (caller.is_admin or owner == caller.user_uuid) else None


def _within_job(ctx: Context, caller: Caller, values: dict[str, Any]) -> str:
    assert caller.task_id is not None
    if values["object_uuid"] is None:
        values["object_uuid"] = ctx.tx.value("task_name", task_id=caller.task_id)
    if ctx.tx.value("job_of_object", uuid=values["object_uuid"]) != caller.job_id:
        raise Forbidden("An attempt writes log entries about its own job and its tasks.")
    return caller.user_uuid


def show(ctx: Context, caller: Caller, uuid: str) -> LogRecord:
    """Return an entry.

    Raises:
        NotFound: there is none, or it is not the caller's to see: the two look alike.
    """
    number = uuid[12:]
    if not UUID_PATTERN.fullmatch(uuid) or uuid[6:11] != KIND or not number.isdigit():
        raise NotFound
    place = int(number)
    record = ctx.tx.one(LogRecord, "log_by_id", event_id=place >> events.PLACE_BITS, id=place)
    if record is None or record.uuid != uuid or not events.may_see(caller, record):
        raise NotFound
    return record
