"""What a database needs before it serves: prefix, root user, the directory's tokens."""

from __future__ import annotations

import hashlib

from jobtasks.core.errors import Unavailable
from jobtasks.core.identifiers import token_hash
from jobtasks.service.context import Context

PREFIX = "zzzzz"
"""First part of every UUID until a site names another."""


def root_uuid(prefix: str) -> str:
    """Return the UUID of the user who owns what the admin's token creates."""
    return f"{prefix}-tpzed-000000000000000"


def belong(ctx: Context) -> None:
    """Bind a database that several servers share to their common secret key.

    Raises:
        Unavailable: it belongs to servers with another: what one tells its agents the others would
            not know.
    """
    digest = hashlib.sha256(ctx.world.token_key).hexdigest()
    ctx.tx.run("meta_put", key="key_digest", value=digest)
    if ctx.tx.value("meta_value", key="key_digest") != digest:
        raise Unavailable(
            "The database belongs to servers with another secret.key: name the directory that they"
            " share with --shared."
        )


def prepare(ctx: Context, admin_token: str, agent_token: str) -> None:
    """Make root user and tokens known; harmless when they are."""
    ctx.tx.run("meta_put", key="uuid_prefix", value=ctx.world.uuids.prefix)
    root = root_uuid(ctx.world.uuids.prefix)
    ctx.tx.run("user_put", uuid=root, username="root", first_name="root", is_admin=1, now=ctx.now)
    for file, role, token in (("admin", "user", admin_token), ("agent", "agent", agent_token)):
        ctx.tx.run(
            "token_put",
            uuid=ctx.world.uuids.make("token", ctx.now),
            hash=token_hash(token),
            role=role,
            user_uuid=root,
            label=f"{file}.token of the state directory",
            now=ctx.now,
        )
