"""Which server a command talks to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobtasks.cli.client import Client
from jobtasks.cli.embedded import EmbeddedServer
from jobtasks.cli.problems import Problem
from jobtasks.cli.state import Address, StateDirectory
from jobtasks.core.errors import JobTasksError

RUN_PATIENCE_SECONDS = 900.0
"""How long ``run`` and ``wait`` repeat a call while the server is away."""


def address_of_environment(state: StateDirectory) -> Address | None:
    """``JOBTASKS_URL`` with ``JOBTASKS_TOKEN``, unless a state directory was named."""
    url = os.environ.get("JOBTASKS_URL")
    if not url or state.is_chosen:
        return None
    # Inside a task the address is there, and the token under the name that Arvados gave it.
    token = os.environ.get("JOBTASKS_TOKEN") or os.environ.get("ARVADOS_API_TOKEN")
    if not token:
        raise Problem("JOBTASKS_URL is set, JOBTASKS_TOKEN is not", "set both, or use --state DIR")
    return Address(url.rstrip("/"), token, state.ca_file)


@contextmanager
def connect(
    state: StateDirectory,
    patience_seconds: float = 0.0,
    notice: Callable[[str], None] = lambda line: None,
) -> Iterator[Client]:
    """A client of the server that serves; Problem when none does."""
    first = _serving(state)

    # A server that starts again has no address for a moment: the last one is as good then.
    def find() -> Address:
        return address_of_environment(state) or state.address() or first

    with Client(find, patience_seconds, notice) as client:
        yield client


@contextmanager
def look(state: StateDirectory) -> Iterator[Client]:
    """A client of the server that serves, or else of one that serves just this command.

    So the logs of a ``run`` that is over can be read, and its job be retried; that server has no
    agent, and starts no task.
    """
    if address_of_environment(state) or answers(state) or not state.has_database:
        with connect(state) as client:
            yield client
    else:
        with EmbeddedServer(state, "--no-agent") as server, Client(server.address) as client:
            yield client


@contextmanager
def attend(
    state: StateDirectory, stays: bool, notice: Callable[[str], None] = lambda line: None
) -> Iterator[tuple[Client, bool]]:
    """A client as `look` has it, and whether to stay with what it looks at, as is asked for.

    Who stays waits for a server that is away. With a server for this command alone nothing goes
    on, so there is nothing to stay for.
    """
    if stays and (address_of_environment(state) or answers(state)):
        with connect(state, RUN_PATIENCE_SECONDS, notice) as client:
            yield client, True
    else:
        with look(state) as client:
            yield client, False


def _serving(state: StateDirectory) -> Address:
    address = address_of_environment(state) or state.address()
    if address is None:
        raise Problem(
            f"no server serves {state.path}",
            f"start one with `jobtasks serve{state.option}`, or set JOBTASKS_URL",
        )
    return address


def answers(state: StateDirectory) -> bool:
    """Whether the server that left its address in the directory is there and knows the token.

    After a crash the address stays, and somebody else may have got the port.
    """
    address = state.address()
    if address is None:
        return False
    try:
        with Client(lambda: address) as client:
            client.get("/jobs", limit=0)
    except JobTasksError:
        return False
    return True
