"""A server for a command that runs a job here and now: the one that serves, else one of its own."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click

from jobtasks.cli.client import Client
from jobtasks.cli.embedded import EmbeddedServer
from jobtasks.cli.servers import RUN_PATIENCE_SECONDS, address_of_environment, answers, connect
from jobtasks.cli.state import StateDirectory


@contextmanager
def some_server(
    state: StateDirectory, notice: Callable[[str], None], *options: str
) -> Iterator[tuple[Client, bool]]:
    """A client of the server of the environment, else of the state directory, else of our own.

    Also whether it is our own; `options` are for that one.
    """
    if address_of_environment(state) or answers(state):
        with connect(state, RUN_PATIENCE_SECONDS, notice) as client:
            yield client, False
        return
    with EmbeddedServer(state, *options) as server:
        with Client(server.address, RUN_PATIENCE_SECONDS, notice) as client:
            yield client, True


@contextmanager
def leaving_on_ctrl_c(resume: str, is_ours: bool) -> Iterator[None]:
    """Ctrl-C and TERM leave the job, and say how to take it up again: by the command `resume`."""
    earlier = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        if is_ours:
            click.echo(f"\nstopping; the job stays. Go on with: {resume}", err=True)
        else:
            click.echo(f"\nthe job goes on at its server. Watch it with: {resume}", err=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
