"""Whether it is worth while to wake agents."""

from __future__ import annotations

from jobtasks.service.context import Context


def is_work_ready(ctx: Context) -> bool:
    """Return whether a task is ready at the frontier of some job, for whatever node."""
    return bool(ctx.tx.value("work_ready"))
