"""For administrators: how much room everything takes, and removing what need not be kept."""

from __future__ import annotations

import shutil
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.api.answers import json_answer
from jobtasks.api.collecting import Collected, Collector
from jobtasks.api.collection import BASE
from jobtasks.api.edge import Edge, is_rehearsal, now
from jobtasks.api.housekeeping import measure
from jobtasks.api.parsing import read_arguments
from jobtasks.core.errors import Invalid
from jobtasks.service import access, packs, retention, sizes
from jobtasks.service.retention import Before

SECONDS_MAX = 20.0
"""How long one call works; its answer says when there is more."""
AGES = ("jobs_older_than_seconds", "logs_older_than_seconds")
SWITCHES = ("dry_run", "shrink")
SECONDS_AGO_MAX = 1e10
"""Longer ago than anything."""


class Upkeep:
    """Request handlers of ``/arvados/v1/sys``."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> list[Route]:
        """Return the routes of upkeep."""
        return [
            Route(f"{BASE}/sys/sizes", self.sizes, methods=["GET"]),
            Route(f"{BASE}/sys/gc", self.collect, methods=["POST"]),
        ]

    async def sizes(self, request: Request) -> Response:
        """Answer with how much room everything takes."""
        return json_answer(await self._sizes(request))

    async def collect(self, request: Request) -> Response:
        """Remove what is too old, or say what would be removed."""
        self._edge.admit_body(request)
        self._edge.glance(request, lambda ctx, caller: access.require_admin(caller, "remove that"))
        given = await read_arguments(request, self._edge.world.settings)
        before, is_dry, shrinks = _asked(given, retention.limits(now(), self._edge.world.settings))
        is_dry = is_dry or is_rehearsal(request)
        sizes_before = await self._sizes(request)
        collector = Collector(self._edge, before, SECONDS_MAX)
        found = await (collector.look() if is_dry else collector.collect(thoroughly=True))
        if shrinks and not is_dry and not found.more:
            await self._edge.in_thread(self._edge.store.shrink)
        sizes_after = sizes_before if is_dry else await self._sizes(request)
        return json_answer(_rendered(found, is_dry, sizes_before, sizes_after))

    async def _sizes(self, request: Request) -> dict[str, int]:
        amounts = await self._edge.read(request, sizes.amounts)
        logs = await measure(self._edge)
        pack_dir = self._edge.world.pack_dir
        kept = await self._edge.in_thread(packs.kept, pack_dir) if pack_dir else []
        database = await self._edge.in_thread(self._edge.store.space)
        return {
            **amounts._asdict(),
            "database_bytes": database.bytes,
            "database_free_bytes": database.free_bytes,
            "log_files": logs.files,
            "log_bytes": logs.bytes,
            "packs": len(kept),
            "pack_bytes": sum(pack.bytes for pack in kept),
            "free_bytes": shutil.disk_usage(self._edge.world.log_dir).free,
        }


def _asked(given: dict[str, Any], usual: Before) -> tuple[Before, bool, bool]:
    """Return what a call asks for: what is too old, whether only to look, whether to shrink."""
    for name in given.keys() - {*AGES, *SWITCHES}:
        raise Invalid(f"unknown attribute: {name}")
    for name in SWITCHES:
        if not isinstance(given.get(name, False), bool):
            raise Invalid(f"{name} must be true or false")
    jobs, logs = (_limit(name, given.get(name)) for name in AGES)
    before = usual._replace(
        jobs=usual.jobs if jobs is None else jobs, logs=usual.logs if logs is None else logs
    )
    return before, bool(given.get("dry_run")), bool(given.get("shrink"))


def _limit(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        raise Invalid(f"{name} must be a number of seconds")
    return retention.age_limit(now(), min(float(value), SECONDS_AGO_MAX))


def _rendered(
    found: Collected, is_dry: bool, before: dict[str, int], after: dict[str, int]
) -> dict[str, Any]:
    return {
        "dry_run": is_dry,
        "removed": {
            "jobs": found.jobs,
            "logs": found.logs,
            "log_files": found.log_files,
            "log_bytes": found.log_bytes,
            "packs": found.packs,
            "tokens": found.tokens,
        },
        "more": found.more,
        "before": before,
        "after": after,
    }
