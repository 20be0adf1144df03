"""The agent and a server that is called by https; what tasks are told to trust."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from jobtasks.agent.access import ARVADOS_BUNDLE, SYSTEM_BUNDLES, TaskAccess
from jobtasks.agent.channel import Connection, Server
from jobtasks.agent.environment import BUNDLE_VARIABLES
from jobtasks.agent.loop import Loop
from jobtasks.api import authority
from jobtasks.protocol.messages import Trust

from .conftest import FakeServer, Launch, wait_joined

NOW = datetime.now(UTC)


class Certified(NamedTuple):
    """An authority and a server's certificate from it, as files."""

    ca: Path
    server: Path

    def context(self) -> ssl.SSLContext:
        found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        found.load_cert_chain(self.server)
        return found


def certify(folder: Path, *names: str, days_ago: int = 0) -> Certified:
    """Make an authority and a certificate that it gave to a server so many days ago."""
    folder.mkdir()
    root = authority.make_authority(authority.new_key(), "the test's", NOW)
    pair = authority.certify(root, names or ["127.0.0.1"], NOW - timedelta(days=days_ago))
    made = Certified(folder / "ca.pem", folder / "server.pem")
    made.ca.write_text(authority.certificate_pem([root.certificate]))
    made.server.write_text(
        authority.certificate_pem([pair.certificate]) + authority.key_pem(pair.key)
    )
    return made


@pytest.fixture
def certified(tmp_path: Path) -> Certified:
    return certify(tmp_path / "good")


@pytest.fixture
def server(certified: Certified) -> Iterator[FakeServer]:
    """A server that is called by https; the agents of this module meet it."""
    fake = FakeServer(certified.context())
    yield fake
    fake.down()


def environment_of(server: FakeServer, attempt: int) -> dict[str, str]:
    """Run a task that shows its environment; return it."""
    server.start(attempt, "env")
    lines = server.text_of(attempt).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_an_agent_works_over_https(
    server: FakeServer, launch: Launch, certified: Certified
) -> None:
    """It joins, runs, pushes logs; tasks are told the address and a bundle to trust it by."""
    agent = launch("--ca-file", str(certified.ca))
    wait_joined(server, agent)
    found = environment_of(server, 1)
    assert found["JOBTASKS_URL"] == server.url
    assert found["ARVADOS_API_HOST"] == server.url.removeprefix("https://")
    bundle = found["SSL_CERT_FILE"]
    assert all(found[name] == bundle for name in BUNDLE_VARIABLES)
    assert certified.ca.read_text() in Path(bundle).read_text()
    # Two lines of syncs, one of logs, kept: TLS is agreed on three times, not for each call.
    server.wait(lambda: len(server.syncs) > 10, "more syncs")
    assert len(server._connections) <= 3
    assert agent.end() == 0


def test_an_agent_waits_for_a_server_that_it_can_trust(
    server: FakeServer, launch: Launch, tmp_path: Path, certified: Certified
) -> None:
    """It says what is wrong, sends nothing, and joins when the file has become right."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(certify(tmp_path / "other").ca.read_bytes())
    agent = launch("--ca-file", str(ca))
    server.wait(lambda: "certificate is not accepted: " in agent.said(), "the reason")
    assert not server.paths
    ca.unlink()
    ca.write_bytes(certified.ca.read_bytes())
    wait_joined(server, agent)


def test_an_unusable_ca_file_is_refused(launch: Launch, tmp_path: Path) -> None:
    """The agent ends at once with a line that names it."""
    (tmp_path / "empty.pem").write_text("")
    agent = launch("--ca-file", str(tmp_path / "empty.pem"))
    assert agent.wait() == 125
    assert "no certificates in" in agent.said()


class Line:
    """One connection of an agent, in a loop of the test's own, and what came of its calls."""

    def __init__(self, tmp_path: Path, port: int, ca: Path) -> None:
        (tmp_path / "token").write_text("t")
        self.loop = Loop()
        server = Server(f"https://127.0.0.1:{port}", tmp_path / "token", tmp_path / "none", ca)
        self.connection = Connection(self.loop, server)
        self.outcome: tuple[int, bytes] | str = ""

    def post(self, body: bytes = b"", seconds: float = 20.0) -> tuple[int, bytes] | str:
        """Call and wait; return status and body, or why there are none."""
        self.outcome = ""
        self.connection.post("/x", body, seconds, self._answered, self._failed)
        while not self.outcome:
            self.loop.turn()
        return self.outcome

    def _answered(self, status: int, body: bytes) -> None:
        self.outcome = (status, body)

    def _failed(self, reason: str) -> None:
        self.outcome = reason


