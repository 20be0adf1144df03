"""https beside plain http: a real server process, and clients of several kinds."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import httpx
import pytest

from jobtasks.api import authority

from .conftest import Served, Start, environment, wait_until

TLS = ("--listen-tls", "127.0.0.1:0")
QUICK_LIMITS = ("--setting", "head_seconds=0.3", "--setting", "head_bytes_max=4096")


def secure_url(served: Served) -> str:
    """Return the https address of a server."""
    assert served.url
    return (served.state / "url.https").read_text().strip()


def ca_of(served: Served) -> Path:
    return served.state / "tls" / "ca.pem"


def trusting(served: Served) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_of(served))


def dialled(served: Served) -> ssl.SSLSocket:
    """Return a connection to the https address, to be closed."""
    parts = urlsplit(secure_url(served))
    assert parts.hostname and parts.port
    plain = socket.create_connection((parts.hostname, parts.port), timeout=20)
    return trusting(served).wrap_socket(plain, server_hostname=parts.hostname)


def test_https_is_served_beside_plain_http(start: Start) -> None:
    """`ready` names the plain address; both lead to the same server, by each of its names."""
    served = start("--no-agent", *TLS)
    url = secure_url(served)
    with served.http() as http:
        uuid = http.post("/jobs", json={"command": ["true"]}).json()["uuid"]
        token = http.headers["Authorization"]
    for name in ("127.0.0.1", "localhost"):
        own = url.replace("127.0.0.1", name)
        with httpx.Client(verify=trusting(served), trust_env=False) as client:
            answer = client.get(f"{own}/arvados/v1/jobs", headers={"Authorization": token})
        assert [job["uuid"] for job in answer.json()["items"]] == [uuid]
    code, _, errors = served.end()
    assert (code, "Traceback" in errors) == (0, False)
    assert not (served.state / "url.https").exists()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_trusts_the_authority(start: Start) -> None:
    """What people try first."""
    served = start("--no-agent", *TLS)
    url = f"{secure_url(served)}/healthz"
    said = subprocess.run(
        ["curl", "--silent", "--show-error", "--cacert", ca_of(served), url],
        capture_output=True,
        check=True,
        env=environment(),
    )
    assert said.stdout == b'{"health":"OK"}'


def test_strangers_to_tls_do_no_harm(start: Start) -> None:
    """Old versions, plain http, noise and unknown authorities are turned away; others go on."""
    served = start("--no-agent", *TLS)
    parts = urlsplit(secure_url(served))
    assert parts.hostname and parts.port
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    for context in (old, ssl.create_default_context()):
        with socket.create_connection((parts.hostname, parts.port), timeout=20) as plain:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(plain, server_hostname=parts.hostname)
    for noise in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 1000):
        with socket.create_connection((parts.hostname, parts.port), timeout=20) as plain:
            plain.sendall(noise)
            assert b"HTTP" not in plain.recv(1000)
    with urlopen(f"{secure_url(served)}/healthz", context=trusting(served)) as answer:
        assert answer.status == 200
    assert "Traceback" not in served.end()[2]


@pytest.mark.rule("R40")
def test_limits_of_a_connection_hold_over_tls(start: Start) -> None:
    """A head that is too large is refused, one that does not come is cut off, as over http."""
    served = start("--no-agent", *TLS, *QUICK_LIMITS)
    with dialled(served) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 5000 + b"\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 431 ")
    with dialled(served) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
    with dialled(served) as connection:
        assert connection.recv(100) == b""
    parts = urlsplit(secure_url(served))
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as silent:
        assert silent.recv(100) == b""


def test_an_idle_client_does_not_hold_up_the_end(start: Start) -> None:
    """TLS would wait for its farewell: nobody is cut off by force, and there is no error."""
    served = start("--no-agent", *TLS)
    with dialled(served) as idle, dialled(served) as used:
        used.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert used.recv(100).startswith(b"HTTP/1.1 200 ")
        code, _, errors = served.end()
        assert (code, "graceful shutdown exceeded" in errors) == (0, False), errors
        assert idle.recv(1) == b""


def test_large_answers_come_whole_over_tls(start: Start, tmp_path: Path) -> None:
    """A client that takes its time gets every byte, and then the connection stays."""
    served = start("--slots", "1", *TLS)
    with served.api() as api:
        job = api.post("/jobs", {"command": ["seq", "1000000"]})["uuid"]
        api.final(job)
        task = api.tasks(job)[0]["uuid"]
        log = f"/job_tasks/{task}/log"
        wait_until("its log", lambda: api.http.get(log).text.endswith("\n1000000\n"))
        token = api.http.headers["Authorization"]
    with dialled(served) as connection, connection.makefile("rb") as reader:
        head = f"GET /arvados/v1{log} HTTP/1.1\r\nHost: x\r\n"
        for _ in range(2):
            connection.sendall(f"{head}Authorization: {token}\r\n\r\n".encode())
            fields = dict(
                line.rstrip().lower().split(b": ", 1)
                for line in iter(reader.readline, b"\r\n")
                if b": " in line
            )
            body = reader.read(int(fields[b"content-length"]))
            assert body.split() == [str(n).encode() for n in range(1, 1_000_001)]


def test_given_certificates_are_taken_anew_at_hup(start: Start, tmp_path: Path) -> None:
    """The next connection is shown the new one; the old connection goes on."""
    files = make_certificate(tmp_path)
    served = start("--no-agent", *TLS, *files)
    parts = urlsplit(secure_url(served))
    assert parts.hostname and parts.port
    address = (parts.hostname, parts.port)

    first = ssl.get_server_certificate(address)
    context = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    with httpx.Client(verify=context, trust_env=False, base_url=secure_url(served)) as kept:
        assert kept.get("/healthz").status_code == 200
        make_certificate(tmp_path)
        served.process.send_signal(1)
        wait_until("another one", lambda: ssl.get_server_certificate(address) != first)
        assert kept.get("/healthz").status_code == 200
    assert served.end()[0] == 0


def make_certificate(folder: Path) -> tuple[str, ...]:
    """Write a certificate with its authority, as administrators do; return the options for it."""
    now = datetime.now(UTC)
    root = authority.make_authority(authority.new_key(), "an institute's", now)
    made = authority.certify(root, ["127.0.0.1"], now)
    chain = authority.certificate_pem([made.certificate, root.certificate])
    (folder / "cert.pem").write_text(chain)
    (folder / "key.pem").write_text(authority.key_pem(made.key))
    return ("--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem"))


def refused(served: Served) -> str:
    """Check that it did not start, and return its one line."""
    out, err = served.rest()
    assert served.process.returncode == 125, err
    assert (served.first_line, out, len(err.splitlines())) == ("", "", 1), err
    return err


def test_certificates_that_cannot_be_used_are_refused(start: Start, tmp_path: Path) -> None:
    """125 and one line that names the file."""
    (tmp_path / "empty.pem").write_text("")
    given = ("--tls-cert", str(tmp_path / "empty.pem"))
    assert "empty.pem" in refused(start("--no-agent", *TLS, *given))
    (tmp_path / "state" / "tls" / "ca.key").write_text("damaged")
    assert "ca.key" in refused(start("--no-agent", *TLS))


def test_an_open_network_is_served_when_asked_for(start: Start) -> None:
    """The refusal names both ways out; https alone needs neither."""
    line = refused(start("--no-agent", listen="0.0.0.0:0"))
    assert "--listen-tls 0.0.0.0:PORT" in line
    assert "--allow-plain-http" in line
    served = start("--no-agent", "--allow-plain-http", listen="0.0.0.0:0")
    assert httpx.get(f"{served.url}/healthz").status_code == 200
    served.end()
    served = start("--no-agent", "--listen-tls", "0.0.0.0:0")
    port = urlsplit(secure_url(served)).port
    with urlopen(f"https://localhost:{port}/healthz", context=trusting(served)) as answer:
        assert answer.status == 200


@pytest.mark.rule("R38", "R41")
def test_an_arvados_client_needs_no_arguments_in_a_task(start: Start, tmp_path: Path) -> None:
    """Address, token and trust are in the environment; Python's own ssl finds the latter, too."""
    script = tmp_path / "task.py"
    script.write_text(TASK)
    # The client keeps what a server said of itself below HOME, by the server's address.
    served = start("--slots", "1", *TLS, environ={"HOME": str(tmp_path)})
    with served.api() as api:
        job = api.post("/jobs", {"command": [sys.executable, str(script)]})
        seen = api.final(job["uuid"])
        assert seen["state"] == "Complete", api.tasks(job["uuid"])
        task = api.tasks(job["uuid"])[0]
    assert task["output"] == f"{task['uuid']} {secure_url(served).removeprefix('https://')}"


