"""Scripts' directories packed for a request, in a thread, before its transaction (ADR 0025)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from starlette.requests import Request

from jobtasks.api.edge import Edge, is_rehearsal
from jobtasks.core.packs import NO_SCRIPT, Pack, after_retry
from jobtasks.core.states import JobState
from jobtasks.service import jobs, retention
from jobtasks.store.records import JobRecord


async def pack_of(edge: Edge, request: Request, attributes: Mapping[str, Any]) -> Pack:
    """Return what the directory of a job's script holds now; of a rehearsal nothing is packed."""
    script, directory = (attributes.get(name) for name in ("script", "script_version"))
    are_texts = isinstance(script, str) and isinstance(directory, str)
    if not are_texts or not script or not directory or is_rehearsal(request):
        return NO_SCRIPT
    return await edge.in_thread(partial(edge.packs.pack, script, directory))


async def pack_of_changed(
    edge: Edge, request: Request, job: JobRecord, attributes: Mapping[str, Any]
) -> Pack | None:
    """Return the pack of a job that is given another script; None: it keeps what it has."""
    had = {"script": job.script, "script_version": job.script_version}
    wanted = {name: attributes.get(name, value) for name, value in had.items()}
    if wanted == had:
        return None
    return await pack_of(edge, request, wanted)


async def pack_of_retried(edge: Edge, request: Request, uuid: str) -> Pack | None:
    """Return the pack of a job that is tried again: people mend a script before (R23)."""
    job = edge.glance(request, lambda ctx, caller: jobs.show(ctx, caller, uuid))
    may_be_tried = job.managed and job.state in (JobState.FAILED, JobState.CANCELLED)
    if not may_be_tried or not job.script or is_rehearsal(request):
        return None
    found = await pack_of(edge, request, job._asdict())
    earlier = Pack(job.script_hash, None)
    is_kept = bool(job.script_hash) and await edge.in_thread(edge.packs.keep, job.script_hash)
    return after_retry(found, earlier, is_kept)


async def is_kept(edge: Edge, pack: str) -> bool:
    """Return whether a pack is there, if need be made anew of a directory that is as it was."""
    if await edge.in_thread(edge.packs.keep, pack):
        return True
    directories = await edge.look(partial(retention.directories_of_pack, pack=pack))
    return await edge.in_thread(edge.packs.again, pack, directories)
