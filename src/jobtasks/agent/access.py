"""How tasks of this node reach the server: addresses, and whose certificates they trust (R38)."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from jobtasks.agent.environment import server_variables
from jobtasks.protocol.messages import Trust

logger = logging.getLogger(__name__)

SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where systems keep the authorities that all programs trust; the first that is there counts."""
ARVADOS_BUNDLE = "/etc/arvados/ca-certificates.crt"
"""What clients of Arvados trust without being told, unless SSL_CERT_FILE is set, as it is here."""

Stamp = tuple[str, int, int, int]
"""A file as it was: path, inode, time of the last change, size."""


class TaskAccess:
    """What the server said last, and the bundle that is made of it.

    The bundle is what the system trusts (what SSL_CERT_FILE of `environ` names, if it is set), what
    `ca_file` holds, by which the agent itself trusts the server, and what the server names. Without
    the last two there is none: tasks trust what their system does.
    """

    def __init__(self, bundle: Path, ca_file: Path | None, environ: Mapping[str, str]) -> None:
        self._bundle = bundle
        self._ca_file = ca_file
        self._environ = environ
        self._authorities = ""
        self._api_host = ""
        self._made_of: list[Stamp] | None = None
        """The files in the bundle; None: there is none, or it could not be written."""
        self._variables: dict[str, str] = {}
        self._url = ""
        self.mark = ""
        """`Trust.mark` of what the server said last."""
        if ca_file:
            self._write()

    def variables(self, url: str) -> dict[str, str]:
        """Return what a task is told, when the agent calls the server at `url`."""
        if self._url != url:
            self._url = url
            bundle = "" if self._made_of is None else str(self._bundle)
            self._variables = server_variables(url, self._api_host, bundle)
        return self._variables

    def take(self, trust: Trust) -> None:
        """Go by what the server says now."""
        self.mark = trust.mark
        self._api_host, self._authorities = trust.api_host, trust.authorities
        self._write()

    def look(self) -> None:
        """Make the bundle anew when a file that it is made of has changed."""
        if self._is_needed and self._stamps() != self._made_of:
            self._write()

    @property
    def _is_needed(self) -> bool:
        return bool(self._authorities or self._ca_file)

    def _sources(self) -> list[str]:
        own = self._environ.get("SSL_CERT_FILE", "")
        systems = [own] if Path(own).is_file() else SYSTEM_BUNDLES
        system = next((path for path in systems if Path(path).is_file()), None)
        paths = [system, ARVADOS_BUNDLE if Path(ARVADOS_BUNDLE).is_file() else None]
        return [path for path in (*paths, self._ca_file and str(self._ca_file)) if path]

    def _stamps(self) -> list[Stamp]:
        stamps = []
        for path in self._sources():
            with contextlib.suppress(OSError):
                seen = Path(path).stat()
                stamps.append((path, seen.st_ino, seen.st_mtime_ns, seen.st_size))
        return stamps

    def _write(self) -> None:
        """Write the bundle; readers find the old one or the new, never half."""
        self._url = ""
        self._made_of = None
        if not self._is_needed:
            return
        new = self._bundle.with_name(f".{self._bundle.name}.{os.getpid()}")
        try:
            stamps = self._stamps()
            parts = [Path(path).read_text(errors="replace") for path, *_ in stamps]
            new.write_text("\n".join([*parts, self._authorities]))
            new.rename(self._bundle)
        except OSError as error:
            logger.error("cannot write what tasks trust: %s", error)
            return
        self._made_of = stamps
