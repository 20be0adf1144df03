"""Addresses of the server: how they are written, and which of them others can reach."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443}
"""What an address without a port means."""


def url_of(scheme: str, host: str, port: int) -> str:
    """Return ``scheme://host:port``; an IPv6 host gets its brackets."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def base_url(text: str) -> str:
    """Return ``http(s)://HOST[:PORT]`` without a slash at its end.

    Without a path, since clients of Arvados are told a host and a port only.
    Errors: ValueError for anything else.
    """
    parts = urlsplit(text)
    is_bare = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
    if parts.scheme not in PORTS or not parts.hostname or not is_bare or parts.port == 0:
        raise ValueError(f"not an address of a server: {text!r} (https://HOST:PORT)")
    return f"{parts.scheme}://{parts.netloc}"


def netloc_of(url: str) -> str:
    """Return ``HOST[:PORT]`` of an address, as it stands there."""
    return urlsplit(url).netloc


def host_of(url: str) -> str:
    """Return the host that an address names, an IPv6 one without brackets."""
    return urlsplit(url).hostname or ""


def plain_name(host: str) -> str:
    """Return the one spelling of a host name or an IP address."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_every(host: str) -> bool:
    """Return whether the host stands for every address of the machine: nobody can call it so."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
