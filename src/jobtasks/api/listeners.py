"""Where the server accepts, and what it is called there."""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobtasks.api.state_dir import StartRefused
from jobtasks.core.addresses import (
    host_of,
    is_every,
    is_loopback,
    netloc_of,
    plain_name,
    url_of,
)
from jobtasks.protocol.messages import Trust

if TYPE_CHECKING:
    from jobtasks.api.certificates import Certificates

BACKLOG = 1024
LOOPBACKS = ("localhost", "127.0.0.1", "::1")
"""What every server is called by its own machine."""
FAR_AWAY = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses that no machine has. Nothing is sent to them."""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """What the server was told of https."""

    host: str
    port: int = 0
    """0: a free one."""
    certificate: Path | None = None
    """PEM, followed by those that lead to its root; None: the server makes its own."""
    key: Path | None = None
    """PEM; None: it stands in the file of the certificate."""
    ca: Path | None = None
    """PEM of what clients need to trust the certificate, if not what their systems trust."""
    names: tuple[str, ...] = ()
    """What else clients call the server, for a certificate of its own."""


@dataclass(frozen=True, slots=True)
class Secure:
    """The listener with TLS."""

    listener: socket.socket
    certificates: Certificates
    url: str
    """By which address clients call it."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; errors: StartRefused."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StartRefused(f"cannot listen on {host}:{port}: {reason}") from None


def refuse_open_network(host: str) -> None:
    """Refuse an address that others can reach: tokens would cross the network readably."""
    if not is_loopback(host):
        raise StartRefused(
            f"cannot listen on {host}: without TLS only on a loopback address, since tokens would"
            f" cross the network readably (use --listen-tls {host}:PORT, or --allow-plain-http)"
        )


def local_url(listener: socket.socket) -> str:
    """Return by which address this machine calls a plain listener."""
    host, port = listener.getsockname()[:2]
    if is_every(host):
        host = "::1" if ":" in host else "127.0.0.1"
    return url_of("http", host, port)


def outer_url(scheme: str, host: str, listener: socket.socket) -> str:
    """Return by which address others call a listener that was to listen on `host`."""
    return url_of(scheme, _machine_name() if is_every(host) else host, listener.getsockname()[1])


def open_certificates(options: TlsOptions, directory: Path, external_url: str) -> Certificates:
    """Return the certificates that were given, or the server's own; errors: StartRefused.

    `directory` is where its own are kept, `external_url` how clients call the server ("": as it
    listens).
    """
    # Not above: a server without TLS need not load what makes certificates.
    from jobtasks.api.certificates import GivenCertificates, OwnCertificates

    try:
        if options.certificate:
            return GivenCertificates(
                options.certificate, options.key or options.certificate, options.ca
            )
        return OwnCertificates(directory, lambda: names_of(options, external_url))
    except ValueError as error:
        raise StartRefused(f"cannot serve https: {error}") from None
    except OSError as error:
        where = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise StartRefused(f"cannot serve https: {where}") from None


def names_of(options: TlsOptions, external_url: str) -> Sequence[str]:
    """Return all that clients may call the server, what they should first."""
    names = [host_of(external_url), *options.names]
    if not is_every(options.host):
        names.append(options.host)
    if not is_loopback(options.host):
        names += [_machine_name(), *_machine_addresses(options.host)]
    return list(dict.fromkeys(map(plain_name, filter(None, [*names, *LOOPBACKS]))))


def trust_of(external_url: str, certificates: Certificates | None) -> Trust:
    """Return what agents hand on to tasks."""
    host, authorities = netloc_of(external_url), certificates.authorities if certificates else ""
    digest = hashlib.sha256(f"{host}\n{authorities}".encode())
    return Trust(digest.hexdigest()[:16], host, authorities)


def _machine_name() -> str:
    """Return the machine's name, if it leads anywhere."""
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return "localhost"
    return name


def _machine_addresses(host: str) -> list[str]:
    """Return the addresses by which others may reach this machine when it listens on `host`."""
    if not is_every(host):
        with contextlib.suppress(OSError):
            return [str(found[4][0]) for found in socket.getaddrinfo(host, None)]
        return []
    return [address for family in FAR_AWAY if (address := _outgoing_address(family))]


def _outgoing_address(family: socket.AddressFamily) -> str:
    """Return which address of ours packets to others bear."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((FAR_AWAY[family], 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""
