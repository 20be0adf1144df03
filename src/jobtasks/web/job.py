"""One job: how far it is, its tasks, and the other ways to look at it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.api.jobs import Jobs
from jobtasks.api.packing import pack_of_retried
from jobtasks.core.errors import NotFound
from jobtasks.core.filters import parse_query
from jobtasks.core.identifiers import is_uuid
from jobtasks.core.resources import RESOURCES, is_digits
from jobtasks.core.states import JobState, TaskState
from jobtasks.service import census, families, jobs, listing, overview, tree
from jobtasks.service.context import Caller, Context
from jobtasks.service.job_retry import Chosen, FailedFamily
from jobtasks.store.records import JobRecord, TaskRecord
from jobtasks.web import words
from jobtasks.web.pages import Pages, field, then

PAGE = 50
SEARCH_LETTERS_MAX = 200
TASK_STATES = tuple(state.word for state in TaskState)
VIEWS = {
    "": "Tasks",
    "timeline": "Timeline",
    "tree": "Tree",
    "failures": "Failures",
    "details": "Details",
}
"""Ways to look at a job: the last part of the address, and what it is called."""
RAM_FACTORS = ("1", "1.5", "2", "4")
Load = Callable[[Context, Caller], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class WantedTasks:
    """Which tasks of a job a page shows, as its address says."""

    state: str = ""
    sequence: int | None = None
    search: str = ""
    after: int | None = None
    """The qsequence of the last task of the page before."""

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> WantedTasks:
        """Return what an address asks for; what it says wrongly counts as not said."""
        state = parameters.get("state", "")
        return cls(
            state if state in TASK_STATES else "",
            _number(parameters.get("sequence", "")),
            parameters.get("q", "").strip()[:SEARCH_LETTERS_MAX],
            _number(parameters.get("after", "")),
        )

    def query_string(self, **changes: Any) -> str:
        """Return what stands behind the path of a page that differs from this in so much."""
        wanted = replace(self, **changes)
        said = {
            "state": wanted.state,
            "sequence": wanted.sequence,
            "q": wanted.search,
            "after": wanted.after,
        }
        query = urlencode({name: value for name, value in said.items() if value not in ("", None)})
        return f"?{query}" if query else ""

    def filters(self) -> list[Any]:
        """Return the conditions of the list but for state and place."""
        found: list[Any] = []
        if self.sequence is not None:
            found.append(["sequence", "=", self.sequence])
        if is_digits(self.search) and len(self.search) < 10:
            found.append(["qsequence", "=", int(self.search)])
        elif is_uuid(self.search):
            found.append(["uuid", "=", self.search])
        elif self.search:
            found.append(["parameters", "ilike", f"%{_literal(self.search)}%"])
        return found


def _number(text: str) -> int | None:
    return int(text) if is_digits(text) and len(text) < 11 else None


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


class JobPages:
    """Request handlers of ``/jobs/{uuid}``."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._api = Jobs(pages.edge)

    def routes(self) -> list[Route]:
        """Return the routes."""
        path = "/jobs/{uuid}"
        return [
            self._pages.route(path, self.show),
            *(self._pages.route(f"{path}/{view}", self.show) for view in VIEWS if view),
            self._pages.route(path + "/parts/{part}", self.part),
            self._pages.route(path + "/timeline/data", self._api.timeline),
            self._pages.route(path + "/cancel", self.cancel, "POST"),
            self._pages.route(path + "/retry", self.retry, "POST"),
            self._pages.route(path + "/priority", self.priority, "POST"),
        ]

    async def show(self, request: Request) -> Response:
        """Answer with the page; what it shows below the head is the last part of the address."""
        uuid = request.path_params["uuid"]
        view = request.url.path.removeprefix(f"/jobs/{uuid}").strip("/")
        loads = [head(uuid), *self._loads(view, uuid, request)]

        def load(ctx: Context, caller: Caller) -> dict[str, Any]:
            values: dict[str, Any] = {"view": view, "views": VIEWS}
            for each in loads:
                values |= each(ctx, caller)
            return values

        return await self._pages.page(request, "job.html", load)

    async def part(self, request: Request) -> Response:
        """Answer with a part of the page as it is now."""
        uuid, part = request.path_params["uuid"], request.path_params["part"]
        if part == "head":
            return await self._pages.part(request, "_job_head.html", head(uuid))
        if part == "tasks":
            return await self._pages.part(
                request, "_tasks.html", tasks(uuid, WantedTasks.of(request.query_params))
            )
        if part == "failures":
            return await self._pages.part(request, "_failures.html", failures(uuid))
        raise NotFound

    def _loads(self, view: str, uuid: str, request: Request) -> list[Load]:
        if view == "":
            return [tasks(uuid, WantedTasks.of(request.query_params))]
        if view == "failures":
            return [failures(uuid)]
        if view == "tree":
            return [lineage(uuid)]
        return []

    async def cancel(self, request: Request) -> Response:
        """Cancel the job."""
        uuid = request.path_params["uuid"]
        reason = field(request, "reason").strip() or None
        await self._pages.edge.write(
            request, lambda ctx, caller: jobs.cancel(ctx, caller, uuid, reason, cascade=False)
        )
        return then(request, "The job is cancelled; its processes are being ended.")

    async def retry(self, request: Request) -> Response:
        """Queue the job again: whole, one of its tasks, or a family of failures."""
        uuid = request.path_params["uuid"]
        chosen = _chosen(request)
        pack = await pack_of_retried(self._pages.edge, request, uuid)

        def work(ctx: Context, caller: Caller) -> tuple[int, JobRecord]:
            before = jobs.show(ctx, caller, uuid)
            after = jobs.retry(ctx, caller, uuid, chosen, None, None, pack)
            if isinstance(chosen, FailedFamily):
                return before.failed - after.failed, after
            return len(chosen) if chosen else after.todo, after

        number, _ = await self._pages.edge.write(request, work)
        again = words.plural(number, "task")
        return then(
            request, f"The job is queued again: {again} {'is' if number == 1 else 'are'} to be run."
        )

    async def priority(self, request: Request) -> Response:
        """Change how soon the job gets its turn."""
        uuid = request.path_params["uuid"]
        changes = {"priority": field(request, "priority").strip() or 0}
        job = await self._pages.edge.write(
            request, lambda ctx, caller: jobs.update(ctx, caller, uuid, changes, whole=False)
        )
        return then(request, f"The job has priority {job.priority}.")


