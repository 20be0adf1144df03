"""Every page's route."""

from __future__ import annotations

from starlette.routing import Route

from jobtasks.api.edge import Edge
from jobtasks.web.files import Files
from jobtasks.web.job import JobPages
from jobtasks.web.jobs import JobsPages
from jobtasks.web.live import Live
from jobtasks.web.nodes import NodesPages
from jobtasks.web.pages import Pages
from jobtasks.web.sign_in import SignIn
from jobtasks.web.task import TaskPages


def pages_of(edge: Edge) -> list[Route]:
    """Return the routes of all pages."""
    pages = Pages(edge)
    return [
        *SignIn(pages).routes(),
        *JobsPages(pages).routes(),
        *JobPages(pages).routes(),
        *TaskPages(pages).routes(),
        *NodesPages(pages).routes(),
        *Live(pages).routes(),
        *Files().routes(),
    ]
