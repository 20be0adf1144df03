"""Certificates of the server: its own authority, given files, and how both are renewed."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from jobtasks.api import authority
from jobtasks.api.certificates import (
    Certificates,
    GivenCertificates,
    OwnCertificates,
    UnusableCertificate,
)
from jobtasks.api.listeners import TlsOptions, names_of, trust_of

NOW = datetime.now(UTC)


class Clock:
    """A time that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def shown(certificates: Certificates, trusted: str, name: str) -> x509.Certificate:
    """Shake hands as a client that trusts `trusted` and calls `name`; return what it was shown."""
    client = ssl.create_default_context(cadata=trusted)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ways = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(ways[0], ways[1], server_hostname=name)
    far = certificates.context.wrap_bio(ways[1], ways[0], server_side=True)
    left = [near, far]
    for _ in range(10):
        for side in list(left):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            left.remove(side)
    assert not left
    der = near.getpeercert(binary_form=True)
    assert der
    return x509.load_der_x509_certificate(der)


def own(tmp_path: Path, clock: Clock, *names: str) -> OwnCertificates:
    return OwnCertificates(tmp_path / "tls", lambda: names or ("node1", "127.0.0.1"), clock)


def given(tmp_path: Path, *names: str, now: datetime = NOW) -> tuple[Path, Path, str]:
    """Write a certificate of somebody else's authority; return the files and the authority."""
    root = authority.make_authority(authority.new_key(), "theirs", NOW)
    pair = authority.certify(root, names or ["node1"], now)
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_text(authority.certificate_pem([pair.certificate]))
    key.write_text(authority.key_pem(pair.key))
    return certificate, key, authority.certificate_pem([root.certificate])