Play = Callable[[socket.socket], None]


class Listener:
    """Accepts connections and plays a part on each, one after the other."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.accepted = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.accepted += 1
            with connection:
                try:
                    self._play(connection)
                except OSError:
                    continue

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


@pytest.fixture
def listening() -> Iterator[Callable[[Play], Listener]]:
    listeners: list[Listener] = []

    def listen(play: Play) -> Listener:
        listeners.append(Listener(play))
        return listeners[-1]

    yield listen
    for listener in listeners:
        listener.close()


Listening = Callable[[Play], Listener]


def echo(context: ssl.SSLContext, times: int = 1_000_000) -> Play:
    """Answer each request with its body, `times` times on a connection."""

    def play(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            reader = secured.makefile("rb")
            for _ in range(times):
                length = 0
                while (line := reader.readline()) not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                if not line:
                    return
                body = reader.read(length)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                secured.sendall(head.encode() + body)

    return play


def test_large_calls_pass_whole(tmp_path: Path, certified: Certified, listening: Listening) -> None:
    """What takes many records each way, on one connection."""
    listener = listening(echo(certified.context()))
    line = Line(tmp_path, listener.port, certified.ca)
    for size in (0, 1, 16 * 1024, 6_000_000):
        body = bytes(range(256)) * (size // 256) or b"x" * size
        assert line.post(body) == (200, body)
    assert listener.accepted == 1
    line.connection.close()


def test_a_kept_connection_that_was_closed_is_opened_anew(
    tmp_path: Path, certified: Certified, listening: Listening
) -> None:
    """As over plain http: a server that closes between two calls is called again."""
    listener = listening(echo(certified.context(), times=1))
    line = Line(tmp_path, listener.port, certified.ca)
    for _ in range(3):
        assert line.post(b"x") == (200, b"x")
    assert listener.accepted == 3
    line.connection.close()


@pytest.mark.parametrize(
    ("names", "days_ago", "reason"),
    [(["node2"], 0, "IP address mismatch"), (["127.0.0.1"], 200, "certificate has expired")],
)
def test_a_certificate_of_another_name_or_time_is_not_accepted(
    tmp_path: Path, listening: Listening, names: list[str], days_ago: int, reason: str
) -> None:
    """Its authority is trusted; that is not enough."""
    made = certify(tmp_path / "made", *names, days_ago=days_ago)
    line = Line(tmp_path, listening(echo(made.context())).port, made.ca)
    said = line.post()
    assert isinstance(said, str)
    assert said.startswith("the server's certificate is not accepted")
    assert reason in said


def test_a_server_that_does_not_shake_hands_fails_the_call(
    tmp_path: Path, certified: Certified, listening: Listening
) -> None:
    """One that is silent, one that hangs up, one that speaks plain http, one that is half gone."""
    over = threading.Event()

    def silent(connection: socket.socket) -> None:
        over.wait(20)

    def hang_up(connection: socket.socket) -> None:
        connection.recv(1)

    def plain(connection: socket.socket) -> None:
        connection.recv(10_000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.recv(10_000)

    def half(connection: socket.socket) -> None:
        with certified.context().wrap_socket(connection, server_side=True):
            over.wait(20)

    def said(play: Play, seconds: float) -> tuple[int, bytes] | str:
        line = Line(tmp_path, listening(play).port, certified.ca)
        return line.post(b"x", seconds)

    try:
        assert said(silent, 0.2) == "no answer in time"
        assert said(half, 0.5) == "no answer in time"
    finally:
        over.set()
    assert said(hang_up, 20) in (
        "the server ended the connection before TLS was agreed on",
        "Connection reset by peer",
    )
    assert "does not agree on TLS" in str(said(plain, 20))


def trust(certified: Certified, mark: str, host: str = "jobs.example.org:7443") -> Trust:
    return Trust(mark, host, certified.ca.read_text())


@pytest.mark.rule("R38")
def test_tasks_are_told_what_the_server_says(
    server: FakeServer, launch: Launch, certified: Certified, tmp_path: Path
) -> None:
    """From the first task on; a change of authority or address holds for the next."""
    server.trust = trust(certified, "one")
    agent = launch("--ca-file", str(certified.ca))
    wait_joined(server, agent)
    found = environment_of(server, 1)
    assert found["ARVADOS_API_HOST"] == "jobs.example.org:7443"
    assert found["JOBTASKS_URL"] == server.url
    other = certify(tmp_path / "other")
    server.trust = trust(other, "two", "other.example.org")
    server.tell()
    server.wait(lambda: server.syncs[-1].trust == "two", "that it was told")
    found = environment_of(server, 2)
    assert found["ARVADOS_API_HOST"] == "other.example.org"
    assert other.ca.read_text() in Path(found["SSL_CERT_FILE"]).read_text()


@pytest.mark.rule("R38")
def test_the_bundle_is_the_systems_and_more(tmp_path: Path, certified: Certified) -> None:
    """The rest of the world is trusted as before; what SSL_CERT_FILE names stands for it."""
    bundle, own = tmp_path / "bundle.pem", tmp_path / "own.pem"
    access = TaskAccess(bundle, None, {})
    assert "SSL_CERT_FILE" not in access.variables("http://127.0.0.1:7070")
    access.take(trust(certified, "one"))
    assert access.variables("http://127.0.0.1:7070")["SSL_CERT_FILE"] == str(bundle)
    for path in (*[path for path in SYSTEM_BUNDLES if Path(path).exists()][:1], ARVADOS_BUNDLE):
        assert not Path(path).exists() or Path(path).read_text() in bundle.read_text()

    own.write_text("an operator's\n")
    access = TaskAccess(bundle, None, {"SSL_CERT_FILE": str(own)})
    access.take(trust(certified, "one"))
    assert bundle.read_text().startswith("an operator's\n")
    own.write_text("another operator's\n")
    access.look()
    assert bundle.read_text().startswith("another operator's\n")
    assert certified.ca.read_text() in bundle.read_text()


def test_a_public_authority_needs_no_bundle(tmp_path: Path) -> None:
    """Tasks trust what their system does."""
    access = TaskAccess(tmp_path / "bundle.pem", None, {})
    access.take(Trust("one", "jobs.example.org", ""))
    assert access.variables("http://127.0.0.1:7070") == {
        "JOBTASKS_URL": "http://127.0.0.1:7070",
        "ARVADOS_API_HOST": "jobs.example.org",
    }


def test_a_bundle_that_cannot_be_written_is_tried_again(
    tmp_path: Path, certified: Certified
) -> None:
    """Tasks go without meanwhile."""
    bundle = tmp_path / "folder" / "bundle.pem"
    access = TaskAccess(bundle, None, {})
    access.take(trust(certified, "one"))
    assert "SSL_CERT_FILE" not in access.variables("http://127.0.0.1:7070")
    bundle.parent.mkdir()
    access.look()
    assert access.variables("http://127.0.0.1:7070")["SSL_CERT_FILE"] == str(bundle)
