"""The SDK and a server that is called by https."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import jobtasks_sdk
from jobtasks.api import authority


@pytest.fixture
def ca(in_a_task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The scripted server speaks TLS, and the task is told so; the file of its authority."""
    now = datetime.now(UTC)
    root = authority.make_authority(authority.new_key(), "the test's", now)
    pair = authority.certify(root, ["127.0.0.1"], now)
    pem = authority.certificate_pem([pair.certificate]) + authority.key_pem(pair.key)
    (tmp_path / "server.pem").write_text(pem)
    (tmp_path / "ca.pem").write_text(authority.certificate_pem([root.certificate]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    http = in_a_task._http
    http.socket = context.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
    # Who hangs up because of the certificate is no news for stderr.
    monkeypatch.setattr(http, "handle_error", lambda request, address: None)
    monkeypatch.setenv("JOBTASKS_URL", f"https://127.0.0.1:{in_a_task.port}")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


@pytest.mark.rule("R38")
def test_a_task_calls_by_https(in_a_task: Any, ca: Path) -> None:
    """With the bundle of its environment, on one kept connection."""
    for progress in (0.25, 0.5, 0.75):
        jobtasks_sdk.current_task().progress(progress)
    assert len({request.connection for request in in_a_task.requests}) == 1
    assert len(in_a_task.requests) == 3


def test_a_server_that_is_not_trusted_is_not_called_for_ever(
    in_a_task: Any, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute, then an error that says why; it never sees the token."""
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    with pytest.raises(jobtasks_sdk.ServerAway, match=r"CERTIFICATE_VERIFY_FAILED.* 60 s"):
        jobtasks_sdk.current_task().complete()
    assert not in_a_task.requests
