"""``jobtasks serve``: run the server."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from jobtasks.api.listeners import TlsOptions
from jobtasks.cli.databases import Database, database_options
from jobtasks.cli.durations import Duration
from jobtasks.cli.embedded import end_with_parent
from jobtasks.cli.notifying import notify_options
from jobtasks.cli.options import (
    Assignment,
    ListenAddress,
    ServerAddress,
    cgroups_option,
    state_option,
)
from jobtasks.cli.state import StateDirectory
from jobtasks.cli.tls import tls_options
from jobtasks.core.notifying import Notifying
from jobtasks.core.settings import Settings


def chosen_settings(
    context: click.Context, parameter: click.Parameter, given: tuple[tuple[str, Any], ...]
) -> Settings:
    """The defaults, but for what ``--setting`` gave; usage error for an unknown name or value."""
    import msgspec

    unknown = [name for name, _ in given if name not in Settings.__dataclass_fields__]
    if unknown:
        raise click.BadParameter(f"there is no setting {unknown[0]!r}", context, parameter)
    try:
        settings = msgspec.convert(dict(given), Settings)
    except msgspec.ValidationError as error:
        raise click.BadParameter(str(error), context, parameter) from None
    for name, value in given:
        if value < 0:
            raise click.BadParameter(f"{name} cannot be negative", context, parameter)
    return settings


def told_engine(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    """What ``--engine-option`` gave, by name; usage error for a word without ``=``."""
    for word in given:
        if not word.partition("=")[0] or "=" not in word:
            raise click.BadParameter(f"{word!r} is not NAME=VALUE", context, parameter)
    return {word.partition("=")[0]: word.partition("=")[2] for word in given}


def retaining(
    settings: Settings, jobs_seconds: float | None, logs_seconds: float | None
) -> Settings:
    """The settings with what the options say of retention, where they say something."""
    if jobs_seconds is not None:
        settings = dataclasses.replace(settings, retain_jobs_seconds=jobs_seconds)
    if logs_seconds is not None:
        settings = dataclasses.replace(settings, retain_logs_seconds=logs_seconds)
    return settings


@click.command(name="serve")
@state_option
@click.option(
    "--listen",
    type=ListenAddress(),
    default="127.0.0.1:7070",
    show_default=True,
    help="Where to accept; port 0 takes a free one.",
)
@click.option(
    "--external-url",
    type=ServerAddress(),
    default="",
    help="What clients call this server, if not as it listens.",
)
@tls_options
@click.option(
    "--allow-plain-http",
    is_flag=True,
    help="Let --listen be an address that others reach: they can read tokens along the way.",
)
@click.option(
    "--allow-network-file-system",
    is_flag=True,
    help="Let --state lie on NFS, SMB, sshfs and the like: after a crash, a lost connection or with"
    " a second server there, records may be lost or damaged.",
)
@database_options
@click.option(
    "--engine",
    default="local",
    show_default=True,
    help="Who gives nodes: local is this machine alone; with slurm, ssh or another it runs none.",
)
@click.option(
    "--engine-option",
    "engine_options",
    metavar="NAME=VALUE",
    multiple=True,
    callback=told_engine,
    help="What the engine is told; may be repeated.",
)
@click.option("--slots", type=click.IntRange(min=1), help="Tasks at a time here; default: cores.")
@click.option("--no-agent", is_flag=True, help="Run no tasks on this machine.")
@click.option("--no-manager", is_flag=True, help="Start no jobs: programs of yours run them.")
@click.option("--handover", is_flag=True, help="At TERM leave the tasks to the next server.")
@click.option("--pass-env", multiple=True, metavar="NAME", help="A variable that tasks inherit.")
@cgroups_option
@click.option(
    "--in-place",
    is_flag=True,
    help="The engine's nodes see this machine's directories: they start scripts where they are.",
)
@click.option(
    "--retain-jobs",
    type=Duration(),
    help="Remove jobs so long after their end: 30d, 12h. By default they are kept.",
)
@click.option(
    "--retain-logs",
    type=Duration(),
    help="Remove the logs of jobs so long after their end. By default with the job.",
)
@notify_options
@click.option(
    "--setting",
    "settings",
    type=Assignment(),
    multiple=True,
    callback=chosen_settings,
    hidden=True,
)
@click.option("--end-with-parent", "parent", type=int, hidden=True)
def command(
    state: StateDirectory,
    listen: tuple[str, int],
    external_url: str,
    tls: TlsOptions | None,
    allow_plain_http: bool,
    allow_network_file_system: bool,
    engine: str,
    engine_options: dict[str, str],
    slots: int | None,
    no_agent: bool,
    no_manager: bool,
    handover: bool,
    pass_env: tuple[str, ...],
    cgroups: str,
    in_place: bool,
    retain_jobs: float | None,
    retain_logs: float | None,
    notifying: Notifying,
    notify_secret_file: Path | None,
    database: Database,
    settings: Settings,
    parent: int | None,
) -> int:
    """Serve the API, manage jobs and, unless --no-agent, run their tasks on this machine.

    Prints `ready URL` when it accepts; the administrator's token is in DIR/admin.token. TERM ends
    it in good order: running tasks are stopped, and start again with the next server.
    """
    if parent is not None:
        end_with_parent(parent)
    from jobtasks.api.server import ServeOptions, serve
    from jobtasks.web.site import pages_of

    host, port = listen
    return serve(
        ServeOptions(
            state=state.path,
            host=host,
            port=port,
            engine=engine,
            engine_options=engine_options,
            slots=slots,
            agent=not no_agent and engine == "local",
            manager=not no_manager,
            handover=handover,
            pass_env=pass_env,
            cgroups=cgroups,
            in_place=in_place,
            external_url=external_url,
            tls=tls,
            allow_plain_http=allow_plain_http,
            allow_network_file_system=allow_network_file_system,
            notifying=notifying,
            notify_secret_file=notify_secret_file,
            pages=pages_of,
            # One that lives as long as another command has nobody who reads its stderr.
            invites=parent is None,
            database=database.address,
            pooled=database.is_pooled,
            shared=database.shared,
        ),
        retaining(settings, retain_jobs, retain_logs),
    )
