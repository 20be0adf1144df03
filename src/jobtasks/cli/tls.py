"""The options of ``jobtasks serve`` about https."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from jobtasks.api.listeners import TlsOptions
from jobtasks.cli.options import ListenAddress

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option(
        "--listen-tls",
        type=ListenAddress(),
        help="Where to accept https, too; port 0 takes a free one.",
    ),
    click.option(
        "--tls-cert",
        type=_FILE,
        help="PEM: certificate and chain. Default: one of an authority of our own.",
    ),
    click.option("--tls-key", type=_FILE, help="PEM: its key, if not in the same file."),
    click.option(
        "--tls-ca", type=_FILE, help="PEM: what clients need to trust it, if not what all do."
    ),
    click.option(
        "--tls-name",
        "tls_names",
        multiple=True,
        metavar="NAME",
        help="What else clients call this server.",
    ),
)


def tls_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options; it gets them as one argument, `tls`."""

    @functools.wraps(command)
    def with_tls(
        *,
        listen_tls: tuple[str, int] | None,
        tls_cert: Path | None,
        tls_key: Path | None,
        tls_ca: Path | None,
        tls_names: tuple[str, ...],
        **others: Any,
    ) -> Any:
        tls = chosen(listen_tls, tls_cert, tls_key, tls_ca, tls_names)
        return command(tls=tls, **others)

    result: Callable[..., Any] = with_tls
    for option in reversed(_OPTIONS):
        result = option(result)
    return result


def chosen(
    listen: tuple[str, int] | None,
    certificate: Path | None,
    key: Path | None,
    ca: Path | None,
    names: tuple[str, ...],
) -> TlsOptions | None:
    """Return what the options say together; usage errors for what makes no sense."""
    if listen is None and (certificate or key or ca or names):
        raise click.UsageError("--tls-… says how to serve https; --listen-tls says where.")
    if certificate is None and (key or ca):
        raise click.UsageError("--tls-key and --tls-ca belong to --tls-cert.")
    if certificate and names:
        raise click.UsageError("--tls-name is for a certificate of our own, not for --tls-cert.")
    return TlsOptions(*listen, certificate, key, ca, names) if listen else None
