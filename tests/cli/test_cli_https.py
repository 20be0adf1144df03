"""The command line and a server that is called by https."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobtasks.api import authority

from .conftest import Ended, WrittenServer

Jobtasks = Callable[..., Ended]


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """An authority's certificate; beside it that of a server, with its key."""
    now = datetime.now(UTC)
    root = authority.make_authority(authority.new_key(), "the test's", now)
    pair = authority.certify(root, ["127.0.0.1"], now)
    pem = authority.certificate_pem([pair.certificate]) + authority.key_pem(pair.key)
    (tmp_path / "server.pem").write_text(pem)
    (tmp_path / "ca.pem").write_text(authority.certificate_pem([root.certificate]))
    return tmp_path / "ca.pem"


@pytest.fixture
def secured(written: WrittenServer, ca: Path, monkeypatch: pytest.MonkeyPatch) -> WrittenServer:
    """A server that says what the test wrote, by https; the environment names it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca.with_name("server.pem"))
    http = written._http
    http.socket = context.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
    monkeypatch.setenv("JOBTASKS_URL", written.url.replace("http:", "https:"))
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "JOBTASKS_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    written.says("GET", "/jobs", (200, {"items": [], "items_available": 0}))
    # Who hangs up because of the certificate is no news for stderr.
    monkeypatch.setattr(http, "handle_error", lambda request, address: None)
    return written


@pytest.mark.parametrize("variable", ["JOBTASKS_CA_FILE", "SSL_CERT_FILE"])
def test_an_authority_is_named_in_the_environment(
    jobtasks: Jobtasks,
    secured: WrittenServer,
    ca: Path,
    variable: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By our name beside what the system trusts, by OpenSSL's in its place."""
    monkeypatch.setenv(variable, str(ca))
    assert jobtasks("job", "list").code == 0
    assert [call.token for call in secured.calls] == ["Bearer a-token"]


def test_the_authority_of_the_state_directory_is_trusted(
    jobtasks: Jobtasks, secured: WrittenServer, ca: Path, tmp_path: Path
) -> None:
    """On the server's own machine nothing needs to be named."""
    folder = tmp_path / "data" / "jobtasks" / "tls"
    folder.mkdir(parents=True)
    ca.rename(folder / "ca.pem")
    assert jobtasks("job", "list").code == 0


def test_a_server_that_is_not_trusted_is_told_nothing(
    jobtasks: Jobtasks, secured: WrittenServer
) -> None:
    """One line and a hint, at once even where the command would wait for a server; no token."""
    for words in (("job", "list"), ("wait", "zzzzz-8i9sb-000000000000000")):
        ended = jobtasks(*words)
        assert ended.code == 125
        assert "is not trusted" in ended.err
        assert "hint: JOBTASKS_CA_FILE=FILE" in ended.err
    assert not secured.calls


def test_an_authority_that_cannot_be_read_is_named(
    jobtasks: Jobtasks,
    secured: WrittenServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file that is not there, one without a certificate."""
    (tmp_path / "empty.pem").write_text("")
    for name, reason in (("none.pem", "No such file"), ("empty.pem", "no certificate in it")):
        monkeypatch.setenv("JOBTASKS_CA_FILE", str(tmp_path / name))
        ended = jobtasks("job", "list")
        assert ended.code == 125
        assert name in ended.err
        assert reason in ended.err
