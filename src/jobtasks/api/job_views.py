"""What a job looks like as a whole: how its attempts failed."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.api.answers import json_answer
from jobtasks.api.collection import BASE, Collection
from jobtasks.api.view_rendering import render_family
from jobtasks.core.errors import Invalid
from jobtasks.service import families
from jobtasks.service.family_retry import checked_factor
from jobtasks.service.job_retry import Chosen, FailedFamily
from jobtasks.store.records import JobRecord


class JobViews(Collection[JobRecord]):
    """Request handlers of what sums a job up."""

    def routes(self) -> list[Route]:
        """Return the routes of these views, after those of the collection."""
        member = f"{BASE}/jobs/{{uuid}}"
        return [
            *super().routes(),
            Route(member + "/families", self.families, methods=["GET"]),
        ]

    async def families(self, request: Request) -> Response:
        """Answer with how a job's attempts failed, the most frequent first."""
        uuid = request.path_params["uuid"]
        found = await self.edge.read(
            request, lambda ctx, caller: families.of_job(ctx, caller, uuid)
        )
        return json_answer({"items": [render_family(family) for family in found]})


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
