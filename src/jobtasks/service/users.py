"""Users: made and changed by administrators, seen by themselves; never deleted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jobtasks.core import resources
from jobtasks.core.errors import Forbidden, Invalid, NotFound
from jobtasks.core.resources import Kind
from jobtasks.service import changes
from jobtasks.service.context import Caller, Context
from jobtasks.service.idempotency import Name, once
from jobtasks.service.setup import root_uuid
from jobtasks.store.records import UserRecord

USERS = resources.RESOURCES["users"]
USERNAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
CHANGEABLE = tuple(name for name, row in USERS.attributes.items() if row.update)
DEFAULTS: Mapping[str, Any] = {
    "username": None,
    "email": None,
    "first_name": None,
    "last_name": None,
    "is_active": True,
    "is_admin": False,
}


def create(
    ctx: Context, caller: Caller, attributes: dict[str, Any], key: Name | None = None
) -> UserRecord:
    """Create a user, active unless told otherwise; once a key (R22).

    Raises:
        Forbidden: the caller is no administrator.
        Invalid: a value of the wrong type, no username, or one that is taken.
    """
    _require_admin(caller, "create")
    return once(
        ctx,
        caller,
        key,
        lambda: _create(ctx, caller, attributes),
        lambda user: user.uuid,
        lambda uuid: show(ctx, caller, uuid),
    )


def _create(ctx: Context, caller: Caller, attributes: dict[str, Any]) -> UserRecord:
    values = dict(DEFAULTS)
    for name, value in attributes.items():
        attribute = resources.attribute(USERS, name)
        if attribute.create:
            values[attribute.name] = _stored(attribute, value)
        elif not attribute.ignored and value not in (None, ""):
            raise Invalid(f"{attribute.name} is given by the server")
    uuid = ctx.world.uuids.make("user", ctx.now)
    _check_username(ctx, uuid, values["username"])
    ctx.tx.run("user_add", uuid=uuid, now=ctx.now, changed_by=caller.user_uuid, **values)
    return show(ctx, caller, uuid)


def _stored(attribute: resources.Attribute, value: Any) -> Any:
    """Return an attribute as its column holds it; a boolean that is null is as by default."""
    given = resources.coerce(attribute, value)
    if given is None and attribute.kind is Kind.BOOLEAN:
        return DEFAULTS[attribute.name]
    return given


def _check_username(ctx: Context, uuid: str, username: str | None) -> None:
    if not username or not USERNAME.fullmatch(username):
        raise Invalid("username must begin with a letter; letters, digits and . _ - may follow")
    if ctx.tx.value("user_named", username=username) not in (None, uuid):
        raise Invalid(f"username '{username}' is taken")


def show(ctx: Context, caller: Caller, uuid: str) -> UserRecord:
    """Return a user: an administrator sees all, others themselves, agents nobody.

    Raises:
        NotFound: there is none, or the caller may not see it: the two look alike.
    """
    is_seen = caller.is_admin or (caller.role != "agent" and caller.user_uuid == uuid)
    user = ctx.tx.one(UserRecord, "user_by_uuid", uuid=uuid) if is_seen else None
    if user is None:
        raise NotFound
    return user


def current(ctx: Context, caller: Caller) -> UserRecord:
    """Return the user whom the token speaks for; of an attempt, the owner of its job (R32)."""
    if caller.role == "agent":
        raise Forbidden("An agent's token belongs to no user.")
    return show(ctx, caller, caller.user_uuid)


def update(
    ctx: Context, caller: Caller, uuid: str, attributes: dict[str, Any], *, whole: bool
) -> UserRecord:
    """Change a user; an inactive one may only read.

    Raises:
        Forbidden: the caller is no administrator.
        Invalid: what cannot be changed; the root user stays an active administrator.
    """
    user = show(ctx, caller, uuid)
    _require_admin(caller, "change")
    given = changes.accepted(SUBJECT, user, attributes, CHANGEABLE, whole=whole)
    values = {name: getattr(user, name) for name in CHANGEABLE}
    values |= {name: _stored(USERS.attributes[name], value) for name, value in given.items()}
    if uuid == root_uuid(ctx.world.uuids.prefix) and not (
        values["is_active"] and values["is_admin"]
    ):
        raise Invalid("The root user stays an active administrator.")
    _check_username(ctx, uuid, values["username"])
    ctx.tx.run("user_update", uuid=uuid, now=ctx.now, changed_by=caller.user_uuid, **values)
    return show(ctx, caller, uuid)


def _require_admin(caller: Caller, what: str) -> None:
    if not caller.is_admin:
        raise Forbidden(f"Only an administrator may {what} users.")


SUBJECT = changes.Subject("users", UserRecord._asdict, frozenset())
