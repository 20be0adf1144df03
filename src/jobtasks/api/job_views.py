"""What a job looks like as a whole: how its attempts failed."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.api.answers import json_answer
from jobtasks.api.collection import BASE, Collection
from jobtasks.api.parsing import count_of, time_of
from jobtasks.api.view_rendering import (
    render_branches,
    render_child,
    render_family,
    render_generation,
    render_timeline,
)
from jobtasks.core.errors import Invalid
from jobtasks.core.filters import LIMIT_DEFAULT
from jobtasks.service import families, tree
from jobtasks.service.creation import SEQUENCE_MAX
from jobtasks.service.family_retry import checked_factor
from jobtasks.service.job_retry import Chosen, FailedFamily
from jobtasks.service.timelines import COLUMNS_DEFAULT, COLUMNS_MAX, Asked
from jobtasks.store.records import JobRecord

QSEQUENCE_MAX = 2**32 - 1


class JobViews(Collection[JobRecord]):
    """Request handlers of what sums a job up."""

    def routes(self) -> list[Route]:
        """Return the routes of these views, after those of the collection."""
        member = f"{BASE}/jobs/{{uuid}}"
        return [
            *super().routes(),
            Route(member + "/families", self.families, methods=["GET"]),
            Route(member + "/tree", self.tree, methods=["GET"]),
            Route(member + "/timeline", self.timeline, methods=["GET"]),
        ]

    async def families(self, request: Request) -> Response:
        """Answer with how a job's attempts failed, the most frequent first."""
        uuid = request.path_params["uuid"]
        found = await self.edge.read(
            request, lambda ctx, caller: families.of_job(ctx, caller, uuid)
        )
        return json_answer({"items": [render_family(family) for family in found]})

    async def tree(self, request: Request) -> Response:
        """Answer with who created whom, by sequence: of the whole job, or of one task."""
        uuid = request.path_params["uuid"]
        task = request.query_params.get("task")
        if request.query_params.get("sequence"):
            return await self._children(request, uuid, task)
        if task:
            generations = await self.edge.read(
                request,
                lambda ctx, caller: tree.children_by_sequence(ctx, caller, task, uuid),
            )
            return json_answer({"items": [render_generation(each) for each in generations]})
        found = await self.edge.read(
            request, lambda ctx, caller: tree.by_sequence(ctx, caller, uuid)
        )
        return json_answer(render_branches(found))

    async def _children(self, request: Request, uuid: str, task: str | None) -> Response:
        if not task:
            raise Invalid("sequence goes with a task")
        sequence = count_of(request, "sequence", 0, SEQUENCE_MAX)
        after = count_of(request, "after", -1, QSEQUENCE_MAX)
        items_max = self.settings.list_items_max
        limit = min(count_of(request, "limit", LIMIT_DEFAULT), items_max)
        found = await self.edge.read(
            request,
            lambda ctx, caller: tree.children(ctx, caller, task, sequence, after, limit, uuid),
        )
        return json_answer({"items": [render_child(child) for child in found]})

    async def timeline(self, request: Request) -> Response:
        """Answer with a job's attempts over time: one by one, or how busy its nodes were."""
        uuid = request.path_params["uuid"]
        columns = count_of(request, "columns", COLUMNS_DEFAULT, COLUMNS_MAX)
        since, until = time_of(request, "from"), time_of(request, "until")
        if since is not None and until is not None and since >= until:
            raise Invalid("from must be before until")
        asked = Asked(since, until, max(1, columns))
        answer = await self.edge.read(
            request,
            lambda ctx, caller: render_timeline(
                self.edge.timelines.answer(ctx, caller, uuid, asked)
            ),
        )
        return json_answer(answer)


def chosen_of(body: dict[str, Any]) -> Chosen:
    """Return which tasks the body of a retry asks for: a list, a family, or None (R23).

    Raises:
        Invalid: it asks for both, or what it says is of the wrong type.
    """
    uuids, family = body.get("job_tasks"), body.get("family")
    factor = checked_factor(body.get("ram_factor"))
    if family is None:
        if factor is not None:
            raise Invalid("ram_factor goes with a family")
        return _uuids(uuids)
    if uuids is not None:
        raise Invalid("Give either job_tasks or family")
    if not isinstance(family, str):
        raise Invalid("family must be text")
    return FailedFamily(family, factor)


def _uuids(value: Any) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Invalid("job_tasks must be a list of UUIDs")
    return value
