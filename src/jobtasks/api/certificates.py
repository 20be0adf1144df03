"""What the server shows to clients that call it by https, and what they need to trust it.

Certificates change while the server runs: ours before they end and when the machine is called
otherwise, given ones whenever their files do. A connection gets those that hold when it begins.
"""

from __future__ import annotations

import logging
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from jobtasks.api import authority
from jobtasks.api.state_dir import write_private

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; those of TLS 1.3 are all good."""

logger = logging.getLogger(__name__)


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


class UnusableCertificate(ValueError):
    """A certificate, or its key, that the server cannot show; the message names the file."""


def server_context() -> ssl.SSLContext:
    """Return a context as every listener has it, still without a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


class Certificates(ABC):
    """A certificate that may be replaced at any time.

    `context` is what listeners are given, once; `authorities` is, as PEM, what clients need beside
    what the world trusts: "" for a certificate of a public authority.
    """

    authorities = ""

    def __init__(self) -> None:
        self.context = server_context()
        # Not loaded into the context itself: one for another kind of key would stay beside it.
        self.context.sni_callback = self._choose
        self._current = self._read()

    def look(self) -> bool:
        """Take what has changed; return whether anything has. What cannot be used is logged, and
        what there was goes on.
        """
        try:
            if not self._is_stale():
                return False
            self._current = self._read()
        except (UnusableCertificate, OSError) as error:
            logger.error("the certificate cannot be renewed: %s", error)
            return False
        logger.info("another certificate is shown from now on")
        return True

    @abstractmethod
    def _is_stale(self) -> bool:
        """Return whether `_read` would find something else."""

    @abstractmethod
    def _read(self) -> ssl.SSLContext:
        """Return a context with the certificate; errors: UnusableCertificate, OSError."""

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current


class GivenCertificates(Certificates):
    """A certificate from files that somebody else keeps up to date.

    `ca` names what clients need to trust it. Without it that is what `certificate` holds of
    certificates that issued themselves, be it the whole of a self-signed one.
    """

    def __init__(self, certificate: Path, key: Path, ca: Path | None) -> None:
        self._certificate, self._key, self._ca = certificate, key, ca
        super().__init__()

    def _is_stale(self) -> bool:
        return self._stamps() != self._seen

    def _stamps(self) -> list[tuple[int, int, int]]:
        paths = [self._certificate, self._key, *([self._ca] if self._ca else [])]
        return [(s.st_ino, s.st_mtime_ns, s.st_size) for s in (path.stat() for path in paths)]

    def _read(self) -> ssl.SSLContext:
        seen = self._stamps()
        # What cannot be read now is not read again until it changes.
        self._seen = seen
        context = loaded(self._certificate, self._key)
        chain = certificates_in(self._certificate)
        if self._ca:
            roots = certificates_in(self._ca)
        else:
            roots = [one for one in chain if authority.is_own_issuer(one)]
        if chain[0].not_valid_after_utc < utc_now():
            logger.warning("the certificate in %s has expired", self._certificate)
        self.authorities = authority.certificate_pem(roots)
        return context


class OwnCertificates(Certificates):
    """A certificate of an authority of the server's own, both kept in a private directory.

    The authority stays, so that whoever trusts it need not be asked again. `names` tells what the
    server is called now; each name is in the certificate.
    """

    def __init__(
        self,
        directory: Path,
        names: Callable[[], Sequence[str]],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._directory, self._names, self._clock = directory, names, clock
        directory.mkdir(mode=0o700, exist_ok=True)
        super().__init__()

    def _is_stale(self) -> bool:
        now = self._clock()
        return (
            authority.is_due(self._authority.certificate, now, authority.AUTHORITY_RENEW_DAYS)
            or authority.is_due(self._shown, now, authority.SERVER_RENEW_DAYS)
            or authority.names_of(self._shown) != set(self._names())
        )

    def _read(self) -> ssl.SSLContext:
        now = self._clock()
        self._authority = self._own_authority(now)
        self._shown = self._own_certificate(now)
        self.authorities = authority.certificate_pem([self._authority.certificate])
        return loaded(self._directory / "server.pem")

    def _own_authority(self, now: datetime) -> authority.Pair:
        path, key_path = self._directory / "ca.pem", self._directory / "ca.key"
        if not key_path.exists():
            write_private(key_path, authority.key_pem(authority.new_key()))
        try:
            key = authority.read_key(key_path.read_bytes())
        except ValueError as error:
            raise UnusableCertificate(f"{key_path}: {error}") from None
        if path.exists():
            kept = authority.Pair(certificates_in(path)[0], key)
            if kept.certificate.public_key() == key.public_key() and not authority.is_due(
                kept.certificate, now, authority.AUTHORITY_RENEW_DAYS
            ):
                return kept
        made = authority.make_authority(key, f"JobTasks on {socket.gethostname()}"[:64], now)
        write_private(path, authority.certificate_pem([made.certificate]))
        return made

    def _own_certificate(self, now: datetime) -> x509.Certificate:
        """Return the server's certificate; key and certificate share a file, so that no crash
        leaves one without the other.
        """
        path, names = self._directory / "server.pem", self._names()
        if path.exists():
            kept = certificates_in(path)[0]
            is_good = authority.is_of(self._authority.certificate, kept)
            is_good &= authority.names_of(kept) == set(names)
            if is_good and not authority.is_due(kept, now, authority.SERVER_RENEW_DAYS):
                return kept
        made = authority.certify(self._authority, names, now)
        pem = authority.certificate_pem([made.certificate]) + authority.key_pem(made.key)
        write_private(path, pem)
        return made.certificate


def loaded(certificate: Path, key: Path | None = None) -> ssl.SSLContext:
    """Return a context with a certificate from files; errors: UnusableCertificate, OSError."""
    context = server_context()
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        where = f"{certificate} and {key}" if key else str(certificate)
        reason = (error.reason or str(error)).lower().replace("_", " ")
        raise UnusableCertificate(f"{where}: {reason}") from None
    return context


def _no_password() -> str:
    raise UnusableCertificate("the key is encrypted: the server has nobody to ask for a password")


def certificates_in(path: Path) -> list[x509.Certificate]:
    """Return the certificates in a PEM file, at least one.

    Errors: UnusableCertificate, OSError.
    """
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        raise UnusableCertificate(f"{path}: no certificate in it") from None
