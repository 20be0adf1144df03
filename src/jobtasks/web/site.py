"""Every page's route."""

from __future__ import annotations

from starlette.routing import Route

from jobtasks.api.edge import Edge
from jobtasks.web.entrance import Entrance
from jobtasks.web.files import Files
from jobtasks.web.job import JobPages
from jobtasks.web.jobs import JobsPages
from jobtasks.web.live import Live
from jobtasks.web.nodes import NodesPages
from jobtasks.web.rooms import Rooms
from jobtasks.web.task import TaskPages


def pages_of(edge: Edge) -> list[Route]:
    """Return the routes of all pages."""
    rooms = Rooms(edge)
    return [
        *Entrance(rooms).routes(),
        *JobsPages(rooms).routes(),
        *JobPages(rooms).routes(),
        *TaskPages(rooms).routes(),
        *NodesPages(rooms).routes(),
        *Live(rooms).routes(),
        *Files().routes(),
    ]
