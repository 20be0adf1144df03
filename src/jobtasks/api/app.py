"""The routes of the HTTP interface, and the order of what a request passes; nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from jobtasks.api.agents import Agents
from jobtasks.api.boundary import AGENTS, Boundary, on_crash, on_no_route, on_refusal
from jobtasks.api.discovery import Discovery
from jobtasks.api.edge import Edge
from jobtasks.api.engine import EngineState
from jobtasks.api.events import Events
from jobtasks.api.exporting import Exporting
from jobtasks.api.health import Health
from jobtasks.api.importing import Importing
from jobtasks.api.job_files import JobFiles
from jobtasks.api.job_tasks import JobTasks
from jobtasks.api.jobs import Jobs
from jobtasks.api.logs import Logs
from jobtasks.api.metrics import Metrics
from jobtasks.api.nodes import Nodes
from jobtasks.api.openapi import Description
from jobtasks.api.scripts import Scripts
from jobtasks.api.upkeep import Upkeep
from jobtasks.api.users import Tokens, Users
from jobtasks.core.errors import JobTasksError


def routes_of(edge: Edge) -> list[Route]:
    """Return every route of the interface."""
    routes = [
        *JobTasks(edge).routes(),
        *Agents(edge).routes(),
        *Scripts(edge).routes(),
        *Importing(edge).routes(),
        *Jobs(edge).routes(),
        *Exporting(edge).routes(),
        *JobFiles(edge).routes(),
        *Metrics(edge).routes(),
        *Users(edge).routes(),
        *Tokens(edge).routes(),
        *Nodes(edge).routes(),
        *Logs(edge).routes(),
        *Events(edge).routes(),
        *Upkeep(edge).routes(),
        *EngineState(edge).routes(),
        *Health(edge).routes(),
    ]
    routes += Discovery(edge, routes).routes()
    return [*routes, *Description(routes).routes()]


def make_app(edge: Edge, pages: Sequence[Route] = ()) -> Boundary:
    """Return the ASGI application; `pages` are for people, no part of the interface."""
    routes = routes_of(edge)
    app = Starlette(
        routes=[*routes, *pages],
        exception_handlers={
            JobTasksError: on_refusal,
            HTTPException: on_no_route,
            Exception: on_crash,
        },
    )
    app.router.redirect_slashes = False
    of_agents = [
        route
        for route in routes
        if route.path.startswith(AGENTS) and "POST" in (route.methods or ())
    ]
    return Boundary(
        app, of_agents, edge.world.settings, edge.meters, edge.bodies, JobTasks(edge).report
    )