TASK = """
import os, urllib.request
import arvados

api = arvados.api("v1", num_retries=0)
mine = api.job_tasks().get(uuid=os.environ["TASK_UUID"]).execute()
host = os.environ["ARVADOS_API_HOST"]
urllib.request.urlopen(f"https://{host}/healthz")
# The world beside: certificates of public authorities are in the bundle.
count = open(os.environ["SSL_CERT_FILE"]).read().count("BEGIN CERTIFICATE")
assert count > 1 or not os.path.exists("/etc/ssl/certs/ca-certificates.crt")
api.job_tasks().update(
    uuid=mine["uuid"], body={"job_task": {"output": f"{mine['uuid']} {host}", "success": True}}
).execute()
"""


def test_an_agent_elsewhere_joins_by_https(start: Start, tmp_path: Path) -> None:
    """`jobtasks agent` with the authority's file: a job runs there, called by https throughout."""
    served = start("--no-agent", *TLS)
    command = [sys.executable, "-m", "jobtasks.cli.main", "agent", "--server", secure_url(served)]
    command += ["--ca-file", str(ca_of(served)), "--token-file", str(served.state / "agent.token")]
    command += ["--node-dir", str(tmp_path / "node"), "--slots", "1"]
    script = (
        "from jobtasks_sdk import current_task; import os;"
        " current_task().complete(os.environ['JOBTASKS_URL'])"
    )
    with (tmp_path / "agent.log").open("wb") as log:
        agent = subprocess.Popen(command, stderr=log, env=environment())
    try:
        with served.api() as api:
            job = api.post("/jobs", {"command": [sys.executable, "-c", script]})
            assert api.final(job["uuid"])["output"] == f"{secure_url(served)}\n"
    finally:
        agent.terminate()
        assert agent.wait(20) == 0, (tmp_path / "agent.log").read_text()
