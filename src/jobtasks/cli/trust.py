"""Whom the command line believes to be the server, when it is called by https."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from jobtasks.cli.problems import Problem
from jobtasks.cli.state import Address

CA_VARIABLE = "JOBTASKS_CA_FILE"
NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"
"""Stands in the error when a server is not believed: to repeat the call would change nothing."""


def context_of(address: Address) -> ssl.SSLContext:
    """Return what a server's certificate is judged by.

    That is what the system trusts (with SSL_CERT_FILE in its place, if set), what JOBTASKS_CA_FILE
    holds, and the authority of the state directory. For an http address nothing is loaded, and no
    certificate would be accepted. Errors: Problem for a file that cannot be used.
    """
    if not address.url.startswith("https:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = ssl.create_default_context()
    named = os.environ.get(CA_VARIABLE)
    files = [*([Path(named)] if named else []), *([address.ca_file] if address.ca_file else [])]
    for path in files:
        try:
            context.load_verify_locations(path)
        except OSError as error:
            # ssl.SSLError, too: there is no certificate in it.
            reason = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
            raise Problem(f"cannot use {path}: {reason}", "it is to hold PEM") from None
    return context


def distrust(url: str) -> Problem:
    """Return what to say when a server's certificate is not accepted."""
    return Problem(
        f"the server at {url} is not trusted: its certificate is of an unknown authority, for other"
        " names, or not valid now",
        f"{CA_VARIABLE}=FILE names its authority: `tls/ca.pem` of the server's state directory",
    )
