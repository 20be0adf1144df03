"""The list of jobs, and what is done to many of them at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.api.packing import pack_of_retried
from jobtasks.core.errors import Invalid, JobTasksError
from jobtasks.core.filters import Query, parse_query
from jobtasks.core.packs import Pack
from jobtasks.core.resources import RESOURCES, is_digits
from jobtasks.core.states import JobState
from jobtasks.service import census, jobs, listing
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import JobRecord
from jobtasks.web import words
from jobtasks.web.pages import Pages, field, fields, then

PAGE = 50
JOBS_AT_ONCE_MAX = 1000
"""How many jobs one click may cancel or retry."""
TOGETHER = 16
"""How many of them are under way at a time, so that their commits are shared."""
SEARCH_LETTERS_MAX = 200
ORDERS = {
    "-created": ("created_at desc", "newest first"),
    "created": ("created_at", "oldest first"),
    "-started": ("started_at desc", "started last"),
    "-finished": ("finished_at desc", "ended last"),
    "-priority": ("priority desc", "highest priority"),
    "-modified": ("modified_at desc", "changed last"),
}
"""What the list can be sorted by: the order, and what it is called."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs a page shows, as its address says."""

    state: str = ""
    search: str = ""
    order: str = "-created"
    offset: int = 0

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Wanted:
        """Return what an address asks for; what it says wrongly counts as not said."""
        state, order = parameters.get("state", ""), parameters.get("order", "")
        offset = parameters.get("offset", "")
        return cls(
            state if state in set(JobState) else "",
            parameters.get("q", "").strip()[:SEARCH_LETTERS_MAX],
            order if order in ORDERS else "-created",
            int(offset[:9]) if is_digits(offset) else 0,
        )

    def address(self, path: str = "/", **changes: Any) -> str:
        """Return the address of a page that differs from this one in so much."""
        wanted = replace(self, **changes)
        said = {
            "state": wanted.state,
            "q": wanted.search,
            "order": "" if wanted.order == "-created" else wanted.order,
            "offset": str(wanted.offset or ""),
        }
        query = urlencode({name: value for name, value in said.items() if value})
        return path + (f"?{query}" if query else "")

    def query(self, limit: int) -> Query:
        """Return the call that lists them."""
        filters: list[Any] = []
        if self.state:
            filters.append(["state", "=", self.state])
        if self.search:
            filters.append(["any", "@@", self.search])
        asked = {
            "filters": json.dumps(filters),
            "order": ORDERS[self.order][0],
            "limit": str(limit),
            "offset": str(self.offset),
        }
        return parse_query(RESOURCES["jobs"], asked, limit)


class Reached(NamedTuple):
    """What came of an action on many jobs."""

    done: int
    refused: dict[str, int]
    """How many were refused, by what was said."""


Act = Callable[[Context, Caller, str, Pack | None], object]


class JobsPages:
    """Request handlers of ``/``."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            self._pages.route("/", self.show),
            self._pages.route("/jobs", self.show),
            self._pages.route("/parts/jobs", self.part),
            self._pages.route("/jobs/several", self.several, "POST"),
        ]

    async def show(self, request: Request) -> Response:
        """Answer with the page."""
        return await self._pages.page(request, "jobs.html", _loaded(request))

    async def part(self, request: Request) -> Response:
        """Answer with the list as it is now."""
        return await self._pages.part(request, "_jobs.html", _loaded(request))

    async def several(self, request: Request) -> Response:
        """Cancel or retry many jobs, and say how many were hit."""
        uuids = fields(request, "job")
        if field(request, "all"):
            uuids = await self._matching(request)
        if not uuids:
            return then(request, "No job was chosen.", is_bad=True)
        if len(uuids) > JOBS_AT_ONCE_MAX:
            raise Invalid(f"At most {JOBS_AT_ONCE_MAX} jobs at once.")
        if field(request, "action") == "cancel":
            reached = await self._each(request, uuids, _cancel)
            return then(request, _said("cancelled", "cancel", reached), is_bad=not reached.done)
        reached = await self._each(request, uuids, _retry, is_retry=True)
        return then(request, _said("queued again", "retry", reached), is_bad=not reached.done)

    async def _matching(self, request: Request) -> list[str]:
        asked = {name: field(request, name) for name in ("state", "q", "order")}
        query = Wanted.of(asked).query(JOBS_AT_ONCE_MAX)
        page = await self._pages.edge.read(
            request, lambda ctx, caller: listing.list_jobs(ctx, caller, query)
        )
        return [job.uuid for job in page.items]

    async def _each(
        self,
        request: Request,
        uuids: list[str],
        act: Act,
        is_retry: bool = False,
    ) -> Reached:
        done = 0
        refused: dict[str, int] = {}

        async def one(uuid: str) -> None:
            nonlocal done
            try:
                pack = await pack_of_retried(self._pages.edge, request, uuid) if is_retry else None
                await self._pages.edge.write(
                    request, lambda ctx, caller: act(ctx, caller, uuid, pack)
                )
                done += 1
            except JobTasksError as error:
                said = error.messages[0].replace(uuid, "it")
                refused[said] = refused.get(said, 0) + 1

        await _in_groups(list(dict.fromkeys(uuids)), one)
        return Reached(done, refused)


async def _in_groups(names: list[str], act: Callable[[str], Awaitable[None]]) -> None:
    for start in range(0, len(names), TOGETHER):
        await asyncio.gather(*(act(name) for name in names[start : start + TOGETHER]))


def _cancel(ctx: Context, caller: Caller, uuid: str, _: Pack | None) -> JobRecord:
    job = jobs.show(ctx, caller, uuid)
    if JobState(job.state).is_final:
        raise Invalid("It had ended.")
    return jobs.cancel(ctx, caller, uuid, None, cascade=False)


def _retry(ctx: Context, caller: Caller, uuid: str, pack: Pack | None) -> JobRecord:
    return jobs.retry(ctx, caller, uuid, None, None, None, pack)


def _said(done: str, verb: str, reached: Reached) -> str:
    total = reached.done + sum(reached.refused.values())
    text = f"{words.count(reached.done)} of {words.plural(total, 'job')} {done}."
    for said, number in sorted(reached.refused.items(), key=lambda pair: -pair[1])[:3]:
        text += f" Did not {verb} {words.count(number)}: {said}"
    return text


def _loaded(request: Request) -> Callable[[Context, Caller], Mapping[str, Any]]:
    wanted = Wanted.of(request.query_params)

    def load(ctx: Context, caller: Caller) -> Mapping[str, Any]:
        page = listing.list_jobs(ctx, caller, wanted.query(PAGE))
        counts = census.jobs_by_state(ctx, caller)
        return {
            "wanted": wanted,
            "orders": ORDERS,
            "page": page,
            "counts": counts,
            "total": sum(counts.values()),
            "owners": _owners(ctx, caller, page),
        }

    return load


def _owners(ctx: Context, caller: Caller, page: listing.Page[JobRecord]) -> dict[str, str]:
    """Return whose the jobs of a page are, for those who see jobs of others."""
    if not caller.is_admin:
        return {}
    return census.names_of(ctx, {job.owner_uuid for job in page.items})