def test_an_authority_of_its_own_is_made_once(tmp_path: Path) -> None:
    """Keys are private; clients that trust the authority accept every name; a restart changes
    nothing.
    """
    made = own(tmp_path, Clock(), "node1", "127.0.0.1", "::1")
    for name in ("node1", "127.0.0.1", "::1"):
        shown(made, made.authorities, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        shown(made, made.authorities, "node2")
    for name in ("ca.key", "server.pem"):
        assert (tmp_path / "tls" / name).stat().st_mode & 0o777 == 0o600
    again = own(tmp_path, Clock(), "node1", "127.0.0.1", "::1")
    assert shown(again, made.authorities, "node1") == shown(made, made.authorities, "node1")
    assert not again.look()


def test_its_own_certificate_is_renewed_before_it_ends(tmp_path: Path) -> None:
    """With a month left another is made, of the same authority, while the server runs."""
    clock = Clock()
    clock.now -= timedelta(days=61)
    made = own(tmp_path, clock)
    first = shown(made, made.authorities, "node1")
    clock.now += timedelta(days=59)
    assert not made.look()
    clock.now += timedelta(days=2)
    trusted = made.authorities
    assert made.look()
    assert made.authorities == trusted
    second = shown(made, trusted, "node1")
    assert second.not_valid_after_utc - NOW > timedelta(days=60)
    assert first.public_key() != second.public_key()


def test_new_names_make_a_new_certificate(tmp_path: Path) -> None:
    """When the machine is called otherwise, clients that trust the authority go on."""
    names = ["node1"]
    made = OwnCertificates(tmp_path / "tls", lambda: names)
    names.append("jobs.example.org")
    assert made.look()
    shown(made, made.authorities, "jobs.example.org")
    assert not made.look()


def test_the_authority_lives_on_under_its_key(tmp_path: Path) -> None:
    """Before its certificate ends it gets another; who trusts the old one is served as well."""
    clock = Clock()
    old = own(tmp_path, clock).authorities
    clock.now += timedelta(days=10 * 365 - 300)
    later = own(tmp_path, clock)
    assert later.authorities != old
    roots = [x509.load_pem_x509_certificate(pem.encode()) for pem in (old, later.authorities)]
    assert roots[0].public_key() == roots[1].public_key()
    served = x509.load_pem_x509_certificate((tmp_path / "tls" / "server.pem").read_bytes())
    assert all(authority.is_of(root, served) for root in roots)


def test_given_certificates_are_read_again_when_they_change(tmp_path: Path) -> None:
    """Certificate and key are replaced while the server runs."""
    certificate, key, trusted = given(tmp_path)
    certificates = GivenCertificates(certificate, key, None)
    assert certificates.authorities == ""
    first = shown(certificates, trusted, "node1")
    assert not certificates.look()
    *_, trusted = given(tmp_path)
    assert certificates.look()
    assert shown(certificates, trusted, "node1") != first


def test_a_broken_renewal_leaves_what_there_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A key that does not belong to the certificate, a file that is gone, half a file."""
    certificate, key, trusted = given(tmp_path)
    certificates = GivenCertificates(certificate, key, None)
    good = key.read_text()
    for damage in (authority.key_pem(authority.new_key()), "", good[:100]):
        key.write_text(damage)
        assert not certificates.look()
        shown(certificates, trusted, "node1")
    key.unlink()
    assert not certificates.look()
    assert caplog.text.count("cannot be renewed") == 4
    key.write_text(good)
    assert certificates.look()


def test_what_clients_need_goes_with_the_certificate(tmp_path: Path) -> None:
    """The file that was named; else what stands in the certificate's file and issued itself."""
    certificate, key, root = given(tmp_path)
    (tmp_path / "ca.pem").write_text(root)
    assert GivenCertificates(certificate, key, tmp_path / "ca.pem").authorities == root
    certificate.write_text(certificate.read_text() + root)
    assert GivenCertificates(certificate, key, None).authorities == root


def test_certificates_that_cannot_be_shown_are_refused(tmp_path: Path) -> None:
    """The message names the file and what is wrong with it."""
    certificate, key, _ = given(tmp_path)
    secret = serialization.load_pem_private_key(key.read_bytes(), None)
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(UnusableCertificate, match="encrypted"):
        GivenCertificates(certificate, encrypted, None)
    key.write_text(authority.key_pem(authority.new_key()))
    with pytest.raises(UnusableCertificate, match=r"cert\.pem and .*key\.pem: key values mismatch"):
        GivenCertificates(certificate, key, None)
    certificate.write_text("")
    with pytest.raises(UnusableCertificate, match=r"cert\.pem"):
        GivenCertificates(certificate, key, None)


def test_an_expired_certificate_is_shown_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients refuse it; the server's log says why."""
    certificate, key, trusted = given(tmp_path, now=NOW - timedelta(days=200))
    certificates = GivenCertificates(certificate, key, None)
    assert "has expired" in caplog.text
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shown(certificates, trusted, "node1")


def test_names_are_those_that_clients_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The external address first; a loopback listener brings no name of the machine."""
    loopback = TlsOptions("127.0.0.1", 0, names=("Jobs.Example.org",))
    assert names_of(loopback, "https://jobs.example.com:7443") == [
        "jobs.example.com",
        "jobs.example.org",
        "127.0.0.1",
        "localhost",
        "::1",
    ]
    monkeypatch.setattr("socket.gethostname", lambda: "localhost")
    assert "0.0.0.0" not in names_of(TlsOptions("0.0.0.0", 0), "")


def test_what_agents_are_told_changes_its_mark(tmp_path: Path) -> None:
    """With the address and with the authority; not otherwise."""
    certificates = own(tmp_path, Clock())
    first = trust_of("https://node1:7443", certificates)
    assert (first.api_host, first.authorities) == ("node1:7443", certificates.authorities)
    assert trust_of("https://node1:7443", certificates) == first
    others = (trust_of("https://node2:7443", certificates), trust_of("https://node1:7443", None))
    assert len({first.mark, *(other.mark for other in others)}) == 3
