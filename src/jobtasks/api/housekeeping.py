"""What the server does by and by: removes what need not be kept, measures what logs take."""

from __future__ import annotations

import logging
import time

from jobtasks.api.collecting import Collector
from jobtasks.api.edge import Edge, now
from jobtasks.core.errors import JobTasksError
from jobtasks.service import imports, log_space, retention

SECONDS_MAX = 10.0
"""How long one look may take; the next goes on."""
MEASURE_SECONDS = 600.0
"""How often all logs are measured: that looks at every file."""

logger = logging.getLogger(__name__)


async def keep_house(edge: Edge) -> None:
    """Look again and again until the hub closes; a look that fails is told and forgotten."""
    measured_at = float("-inf")
    is_thorough = True
    with edge.hub.listen("housekeeping") as bell:
        while not edge.hub.closing:
            bell.clear()
            try:
                if not edge.is_manager:
                    # Another server does it.
                    await bell.wait(edge.world.settings.housekeeping_seconds)
                    continue
                there_is_more = await _collect(edge, thoroughly=is_thorough)
                # Files of jobs that arrive may come to belong to none.
                is_thorough = (is_thorough and there_is_more) or await edge.look(imports.are_there)
                if time.monotonic() - measured_at >= MEASURE_SECONDS:
                    measured_at = time.monotonic()
                    await measure(edge)
            except JobTasksError as error:
                logger.warning("housekeeping waits: %s", error)
                there_is_more = False
            except Exception:
                logger.exception("housekeeping failed")
                there_is_more = False
            await bell.wait(0.0 if there_is_more else edge.world.settings.housekeeping_seconds)


async def _collect(edge: Edge, *, thoroughly: bool) -> bool:
    """Remove what is too old by the settings; return whether there is more."""
    before = retention.limits(now(), edge.world.settings)
    found = await Collector(edge, before, SECONDS_MAX).collect(thoroughly=thoroughly)
    if found.jobs or found.logs or found.log_files or found.packs:
        facts = {
            "jobs": found.jobs,
            "logs": found.logs,
            "log_bytes": found.log_bytes,
            "packs": found.packs,
        }
        logger.info("removed what need not be kept", extra=facts)
    return found.more


async def measure(edge: Edge) -> log_space.Space:
    """Return what all logs take; the metrics show it until it is measured again."""
    space = await edge.in_thread(log_space.space_of, edge.world.log_dir)
    edge.meters.logs_disk_bytes = space.bytes
    return space