def _chosen(request: Request) -> Chosen:
    """Return what of a job is to be tried again, None for all that is not complete."""
    task, family = field(request, "task"), field(request, "family")
    if task:
        return [task]
    if not family:
        return None
    factor = field(request, "ram_factor")
    return FailedFamily(family, float(factor) if factor in RAM_FACTORS[1:] else None)


def lineage(uuid: str) -> Load:
    """Return what reads where the tree of a job's tasks begins."""

    def load(ctx: Context, caller: Caller) -> dict[str, Any]:
        branches = tree.by_sequence(ctx, caller, uuid)
        job = jobs.show(ctx, caller, uuid)
        first = _found(ctx, caller, job, WantedTasks(search="0"))
        return {"branches": branches, "seed": first[0] if first else None}

    return load


def failures(uuid: str) -> Load:
    """Return what reads how a job's attempts failed."""

    def load(ctx: Context, caller: Caller) -> dict[str, Any]:
        job = jobs.show(ctx, caller, uuid)
        found = families.of_job(ctx, caller, uuid)
        return {
            "job": job,
            "families": found,
            "attempts": sum(family.attempts for family in found),
            "may_retry": job.state in (JobState.FAILED, JobState.CANCELLED) and not job.live,
            "is_final": JobState(job.state).is_final,
            "factors": RAM_FACTORS,
        }

    return load


def head(uuid: str) -> Load:
    """Return what reads how far a job is."""

    def load(ctx: Context, caller: Caller) -> dict[str, Any]:
        found = overview.of_job(ctx, caller, uuid)
        owners = census.names_of(ctx, {found.job.owner_uuid})
        return {
            "overview": found,
            "job": found.job,
            "is_over": JobState(found.job.state).is_final,
            "owner": owners.get(found.job.owner_uuid, found.job.owner_uuid),
        }

    return load


def tasks(uuid: str, wanted: WantedTasks) -> Load:
    """Return what reads a page of a job's tasks."""

    def load(ctx: Context, caller: Caller) -> dict[str, Any]:
        job = jobs.show(ctx, caller, uuid)
        found = _found(ctx, caller, job, wanted)
        counts = _counts(ctx, caller, job, wanted.sequence)
        return {
            "job": job,
            "wanted": wanted,
            "tasks": found[:PAGE],
            "has_more": len(found) > PAGE,
            "counts": counts,
            "total": sum(counts.values()),
            "sequences": [level.sequence for level in jobs.levels(ctx, caller, uuid)],
        }

    return load


def _counts(ctx: Context, caller: Caller, job: JobRecord, sequence: int | None) -> dict[str, int]:
    if sequence is None:
        numbers = (job.todo, job.running_tasks, job.done, job.failed)
    else:
        levels = jobs.levels(ctx, caller, job.uuid)
        numbers = next(
            (
                (level.todo, level.running, level.done, level.failed)
                for level in levels
                if level.sequence == sequence
            ),
            (0, 0, 0, 0),
        )
    return dict(zip(TASK_STATES, numbers, strict=True))


def _found(ctx: Context, caller: Caller, job: JobRecord, wanted: WantedTasks) -> list[TaskRecord]:
    """Return one task more than a page has, if there are so many.

    What runs is found by its attempts, what waits behind the first that does: among a million
    tasks nobody looks for the few.
    """
    filters: list[Any] = [["job_uuid", "=", job.uuid], *wanted.filters()]
    after = -1 if wanted.after is None else wanted.after
    if wanted.state:
        filters.append(["state", "=", wanted.state])
    if wanted.state == "running" and not wanted.filters():
        filters.append(["qsequence", "in", overview.running(ctx, job, after, PAGE + 1) or [-1]])
    elif wanted.state == "waiting" and not wanted.search:
        after = max(after, overview.first_waiting(ctx, job) - 1)
    if after >= 0:
        filters.append(["qsequence", ">", after])
    asked = {
        "filters": json.dumps(filters),
        "order": "qsequence",
        "limit": str(PAGE + 1),
        "count": "none",
    }
    query = parse_query(RESOURCES["job_tasks"], asked, PAGE + 1)
    return list(listing.list_tasks(ctx, caller, query).items)
