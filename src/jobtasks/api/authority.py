"""Making certificates: an authority of the server's own, and what it certifies.

Pure but for the randomness of keys: times come in, PEM goes out. Keys are EC P-256, which every
TLS library of the last ten years knows, and which costs the server a tenth of what RSA does.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
"""Life of the authority's certificate."""
AUTHORITY_RENEW_DAYS = 365
"""With less life left it gets another certificate, for the same key and name: whoever trusts the
old one trusts what the new one certifies as long as the old one lasts."""
SERVER_DAYS = 90
"""Life of a server's certificate."""
SERVER_RENEW_DAYS = 30
"""With less life left another one is made."""
SLOW_CLOCK = timedelta(days=1)
"""Certificates are valid from so long ago on: a client's clock may be behind."""


class Pair(NamedTuple):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new key."""
    return ec.generate_private_key(ec.SECP256R1())


def make_authority(key: ec.EllipticCurvePrivateKey, name: str, now: datetime) -> Pair:
    """Return an authority that certifies servers and no further authorities.

    `name` is what people see in a list of authorities.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _begin(subject, subject, key, now, AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(is_authority=True), critical=True)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def certify(authority: Pair, names: Sequence[str], now: datetime) -> Pair:
    """Return a certificate, with a key of its own, of a server that is called by these names.

    A name is a host name or an IP address; the first one is the subject's common name too.
    """
    key, issuer = new_key(), authority.certificate
    # A common name has at most 64 letters; clients go by the alternative names.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    builder = _begin(subject, issuer.subject, key, now, SERVER_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(is_authority=False), critical=True)
    builder = builder.add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
    )
    builder = builder.add_extension(
        x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
    )
    of_issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = builder.add_extension(of_issuer, critical=False)
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def is_due(certificate: x509.Certificate, now: datetime, days: int) -> bool:
    """Return whether less than so many days of life are left, or the life has not begun."""
    left = certificate.not_valid_after_utc - now
    return left < timedelta(days=days) or now < certificate.not_valid_before_utc


def names_of(certificate: x509.Certificate) -> set[str]:
    """Return the host names and IP addresses that a certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    return {str(general.value) for general in found.value}


def is_of(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Return whether the authority made the certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def is_own_issuer(certificate: x509.Certificate) -> bool:
    """Return whether a certificate is trusted by itself or not at all: a root, or self-signed."""
    return certificate.issuer == certificate.subject


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """Return a key as text, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode("ascii")


def certificate_pem(certificates: Iterable[x509.Certificate]) -> str:
    """Return certificates as text, one after the other."""
    return "".join(
        certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
        for certificate in certificates
    )


def read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the key in a text; errors: ValueError for one that is none of ours."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (TypeError, ValueError) as error:
        raise ValueError(f"no key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not a key that was made here")
    return key


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLOW_CLOCK)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
